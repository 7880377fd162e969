//! Filters that are alike: those whose taps agree when one is shifted or its sign is changed.

use super::filters::Filter;
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

/// Filters with a larger normalised cross-correlation, in absolute value, count as alike.
pub const ALIKE: f64 = 0.98;

/// A filter that is like another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alike {
    /// The channel of the other filter.
    pub channel: usize,
    /// The normalised cross-correlation of the two at the lag where it is largest in absolute value, from -1 (the other one with the opposite sign) to 1.
    pub correlation: f64,
    /// That lag: by how many samples the other filter is later.
    pub lag: i64,
}

/// Finds for each filter with an effect the one most like it.
pub(super) fn find_alike(
    filters: &mut [Filter],
    spectra: &[Vec<Vec<Complex<f64>>>],
    size: usize,
    planner: &mut RealFftPlanner<f64>,
) {
    let inverse = planner.plan_fft_inverse(size);
    let (mut product, mut correlation) = (inverse.make_input_vec(), inverse.make_output_vec());
    let norm = |filter: &Filter| filter.taps.iter().map(|tap| tap * tap).sum::<f64>().sqrt();
    let norms: Vec<f64> = filters.iter().map(norm).collect();
    for first in 0..filters.len() {
        for second in first + 1..filters.len() {
            let limit = ALIKE * norms[first] * norms[second] * size as f64;
            let skip = filters[first].dead || filters[second].dead || limit == 0.0;
            if skip || largest_possible(&spectra[first], &spectra[second]) <= limit {
                continue;
            }
            product.fill(Complex::default());
            for (a, b) in spectra[first].iter().zip(&spectra[second]) {
                product.iter_mut().zip(a.iter().zip(b)).for_each(|(product, (a, b))| *product += a.conj() * b);
            }
            // These two are real but for the sign of zero, which the transform requires.
            for bin in [0, size / 2] {
                product[bin].im = 0.0;
            }
            inverse.process(&mut product, &mut correlation).expect("both buffers are those of the transform");
            let at = (0..size).fold(
                0,
                |best, lag| {
                    if correlation[lag].abs() > correlation[best].abs() { lag } else { best }
                },
            );
            if correlation[at].abs() <= limit {
                continue;
            }
            let value = correlation[at] / (limit / ALIKE);
            let lag = if at > size / 2 { at as i64 - size as i64 } else { at as i64 };
            for (own, other, lag) in [(first, second, lag), (second, first, -lag)] {
                let found = &mut filters[own].alike;
                if found.is_none_or(|found| value.abs() > found.correlation.abs()) {
                    *found = Some(Alike { channel: other, correlation: value, lag });
                }
            }
        }
    }
}

/// A bound of the absolute value of an unnormalised cross-correlation at any lag: most pairs need no inverse transform. The frequencies between the first and the last stand for two of a
/// complete transform each.
fn largest_possible(first: &[Vec<Complex<f64>>], second: &[Vec<Complex<f64>>]) -> f64 {
    let of_channel = |(a, b): (&Vec<Complex<f64>>, &Vec<Complex<f64>>)| {
        a.iter().zip(b).map(|(a, b)| 2.0 * (a.norm_sqr() * b.norm_sqr()).sqrt()).sum::<f64>()
    };
    first.iter().zip(second).map(of_channel).sum()
}

#[cfg(test)]
mod tests {
    use super::super::FilterBank;
    use super::*;
    use crate::nn::{Network, NetworkSpec};
    use crate::train::Weights;

    #[test]
    fn shifted_and_inverted_copies_are_alike() {
        let text = "name = \"t\"\ninput = { length = 100, channels = 2 }\n[[block]]\nconv = 5\nkernel = 6\n";
        let network = Network::build(&NetworkSpec::parse(text, "the test").unwrap(), 2).unwrap();
        let mut weights = Weights::zeros(&network.graph);
        // Of each filter the taps of both input channels.
        let filters = [
            ([1.0, -2.0, 3.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0, 0.0]),
            ([0.0, 0.0, 2.0, -4.0, 6.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]),
            ([-1.0, 2.0, -3.0, 0.0, 0.0, 0.0], [-0.5, -0.5, 0.05, 0.0, 0.0, 0.0]),
            // The first channel agrees with filter 0, the second one only with another shift.
            ([0.0, 1.0, -2.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0, 2.0, 0.0]),
            ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0.0; 6]),
        ];
        for (filter, (first, second)) in filters.iter().enumerate() {
            for t in 0..6 {
                weights.params[(t * 2) * 5 + filter] = first[t];
                weights.params[(t * 2 + 1) * 5 + filter] = second[t];
            }
        }
        let bank = FilterBank::first_layer(&network, &weights, None).unwrap();
        let alike = |channel: usize| bank.filters.iter().find(|filter| filter.channel == channel).unwrap().alike;
        let (first, second, third) = (alike(0).unwrap(), alike(1).unwrap(), alike(2).unwrap());
        assert_eq!((first.channel, first.lag, second.channel, second.lag), (1, 2, 0, -2));
        assert!((first.correlation - 1.0).abs() < 1e-9 && (second.correlation - 1.0).abs() < 1e-9);
        assert!(third.correlation < -ALIKE && third.correlation > -1.0, "{third:?}");
        assert_eq!((alike(3), alike(4)), (None, None));
    }
}
