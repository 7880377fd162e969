//! Floor 4. One op alone, with buffers of its own: what benches time.

use crate::base::{
    Shape,
    aligned::Aligned,
    rng::{Key, Stream},
};
use crate::ops::case::Case;
use crate::ops::op::{Backward, Forward, MAX_INPUTS, Merge, Op, Pass, Phase, Spec};
use crate::simd::Isa;

/// A case's op with the buffers of its whole batch.
pub struct Alone<'c> {
    op: &'c dyn Op,
    spec: Spec,
    isa: Isa,
    n: usize,
    shapes: [Shape; MAX_INPUTS],
    x: Vec<Aligned>,
    y: Aligned,
    dy: Aligned,
    dx: Aligned,
    saved: Vec<Aligned>,
    scratch: Aligned,
    params: Aligned,
    dparams: Aligned,
    state: Aligned,
    shared: Aligned,
}

impl<'c> Alone<'c> {
    /// Allocates and fills the buffers of `case` for a batch of `n`, and packs the weights.
    ///
    /// # Panics
    /// If the op refuses the case's shapes.
    pub fn new(case: &'c Case, n: usize, isa: Isa) -> Alone<'c> {
        let given: Vec<Shape> = case.inputs.iter().map(|input| input.shape).collect();
        let spec = case.op.spec(&given).expect("a case's shapes are valid");
        let mut shapes = [Shape::new(0, 0); MAX_INPUTS];
        shapes[..given.len()].copy_from_slice(&given);
        let noise = |len: usize, tag: u64| {
            let key = Key::new(1, Stream::Case).with(tag);
            let mut all = Aligned::zeros(len);
            all.iter_mut().enumerate().for_each(|(i, v)| *v = key.uniform(i as u64) as f32 - 0.5);
            all
        };
        let params = noise(spec.params_len(), 1);
        let mut shared = Aligned::zeros(spec.shared);
        case.op.prepare(isa, &given, &params, &Aligned::zeros(spec.state_len()), &mut shared);
        Alone {
            op: &*case.op,
            isa,
            n,
            x: given.iter().enumerate().map(|(i, x)| noise(n * x.size(), 2 + i as u64)).collect(),
            y: Aligned::zeros(n * spec.y.size()),
            dy: noise(n * spec.y.size(), 9),
            dx: Aligned::zeros(n * given[0].size()),
            saved: (0..n).map(|_| Aligned::zeros(spec.saved)).collect(),
            scratch: Aligned::zeros(spec.scratch),
            dparams: Aligned::zeros(params.len()),
            params,
            state: Aligned::zeros(spec.state_len()),
            shared,
            shapes,
            spec,
        }
    }

    /// What the op needs.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The forward pass over the batch.
    pub fn forward(&mut self) {
        for (phase, kind) in self.spec.forward.iter().enumerate() {
            if *kind == Phase::Merge {
                self.merge(Pass::Forward);
                continue;
            }
            for sample in 0..self.n {
                let mut x: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
                for (k, given) in self.x.iter().enumerate() {
                    x[k] = of(given, self.shapes[k], sample);
                }
                let size = self.spec.y.size();
                let mut b = Forward {
                    shapes: self.shapes,
                    sample,
                    draw: Key::new(1, Stream::Dropout),
                    x,
                    y: &mut self.y[sample * size..][..size],
                    from: 0,
                    saved: &mut self.saved[sample],
                    scratch: &mut self.scratch,
                    params: &self.params,
                    state: &self.state,
                    shared: &self.shared,
                };
                self.op.forward(self.isa, phase, &mut b);
            }
        }
    }

    /// The backward pass over the batch: the gradients of the first input (`data`), of the parameters (`weights`), or both.
    pub fn backward(&mut self, data: bool, weights: bool) {
        for (phase, kind) in self.spec.backward.iter().enumerate() {
            if *kind == Phase::Merge {
                self.merge(Pass::Backward);
                continue;
            }
            for sample in 0..self.n {
                let mut x: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
                for (k, given) in self.x.iter().enumerate().filter(|_| self.spec.reads_x) {
                    x[k] = of(given, self.shapes[k], sample);
                }
                let dx = if data { self.shapes[0].size() } else { 0 };
                let mut b = Backward {
                    shapes: self.shapes,
                    sample,
                    draw: Key::new(1, Stream::Dropout),
                    x,
                    y: if self.spec.reads_y { of(&self.y, self.spec.y, sample) } else { &[] },
                    dy: of(&self.dy, self.spec.y, sample),
                    dx: [&mut self.dx[sample * dx..][..dx], &mut []],
                    dparams: if weights { &mut self.dparams } else { &mut [] },
                    saved: &mut self.saved[sample],
                    scratch: &mut self.scratch,
                    params: &self.params,
                    shared: &self.shared,
                };
                self.op.backward(self.isa, phase, &mut b);
            }
        }
    }

    fn merge(&mut self, pass: Pass) {
        let saved = &self.saved;
        self.op.merge(&mut Merge {
            pass,
            shapes: self.shapes,
            n: self.n,
            saved: &|sample| &saved[sample][..],
            params: &self.params,
            dparams: if pass == Pass::Backward { &mut self.dparams } else { &mut [] },
            state: &mut self.state,
            shared: &mut self.shared,
        });
    }
}

fn of(all: &[f32], shape: Shape, sample: usize) -> &[f32] {
    &all[sample * shape.size()..][..shape.size()]
}
