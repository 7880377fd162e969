//! Schedules of the learning rate: pure functions of the number of the step.
//!
//! **Computes**, for step `t` of `T` (the first step is 0), the share `s(t)` of the peak rate; `W` is `warmup * T`, rounded. With a linear
//! warm-up (every kind but one-cycle) `s(t) = (t + 1) / W` while `t < W`, times the value of the kind:
//! - constant: 1;
//! - step: `factor^k` with `k = floor(t / (every * T))`, where `every * T` is rounded and at least 1;
//! - cosine: `end + (1 - end) (1 + cos(pi p)) / 2` with `p = (t - F) / (T - 1 - F)` from step `F = max(W, 1) - 1` on, which is the first with
//!   the peak rate; the last step has the rate `end`. Before step `F` it is 1;
//! - one-cycle, which has a warm-up of its own: a cosine from 1/25 to 1 with `p = t / R` while `t <= R = warmup * T - 1` (not rounded), then
//!   one from 1 to `end` with `p = (t - R) / (T - 1 - R)`.
//!
//! **Source** cosine: Loshchilov and Hutter, "SGDR", arXiv 1608.03983, equation 5; one-cycle: Smith and Topin, arXiv 1708.07120, with the
//! formula of PyTorch's `OneCycleLR` (`anneal_strategy="cos"`, `pct_start = warmup`, `div_factor = 25`, `final_div_factor = 1 / (25 end)`).

use std::f64::consts::PI;

/// How the rate changes after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ScheduleKind {
    /// Not at all.
    #[default]
    Constant,
    /// It is multiplied by a factor at regular intervals.
    Step {
        /// The interval, as a share of the run.
        every: f64,
        /// The factor.
        factor: f64,
    },
    /// It falls along half a cosine to [`Schedule::end`].
    Cosine,
    /// It rises along half a cosine from 1/25 of the peak during [`Schedule::warmup`], then falls along half a cosine to [`Schedule::end`].
    OneCycle,
}

/// The learning rate as a function of the step. The default is the constant rate.
///
/// ```
/// use stapes::optim::{Schedule, ScheduleKind};
///
/// let schedule = Schedule { kind: ScheduleKind::Cosine, warmup: 0.05, end: 0.01 };
/// let rates = [0, 4, 99].map(|step| schedule.rate(1.0, step, 100));
/// assert_eq!(rates, [0.2, 1.0, 0.01]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Schedule {
    /// How the rate changes after the warm-up.
    pub kind: ScheduleKind,
    /// The length of the warm-up, as a share of all steps, from 0 to 1; 0 for none.
    pub warmup: f64,
    /// The rate of the last step of a cosine or one-cycle schedule, as a share of the peak.
    pub end: f64,
}

/// The peak rate of a one-cycle schedule divided by its first rate.
const ONE_CYCLE_START: f64 = 25.0;

/// The value at the share `p`, from 0 to 1, of half a cosine from `from` to `to`.
fn half_cosine(from: f64, to: f64, p: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (PI * p.min(1.0)).cos())
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0, of `total` steps, of which the largest is `peak`. Steps after the last have
    /// the rate of the last. The constant schedule without a warm-up returns `peak` itself.
    pub fn rate(&self, peak: f32, step: u64, total: u64) -> f32 {
        (f64::from(peak) * self.share(step, total)) as f32
    }

    /// The rate as a share of the peak.
    fn share(&self, step: u64, total: u64) -> f64 {
        let total = total.max(1);
        let step = step.min(total - 1);
        let Schedule { kind, warmup, end } = *self;
        let steps = |share: f64| (share * total as f64).round() as u64;
        let warm = steps(warmup).min(total);
        let rise = if step < warm { (step + 1) as f64 / warm as f64 } else { 1.0 };
        match kind {
            ScheduleKind::Constant => rise,
            ScheduleKind::Step { every, factor } => rise * factor.powf((step / steps(every).max(1)) as f64),
            ScheduleKind::Cosine => {
                let first = warm.max(1) - 1;
                match step.checked_sub(first) {
                    None | Some(0) => rise,
                    Some(after) => half_cosine(1.0, end, after as f64 / (total - 1 - first) as f64),
                }
            }
            ScheduleKind::OneCycle => {
                let (step, peak_at) = (step as f64, warmup.clamp(0.0, 1.0) * total as f64 - 1.0);
                let last = (total - 1) as f64;
                if peak_at > 0.0 && step <= peak_at {
                    half_cosine(1.0 / ONE_CYCLE_START, 1.0, step / peak_at)
                } else if last > peak_at {
                    half_cosine(1.0, end, (step - peak_at) / (last - peak_at))
                } else {
                    1.0
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSINE: Schedule = Schedule { kind: ScheduleKind::Cosine, warmup: 0.1, end: 0.01 };

    fn rates(schedule: Schedule, total: u64) -> Vec<f64> {
        (0..total).map(|step| schedule.share(step, total)).collect()
    }

    #[test]
    fn the_constant_rate_is_the_peak_to_the_bit() {
        for peak in [1e-3, 0.1, f32::MIN_POSITIVE, 3.4e38] {
            for (step, total) in [(0, 1), (7, 10), (10, 10), (u64::MAX, 3), (0, 0)] {
                assert_eq!(Schedule::default().rate(peak, step, total).to_bits(), peak.to_bits());
            }
        }
    }

    #[test]
    fn the_warm_up_rises_evenly_to_the_peak() {
        for kind in [ScheduleKind::Constant, ScheduleKind::Cosine, ScheduleKind::Step { every: 0.5, factor: 0.1 }] {
            let rates = rates(Schedule { kind, warmup: 0.25, end: 0.0 }, 16);
            assert_eq!(rates[..4], [0.25, 0.5, 0.75, 1.0], "{kind:?}");
            assert!(rates[4..].iter().all(|&rate| rate <= 1.0), "{kind:?}");
        }
    }

    #[test]
    fn a_cosine_falls_from_the_peak_to_the_end() {
        let rates = rates(COSINE, 101);
        assert_eq!((rates[9], rates[100]), (1.0, 0.01));
        // Half way between step 9 and step 100, rounded up: p = 46 / 91.
        approx::assert_relative_eq!(
            rates[55],
            0.01 + 0.99 / 2.0 * (1.0 + (PI * 46.0 / 91.0).cos()),
            max_relative = 1e-15
        );
        assert!(rates[9..].windows(2).all(|pair| pair[1] < pair[0]));
        assert_eq!(COSINE.rate(0.5, 1_000, 101), COSINE.rate(0.5, 100, 101));
    }

    #[test]
    fn steps_multiply_at_their_interval() {
        let schedule = Schedule { kind: ScheduleKind::Step { every: 0.1, factor: 0.5 }, ..Schedule::default() };
        let rates = rates(schedule, 30);
        for (step, rate) in rates.iter().enumerate() {
            assert_eq!(*rate, 0.5f64.powi(step as i32 / 3), "step {step}");
        }
    }

    /// Printed by PyTorch 2.15: `OneCycleLR(max_lr=0.01, total_steps=10, pct_start=p, final_div_factor=1/(25*e))`.
    #[test]
    fn one_cycle_has_pytorchs_rates() {
        let risen = [
            0.0003999999999999993,
            0.0052,
            0.01,
            0.009509795896116974,
            0.008136274519200732,
            0.006151478623083757,
            0.003948521376916245,
            0.0019637254807992693,
            0.0005902041038830259,
            0.0001,
        ];
        let fallen = [
            0.009755380468443178,
            0.009045466937885988,
            0.007939750690957781,
            0.006546466937885987,
            0.0050019999999999995,
            0.003457533062114013,
            0.00206424930904222,
            0.0009585330621140132,
            0.00024861953155682265,
            4e-06,
        ];
        for (warmup, end, expected) in [(0.3, 0.01, risen), (0.0, 0.0004, fallen)] {
            let schedule = Schedule { kind: ScheduleKind::OneCycle, warmup, end };
            for (step, (rate, expected)) in rates(schedule, 10).iter().zip(&expected).enumerate() {
                approx::assert_relative_eq!(0.01 * rate, *expected, max_relative = 1e-13);
                assert_eq!(schedule.rate(0.01, step as u64, 10), (f64::from(0.01f32) * rate) as f32);
            }
        }
    }

    #[test]
    fn runs_of_any_length_and_settings_out_of_range_have_a_rate() {
        let kinds = [
            ScheduleKind::Constant,
            ScheduleKind::Step { every: 0.0, factor: 0.1 },
            ScheduleKind::Cosine,
            ScheduleKind::OneCycle,
        ];
        for kind in kinds {
            for warmup in [-1.0, 0.0, 0.1, 0.5, 1.0, 7.0, f64::NAN] {
                for total in [0, 1, 2, 3, 100] {
                    for step in [0, 1, 99, u64::MAX] {
                        let rate = Schedule { kind, warmup, end: 0.0 }.rate(1.0, step, total);
                        let valid = (0.0..=1.0).contains(&rate);
                        assert!(valid, "{kind:?}, warm-up {warmup}, step {step} of {total}: {rate}");
                    }
                }
            }
        }
    }
}
