//! dropout: numbers set to zero at random while the network learns, the others scaled up to keep the mean.
//!
//! **Computes** `y[i] = x[i] / (1 - p)` where number `i` is kept, else 0. It is kept if the high 32 bits of the draw at
//! `sample * l * c + i` are at least `p * 2^32`: every sample, step and layer has a mask of its own, which depends on
//! nothing else. **Shapes** `x [n, l, c] -> y [n, l, c]`. **Backward** the same map on `dy`, its mask recomputed.
//! **Saved** nothing. **Cost** one 64-bit mix and 8 bytes a number; nothing with `p = 0` in place.
//! **NaN** a NaN that is kept stays one, a dropped one is 0. **Error** one rounding. In inference it is the identity.
//! **Source** Srivastava et al., JMLR 15, 2014, section 10 (the scaling while training).

use super::case::Case;
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{
    Backward, Forward, Inference, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs,
};
use crate::base::{Shape, rng::Key};
use crate::simd::{Isa, Kernel, Simd};

/// The op.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share of numbers set to zero, in `[0, 1)`.
    pub p: f64,
}

impl Dropout {
    /// The smallest 32-bit draw that is kept.
    fn threshold(self) -> u32 {
        (self.p * 2f64.powi(32)) as u32
    }

    fn scale(self) -> f64 {
        1.0 / (1.0 - self.p)
    }

    fn map(self, isa: Isa, draw: Key, sample: usize, to: &mut [f32]) {
        if self.p > 0.0 {
            let first = (sample * to.len()) as u64;
            isa.run(Mask { draw, first, threshold: self.threshold(), scale: self.scale() as f32, to });
        }
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [x] = inputs(self.name(), x)?;
        if !(0.0..1.0).contains(&self.p) {
            let message = format!("p is {}; it must be at least 0 and below 1", self.p);
            return Err(ShapeError::new(self.name(), message));
        }
        Planned::boxed(*self, x, Spec { in_place: true, ..Spec::new(x) })
    }

    fn for_inference(&self) -> Inference {
        Inference::Identity
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        for (i, (y, &x)) in b.y.iter_mut().zip(b.x[0]).enumerate() {
            let kept = b.draw.bits(i as u64) >> 32 >= u64::from(self.threshold());
            *y = if kept { x * self.scale() } else { 0.0 };
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        for (i, (dx, &dy)) in b.dx[0].iter_mut().zip(b.dy).enumerate() {
            let kept = b.draw.bits(i as u64) >> 32 >= u64::from(self.threshold());
            *dx += if kept { dy * self.scale() } else { 0.0 };
        }
    }
}

impl PlannedOp for Planned<Dropout, Shape> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        if !b.x[0].is_empty() {
            b.y.copy_from_slice(b.x[0]);
        }
        self.op.map(isa, b.draw, b.sample, b.y);
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let [dx, _] = &mut b.dx;
        if !b.dy.is_empty() && !dx.is_empty() {
            dx.copy_from_slice(b.dy);
        }
        self.op.map(isa, b.draw, b.sample, dx);
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let count = batch.n * self.geometry.size();
        let map = |from, to| {
            let kernel = if self.op.p > 0.0 { "dropout" } else { "copy" };
            let launch = Launch::over(kernel, count, 4).with(from).with(to);
            let launch = if self.op.p > 0.0 {
                // The threshold's 32 bits pass as those of an `int`.
                launch.with(Operand::Draw).node().int(self.op.threshold() as usize).float(self.op.scale() as f32)
            } else {
                launch
            };
            launch.int(count).costs(2 * count, count as u64)
        };
        Passes {
            in_place: true,
            forward: vec![map(Operand::X(0), Operand::Y)],
            backward: vec![map(Operand::Dy, Operand::Dx(0)).only_for(Operand::Dx(0))],
            ..Passes::default()
        }
    }
}

struct Mask<'a> {
    draw: Key,
    first: u64,
    threshold: u32,
    scale: f32,
    to: &'a mut [f32],
}

impl Kernel for Mask<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        for (i, to) in self.to.iter_mut().enumerate() {
            let kept = (self.draw.bits(self.first + i as u64) >> 32) as u32 >= self.threshold;
            *to = if kept { *to * self.scale } else { 0.0 };
        }
    }
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    [(1, 1, 0.5), (1, 3, 0.0), (7, 17, 0.75), (33, 8, 0.1), (592, 64, 0.5)]
        .into_iter()
        .map(|(l, c, p)| Case {
            real: l == 592,
            // One rounding of the scale, one of the product.
            tolerance: 1.2e-7,
            ..Case::new(format!("n2_l{l}_c{c}_p{p}"), Dropout { p }, &[Shape::new(l, c)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Stream;

    fn masked(p: f64, sample: usize, len: usize, draw: Key) -> Vec<f32> {
        let mut y = vec![1.0; len];
        Dropout { p }.map(Isa::best(), draw, sample, &mut y);
        y
    }

    #[test]
    fn the_share_of_zeros_is_p_and_the_mean_stays() {
        let draw = Key::new(3, Stream::Dropout);
        for p in [0.1, 0.5, 0.75, 0.99] {
            let y = masked(p, 0, 40_000, draw);
            let zeros = y.iter().filter(|&&v| v == 0.0).count() as f64 / 40_000.0;
            // Five standard deviations of a share of 40,000.
            assert!((zeros - p).abs() < 5.0 * (p * (1.0 - p) / 40_000.0).sqrt(), "p {p}: {zeros}");
            assert!(y.iter().all(|&v| v == 0.0 || v == (1.0 / (1.0 - p)) as f32));
        }
        assert_eq!(masked(0.0, 0, 100, draw), vec![1.0; 100]);
    }

    #[test]
    fn samples_and_steps_have_masks_of_their_own_and_a_key_repeats_its() {
        let draw = Key::new(3, Stream::Dropout).with(1);
        let mask = masked(0.5, 1, 200, draw);
        assert_eq!(mask, masked(0.5, 1, 200, draw));
        assert_ne!(mask, masked(0.5, 2, 200, draw));
        assert_ne!(mask, masked(0.5, 1, 200, draw.with(1)));
    }

    #[test]
    fn p_outside_its_range_is_refused() {
        for p in [-0.1, 1.0, f64::NAN] {
            let error = Dropout { p }.spec(&[Shape::new(2, 2)]).unwrap_err().to_string();
            assert!(error.ends_with("it must be at least 0 and below 1"), "{error}");
        }
    }
}
