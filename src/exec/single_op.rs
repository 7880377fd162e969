//! One operation with its own buffers, for measurements and for comparison with its reference.

use crate::base::{
    Shape,
    aligned::Aligned,
    rng::{Key, Stream},
};
use crate::ops::case::{Fill, Input};
use crate::ops::op::{
    Backward, BatchGradient, Forward, MAX_INPUTS, Merge, Op, Pass, Phase, PlannedOp, ReferenceBackward,
    ReferenceForward, ShapeError, Spec, TensorRanges, TensorsMut,
};
use crate::simd::Isa;
use std::ops::Range;

/// An operation with the buffers of a batch of random numbers.
pub struct SingleOp<'o> {
    op: &'o dyn Op,
    planned: Box<dyn PlannedOp>,
    spec: Spec,
    isa: Isa,
    n: usize,
    /// Samples of one call in a [`Phase::Groups`] or [`Phase::Batch`].
    group_len: usize,
    draw: Key,
    shapes: [Shape; MAX_INPUTS],
    x: Vec<Aligned>,
    y: Aligned,
    dy: Aligned,
    dx: Aligned,
    saved: Aligned,
    scratch: Aligned,
    params: Aligned,
    dparams: Aligned,
    own_params: TensorRanges,
    state: Aligned,
    own_state: TensorRanges,
    batch_saved: Aligned,
}

/// The relative root mean square error of the kernels of each pass, compared with the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// The output.
    pub forward: f64,
    /// The gradient of the first input.
    pub backward_data: f64,
    /// The gradients of the parameters; none if there are none.
    pub backward_weight: Option<f64>,
}

impl<'o> SingleOp<'o> {
    /// Allocates the buffers of `op` on `inputs` for a batch of `n`, fills them with numbers drawn from `seed`, and packs
    /// the weights.
    ///
    /// # Errors
    /// The op refuses the shapes.
    pub fn new(op: &'o dyn Op, inputs: &[Input], n: usize, isa: Isa, seed: u64) -> Result<SingleOp<'o>, ShapeError> {
        let given: Vec<Shape> = inputs.iter().map(|input| input.shape).collect();
        let planned = op.plan(&given)?;
        let spec = planned.spec().clone();
        let mut shapes = [Shape::new(0, 0); MAX_INPUTS];
        shapes[..given.len()].copy_from_slice(&given);
        let draw = |len: usize, fill: Fill, tag: u64| {
            let key = Key::new(seed, Stream::Case).with(tag);
            let value = |i| match fill {
                Fill::Class(bound) => key.below(i, bound as u64) as f32,
                Fill::Far => key.uniform(i) as f32 + 7.5,
                Fill::Shares(_) => key.uniform(i) as f32 + 0.5,
                Fill::Normal | Fill::Distinct | Fill::Silent => key.uniform(i) as f32 - 0.5,
            };
            let values = (0..len as u64).map(|i| f64::from(value(i))).collect();
            let mut all = Aligned::zeros(len);
            all.iter_mut().zip(fill.normalised(values)).for_each(|(v, value)| *v = value as f32);
            all
        };
        let params = draw(spec.params_len(), Fill::Normal, 1);
        let state = Aligned::zeros(spec.state_len());
        let [own_params, own_state] = [&spec.params, &spec.state].map(|tensors| TensorRanges::new(0, tensors));
        let mut batch_saved = Aligned::zeros(spec.batch_saved);
        planned.prepare(isa, own_params.of(&params), own_state.of(&state), &mut batch_saved);
        let x = inputs.iter().zip(2..).map(|(input, tag)| draw(n * input.shape.size(), input.fill, tag));
        Ok(SingleOp {
            op,
            planned,
            isa,
            n,
            group_len: 1,
            draw: Key::new(seed, Stream::Dropout),
            x: x.collect(),
            y: Aligned::zeros(n * spec.y.size()),
            dy: draw(n * spec.y.size(), Fill::Normal, 9),
            dx: Aligned::zeros(n * given[0].size()),
            saved: Aligned::zeros(n * spec.saved),
            scratch: Aligned::zeros(spec.scratch),
            dparams: Aligned::zeros(params.len()),
            params,
            own_params,
            state,
            own_state,
            batch_saved,
            shapes,
            spec,
        })
    }

    /// What the op needs.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Sets how many samples one call takes where the operation processes several samples at once.
    pub fn group_size(self, samples: usize) -> SingleOp<'o> {
        SingleOp { group_len: samples.max(1), ..self }
    }

    /// The samples of each call of a phase.
    fn calls(&self, kind: Phase) -> impl Iterator<Item = Range<usize>> + use<> {
        let (n, most) = (self.n, if matches!(kind, Phase::Groups | Phase::Batch) { self.group_len } else { 1 });
        (0..n).step_by(most).map(move |first| first..n.min(first + most))
    }

    /// The forward pass over the batch.
    pub fn forward(&mut self) {
        for (phase, kind) in self.spec.forward.iter().enumerate() {
            if *kind == Phase::Merge {
                self.merge(Pass::Forward);
                continue;
            }
            for samples in self.calls(*kind) {
                let mut x: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
                for (k, given) in self.x.iter().enumerate() {
                    x[k] = &given[numbers(self.shapes[k].size(), &samples)];
                }
                let mut b = Forward {
                    sample: samples.start,
                    draw: self.draw,
                    x,
                    y: &mut self.y[numbers(self.spec.y.size(), &samples)],
                    from: 0,
                    saved: &mut self.saved[numbers(self.spec.saved, &samples)],
                    scratch: &mut self.scratch,
                    params: self.own_params.of(&self.params),
                    state: self.own_state.of(&self.state),
                    batch_saved: &self.batch_saved,
                };
                self.planned.forward(self.isa, phase, &mut b);
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
            for samples in self.calls(*kind) {
                let mut x: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
                for (k, given) in self.x.iter().enumerate().filter(|_| self.spec.reads_x) {
                    x[k] = &given[numbers(self.shapes[k].size(), &samples)];
                }
                let of_output = numbers(self.spec.y.size(), &samples);
                let y = if self.spec.reads_y { &self.y[of_output.clone()] } else { &[] };
                let dy = &self.dy[of_output];
                let dparams = self.own_params.within(if weights { &mut self.dparams } else { &mut [] });
                if *kind == Phase::Batch {
                    for (tensor, from, gradient) in dparams.pieces(self.planned.gradient_piece()) {
                        let mut b = BatchGradient { x, y, dy, tensor, from, gradient };
                        self.planned.batch_gradient(self.isa, &mut b);
                    }
                    continue;
                }
                let dx = if data { self.shapes[0].size() } else { 0 };
                let mut b = Backward {
                    sample: samples.start,
                    draw: self.draw,
                    x,
                    y,
                    dy,
                    dx: [&mut self.dx[numbers(dx, &samples)], &mut []],
                    dparams: if *kind == Phase::Groups { TensorsMut::none() } else { dparams },
                    saved: &mut self.saved[numbers(self.spec.saved, &samples)],
                    scratch: &mut self.scratch,
                    params: self.own_params.of(&self.params),
                    batch_saved: &self.batch_saved,
                };
                self.planned.backward(self.isa, phase, &mut b);
            }
        }
        if weights {
            self.planned.reorder_gradients(self.own_params.of_mut(&mut self.dparams), &mut self.scratch);
        }
    }

    /// Runs both passes, and compares the results with those of the reference for the same numbers.
    pub fn errors(&mut self) -> Errors {
        let shapes = &self.shapes[..self.x.len()];
        let x: Vec<Vec<f64>> = self.x.iter().map(|x| widen(x)).collect();
        let x: Vec<&[f64]> = x.iter().map(|x| &x[..]).collect();
        let (n, draw, params, mut state) = (self.n, self.draw, widen(&self.params), widen(&self.state));
        let mut y = vec![0.0; self.y.len()];
        let (params, own_state) = (self.own_params.of(&params), &self.own_state);
        let forward =
            &mut ReferenceForward { n, shapes, x: &x, params, state: own_state.of_mut(&mut state), draw, y: &mut y };
        self.op.reference_forward(forward);
        let mut dx: Vec<Vec<f64>> = x.iter().map(|x| vec![0.0; x.len()]).collect();
        let mut dparams = vec![0.0; self.dparams.len()];
        self.op.reference_backward(&mut ReferenceBackward {
            n,
            shapes,
            x: &x,
            params,
            state: own_state.of(&state),
            draw,
            dy: &widen(&self.dy),
            dx: &mut dx,
            dparams: self.own_params.of_mut(&mut dparams),
        });
        self.dparams.fill(0.0);
        self.forward();
        self.backward(true, true);
        Errors {
            forward: relative_rms(&self.y, &y),
            backward_data: relative_rms(&self.dx, &dx[0]),
            backward_weight: (!dparams.is_empty()).then(|| relative_rms(&self.dparams, &dparams)),
        }
    }

    fn merge(&mut self, pass: Pass) {
        let (saved, len) = (&self.saved, self.spec.saved);
        self.planned.merge(&mut Merge {
            pass,
            n: self.n,
            saved: &|sample| &saved[sample * len..][..len],
            params: self.own_params.of(&self.params),
            dparams: match pass {
                Pass::Backward => self.own_params.of_mut(&mut self.dparams),
                Pass::Forward => TensorsMut::none(),
            },
            state: self.own_state.of_mut(&mut self.state),
            batch_saved: &mut self.batch_saved,
        });
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Root mean square of the differences, relative to that of `expected`; zero where both are.
fn relative_rms(got: &[f32], expected: &[f64]) -> f64 {
    let differences: f64 = got.iter().zip(expected).map(|(&g, e)| (f64::from(g) - e).powi(2)).sum();
    let squares: f64 = expected.iter().map(|e| e * e).sum();
    if differences == 0.0 { 0.0 } else { (differences / squares).sqrt() }
}

/// The range of the numbers of `samples`, `len` for each.
fn numbers(len: usize, samples: &Range<usize>) -> Range<usize> {
    samples.start * len..samples.end * len
}
