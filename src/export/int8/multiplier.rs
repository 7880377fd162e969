//! A positive factor as an integer and a shift.

/// The largest magnitude of a rescaled number.
pub const LARGEST_TERM: i32 = 1 << 28;

/// A factor `factor * 2^-shift`, with 31 significant bits (Jacob et al., 2018, equation 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiplier {
    /// 0, or at least `2^30`.
    pub factor: i32,
    /// 1 to 62.
    pub shift: u32,
}

impl Multiplier {
    /// 256ths to whole numbers.
    pub const UNIT: Multiplier = Multiplier { factor: 1 << 30, shift: 38 };

    /// The nearest multiplier to a factor below `2^29`; a factor that is not positive, or too small for any sum to matter, becomes 0.
    pub fn new(factor: f64) -> Multiplier {
        let zero = Multiplier { factor: 0, shift: 1 };
        if !(factor.is_finite() && factor > 0.0) {
            return zero;
        }
        // factor = mantissa * 2^exponent, 0.5 <= mantissa < 1
        let mut exponent = factor.log2().floor() as i32 + 1;
        let mut mantissa = (factor * 2f64.powi(31 - exponent)).round();
        if mantissa >= 2f64.powi(31) {
            mantissa /= 2.0;
            exponent += 1;
        }
        match 31 - exponent {
            shift if shift > 62 => zero,
            shift => Multiplier { factor: (mantissa.min(f64::from(i32::MAX))) as i32, shift: shift.max(1) as u32 },
        }
    }

    /// `value * factor * 2^-shift`, rounded to the nearest integer, halves up; at most 2^28 in magnitude.
    pub fn apply(self, value: i32) -> i32 {
        let product = i64::from(value) * i64::from(self.factor) + (1i64 << (self.shift - 1));
        (product >> self.shift).clamp(-i64::from(LARGEST_TERM), i64::from(LARGEST_TERM)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiplier_rounds_as_the_product_does() {
        assert_eq!(Multiplier::new(1.0 / 256.0), Multiplier::UNIT);
        for factor in [1e-9, 0.000_37, 0.1, 0.5, 0.999_999_999_9, 1.0, 3.7, 1000.0] {
            let multiplier = Multiplier::new(factor);
            assert!(multiplier.factor >= 1 << 30, "{factor}: {multiplier:?}");
            for value in [0, 1, -1, 77, -12_345, 1_000_003, -16_777_216] {
                let exact = f64::from(value) * factor;
                let expected = exact.clamp(-f64::from(LARGEST_TERM), f64::from(LARGEST_TERM));
                let got = f64::from(multiplier.apply(value));
                assert!((got - expected).abs() <= 0.5 + expected.abs() * 1e-9, "{value} * {factor}: {got}");
            }
        }
        let half = Multiplier::new(0.5);
        assert_eq!([-3, -1, 1, 3].map(|value| half.apply(value)), [-1, 0, 1, 2]);
    }

    #[test]
    fn factors_that_cannot_be_stored_do_not_overflow() {
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-30] {
            assert_eq!(Multiplier::new(factor).apply(i32::MAX), 0, "{factor}");
        }
        assert_eq!(Multiplier::new(1e5).apply(i32::MAX), LARGEST_TERM);
        assert_eq!(Multiplier::new(1e5).apply(i32::MIN), -LARGEST_TERM);
        assert_eq!(Multiplier::new(1e-9).apply(i32::MAX), 2);
    }
}
