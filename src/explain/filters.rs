//! The filters of a layer as a filter bank: frequency responses, centre frequencies, bandwidths, filters without effect, filters that are alike.

use super::alike::{Alike, find_alike};
use super::error::ExplainError;
use super::spectrum::{decibels, frequencies, mel_edges, transform};
use super::taps::{Impulses, MOST_VALUES};
use crate::nn::Network;
use crate::train::{TrainError, Weights};
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

/// A filter whose taps, with the factor of batch norm, have a norm below this share of that of the largest filter has no effect: its outputs are 60 dB below those of the largest.
const NEGLIGIBLE: f64 = 1e-3;
/// The smallest transform: 16 Hz between values at 16 kHz.
const LEAST_SIZE: usize = 1024;
/// The least gain, in dB: that of taps which are all zero.
const LEAST_GAIN: f64 = -200.0;

/// One filter.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The number of its channel, from 0.
    pub channel: usize,
    /// The weights over time, `[c_in, span]`, first tap first, with zeros between the taps of a dilated convolution.
    pub taps: Vec<f64>,
    /// The factor of the batch norm that follows; 1 without one.
    pub scale: f64,
    /// The magnitude of the frequency response, with the factor of batch norm, at the frequencies of the bank. With several input channels, the root of the sum of their squared magnitudes.
    pub response: Vec<f64>,
    /// The centre frequency in Hz: the mean of the frequencies from 0 Hz to half the sample rate, weighted by the power response (the spectral centroid).
    pub centre: f64,
    /// The frequency of the largest magnitude in Hz.
    pub peak: f64,
    /// The bandwidth in Hz: the width of the band around the peak in which the power is at least half of the largest (-3 dB). It ends at 0 Hz and at half the sample rate.
    pub bandwidth: f64,
    /// The largest magnitude of the response, in dB.
    pub gain: f64,
    /// Whether it has no effect: its output after ReLU was never positive, or, if that was not measured, its weights are negligible.
    pub dead: bool,
    /// The other filter that is most like it, if one is.
    pub alike: Option<Alike>,
}

/// The filters of a layer, sorted by centre frequency; those without effect are last.
#[derive(Clone, Debug)]
pub struct FilterBank {
    /// The name of the layer.
    pub layer: String,
    /// Samples per second.
    pub rate: f64,
    /// Channels of the network's input.
    pub c_in: usize,
    /// Samples from the first tap to the last.
    pub span: usize,
    /// The frequencies of the responses in Hz, from 0 Hz to half the sample rate at equal distances.
    pub frequencies: Vec<f64>,
    /// The filters.
    pub filters: Vec<Filter>,
}

/// A band of frequencies, and how many filters it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Its lowest frequency in Hz.
    pub low: f64,
    /// Its highest frequency in Hz.
    pub high: f64,
    /// The filters with an effect whose centre frequency is in the band.
    pub filters: usize,
    /// How many a mel filter bank with as many filters has.
    pub of_mel_bank: f64,
}

/// How training changed a filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The channel of the filter.
    pub channel: usize,
    /// The cosine of the angle between the weights before and after: 1 for no change of direction; 0 if either is zero.
    pub similarity: f64,
    /// The centre frequency before training in Hz.
    pub centre_before: f64,
    /// The centre frequency after training in Hz.
    pub centre_after: f64,
}

impl FilterBank {
    /// The filters of the first convolution. `largest` has the largest value of each channel after its activation over many clips, if it was measured: a channel without a positive value is dead.
    /// In a depthwise-separable block they are the filters of the depthwise convolution, one for each input channel.
    ///
    /// # Errors
    /// The network has no convolution, its filters are too many, the weights are those of another network, or there are not as many maxima as filters.
    pub fn first_layer(
        network: &Network,
        weights: &Weights,
        largest: Option<&[f32]>,
    ) -> Result<FilterBank, ExplainError> {
        FilterBank::of(Impulses::first(network, weights)?, rate(network), largest)
    }

    /// The filters of the second convolution with respect to the network's input, composed with the first one and its batch norm. ReLU and max pooling are left out of this: of the pool only
    /// its stride counts. A filter of the second layer therefore responds to the frequencies shown here as far as the first layer is linear.
    ///
    /// # Errors
    /// Those of [`FilterBank::first_layer`] and of [`second_kernel`](super::second_kernel).
    pub fn second_layer(
        network: &Network,
        weights: &Weights,
        largest: Option<&[f32]>,
    ) -> Result<FilterBank, ExplainError> {
        FilterBank::of(Impulses::second(network, weights)?, rate(network), largest)
    }

    fn of(all: Impulses, rate: f64, largest: Option<&[f32]>) -> Result<FilterBank, ExplainError> {
        let Impulses { layer, c_in, span, taps, scale } = all;
        if let Some(largest) = largest.filter(|largest| largest.len() != taps.len()) {
            let (expected, got) = (taps.len(), largest.len());
            return Err(TrainError::WrongLength { what: "the largest activations", expected, got }.into());
        }
        let size = (4 * span).next_power_of_two().max(LEAST_SIZE);
        if taps.len().saturating_mul(c_in).saturating_mul(size) > MOST_VALUES {
            return Err(ExplainError::TooManyFilters { layer, filters: taps.len(), span });
        }
        let frequencies = frequencies(size, rate);
        let norms: Vec<f64> = taps.iter().zip(&scale).map(|(taps, scale)| norm(taps) * scale.abs()).collect();
        let negligible = NEGLIGIBLE * norms.iter().copied().fold(0.0, f64::max);
        let mut planner = RealFftPlanner::new();
        let mut spectra = Vec::with_capacity(taps.len());
        let mut filters = Vec::with_capacity(taps.len());
        for (channel, (taps, scale)) in taps.into_iter().zip(scale).enumerate() {
            let spectrum: Vec<_> =
                taps.chunks(span).map(|of_channel| transform(&mut planner, of_channel, size)).collect();
            let dead = match largest {
                // Not a number is not positive either.
                Some(largest) => largest[channel].is_nan() || largest[channel] <= 0.0,
                None => norms[channel] <= negligible,
            };
            filters.push(Filter::new(channel, taps, scale, &spectrum, &frequencies, dead));
            spectra.push(spectrum);
        }
        find_alike(&mut filters, &spectra, size, &mut planner);
        filters.sort_by(|a, b| a.dead.cmp(&b.dead).then(a.centre.total_cmp(&b.centre)));
        Ok(FilterBank { layer, rate, c_in, span, frequencies, filters })
    }

    /// The filters that have an effect.
    pub fn alive(&self) -> impl Iterator<Item = &Filter> {
        self.filters.iter().filter(|filter| !filter.dead)
    }

    /// How the centre frequencies are distributed over `bands` bands of equal width on the mel scale, from 0 Hz to half the sample rate, beside a bank of filters at equal distances in mel.
    pub fn coverage(&self, bands: usize) -> Vec<Band> {
        let edges = mel_edges(bands, self.rate / 2.0);
        let of_mel_bank = self.alive().count() as f64 / bands.max(1) as f64;
        let bands = edges.windows(2).enumerate().map(|(number, edge)| {
            let (low, high) = (edge[0], edge[1]);
            // The last band includes its upper edge.
            let inside = |centre: f64| centre >= low && (centre < high || number + 1 == bands);
            let filters = self.alive().filter(|filter| inside(filter.centre)).count();
            Band { low, high, filters, of_mel_bank }
        });
        bands.collect()
    }

    /// The sum of the power responses of all filters that have an effect, at each frequency.
    pub fn summed_power(&self) -> Vec<f64> {
        let mut sum = vec![0.0; self.frequencies.len()];
        for filter in self.alive() {
            sum.iter_mut().zip(&filter.response).for_each(|(sum, magnitude)| *sum += magnitude * magnitude);
        }
        sum
    }

    /// How each filter differs from what it was in `before`, in the order of this bank. A filter that `before` does not have is left out.
    pub fn changes_since(&self, before: &FilterBank) -> Vec<Change> {
        let mut by_channel: Vec<&Filter> = before.filters.iter().collect();
        by_channel.sort_by_key(|filter| filter.channel);
        let change = |after: &Filter| {
            let before = by_channel.get(after.channel)?;
            let product: f64 = before.taps.iter().zip(&after.taps).map(|(a, b)| a * b).sum();
            let norms = norm(&before.taps) * norm(&after.taps);
            let similarity = if norms > 0.0 { (product / norms).clamp(-1.0, 1.0) } else { 0.0 };
            let (channel, centre_before, centre_after) = (after.channel, before.centre, after.centre);
            Some(Change { channel, similarity, centre_before, centre_after })
        };
        self.filters.iter().filter_map(change).collect()
    }
}

fn rate(network: &Network) -> f64 {
    f64::from(network.spec.input.sample_rate)
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

impl Filter {
    fn new(
        channel: usize,
        taps: Vec<f64>,
        scale: f64,
        spectrum: &[Vec<Complex<f64>>],
        frequencies: &[f64],
        dead: bool,
    ) -> Filter {
        let power_at = |bin: usize| spectrum.iter().map(|of_channel| of_channel[bin].norm_sqr()).sum::<f64>();
        let response: Vec<f64> = (0..frequencies.len()).map(|bin| power_at(bin).sqrt() * scale.abs()).collect();
        let at = (0..response.len()).fold(0, |best, bin| if response[bin] > response[best] { bin } else { best });
        let (centre, bandwidth) = (centroid(&response, frequencies), half_power_width(&response, at, frequencies));
        let gain = decibels(response[at], 1.0, LEAST_GAIN);
        Filter { channel, taps, scale, response, centre, peak: frequencies[at], bandwidth, gain, dead, alike: None }
    }

    /// The response in dB relative to its largest value, not less than `floor`.
    pub fn relative_response(&self, floor: f64) -> Vec<f64> {
        let most = self.response.iter().copied().fold(0.0, f64::max);
        self.response.iter().map(|&magnitude| decibels(magnitude, most, floor)).collect()
    }
}

/// The mean frequency weighted by power; 0 Hz of a response that is zero everywhere.
fn centroid(response: &[f64], frequencies: &[f64]) -> f64 {
    let last = response.len() - 1;
    let (mut weighted, mut total) = (0.0, 0.0);
    for (bin, (magnitude, frequency)) in response.iter().zip(frequencies).enumerate() {
        // The trapezoidal rule: the first and last value stand for half an interval.
        let power = magnitude * magnitude * if bin == 0 || bin == last { 0.5 } else { 1.0 };
        (weighted, total) = (weighted + power * frequency, total + power);
    }
    if total > 0.0 { weighted / total } else { 0.0 }
}

/// The width of the band around value `peak` in which the power is at least half of that at the peak, with linear interpolation of the power between values.
fn half_power_width(response: &[f64], peak: usize, frequencies: &[f64]) -> f64 {
    let power = |bin: usize| response[bin] * response[bin];
    let half = power(peak) / 2.0;
    if half == 0.0 {
        return 0.0;
    }
    // From the last value inside to the first outside.
    let edge = |inside: usize, outside: usize| {
        let share = (power(inside) - half) / (power(inside) - power(outside));
        frequencies[inside] + share * (frequencies[outside] - frequencies[inside])
    };
    let above = (peak..response.len()).find(|&bin| power(bin) < half);
    let below = (0..peak).rev().find(|&bin| power(bin) < half);
    let high = above.map_or(frequencies[response.len() - 1], |bin| edge(bin - 1, bin));
    let low = below.map_or(frequencies[0], |bin| edge(bin + 1, bin));
    high - low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::second_kernel;
    use crate::nn::NetworkSpec;
    use std::f64::consts::TAU;

    /// A network without batch norm at 16 kHz whose first convolution has these filters, and its weights.
    fn network(filters: &[Vec<f64>], more: &str) -> (Network, Weights) {
        let text = format!(
            "name = \"t\"\ninput.length = 4000\n[[block]]\nconv = {}\nkernel = {}\n{more}",
            filters.len(),
            filters[0].len()
        );
        let network = Network::build(&NetworkSpec::parse(&text, "the test").unwrap(), 2).unwrap();
        let mut weights = Weights::zeros(&network.graph);
        for (filter, taps) in filters.iter().enumerate() {
            for (t, &tap) in taps.iter().enumerate() {
                weights.params[t * filters.len() + filter] = tap as f32;
            }
        }
        (network, weights)
    }

    fn bank(filters: &[Vec<f64>]) -> FilterBank {
        let (network, weights) = network(filters, "");
        FilterBank::first_layer(&network, &weights, None).unwrap()
    }

    /// A cosine of `hz` under a Hann window of 320 samples, that is 20 ms.
    fn cosine(hz: f64) -> Vec<f64> {
        let sample = |i: usize| (TAU * hz * i as f64 / 16e3).cos() * (0.5 - 0.5 * (TAU * i as f64 / 320.0).cos());
        (0..320).map(sample).collect()
    }

    #[test]
    fn a_cosine_is_at_its_frequency_and_filters_are_sorted() {
        let bank = bank(&[cosine(3000.0), cosine(500.0), cosine(1000.0)]);
        assert_eq!(bank.filters.iter().map(|filter| filter.channel).collect::<Vec<_>>(), [1, 2, 0]);
        for (filter, hz) in bank.filters.iter().zip([500.0, 1000.0, 3000.0]) {
            assert!((filter.centre - hz).abs() < 2.0 && (filter.peak - hz).abs() < 8.0, "{hz}: {filter:?}");
            // The main lobe of a Hann window is 1.44 divided by its length wide at -3 dB.
            assert!((filter.bandwidth - 72.0).abs() < 2.0, "{}", filter.bandwidth);
            // Half of the sum of the window.
            assert!((filter.gain - 20.0 * 80f64.log10()).abs() < 0.1, "{}", filter.gain);
        }
        let coverage = bank.coverage(24);
        assert_eq!(coverage.iter().map(|band| band.filters).sum::<usize>(), 3);
        assert!(coverage.iter().all(|band| band.of_mel_bank == 0.125));
        assert!(coverage.iter().any(|band| band.low < 3000.0 && 3000.0 < band.high && band.filters == 1));
    }

    #[test]
    fn a_flat_response_has_its_centre_in_the_middle_and_the_whole_width() {
        let click = bank(&[vec![0.0, 2.0, 0.0]]);
        let filter = &click.filters[0];
        assert!((filter.centre - 4000.0).abs() < 1e-6 && (filter.bandwidth - 8000.0).abs() < 1e-6);
        assert!(click.summed_power().iter().all(|power| (power - 4.0).abs() < 1e-9));
    }

    #[test]
    fn filters_without_effect_are_last_and_not_alike() {
        let filters = [vec![0.0; 3], vec![f64::NAN, 1e-5, 0.0], vec![1.0, -1.0, 0.0], vec![1e-5, 0.0, 0.0]];
        let bank = bank(&filters);
        assert_eq!(bank.filters.iter().map(|f| (f.channel, f.dead)).collect::<Vec<_>>()[0], (2, false));
        assert_eq!((bank.alive().count(), bank.filters.iter().filter(|f| f.alike.is_some()).count()), (1, 0));
        assert!(bank.filters.iter().all(|f| f.centre.is_finite() && f.gain.is_finite()));
        assert!(bank.filters[1].relative_response(-40.0).iter().all(|level| level.is_finite()));
        // Measured: the second filter is never positive, though its weights are large.
        let (network, weights) = network(&[vec![1.0, 0.0], vec![-1.0, 0.5]], "");
        let measured = FilterBank::first_layer(&network, &weights, Some(&[0.5, 0.0])).unwrap();
        assert_eq!(measured.filters.iter().map(|f| f.dead).collect::<Vec<_>>(), [false, true]);
        let error = FilterBank::first_layer(&network, &weights, Some(&[0.5])).unwrap_err().to_string();
        assert!(error.contains("largest activations"), "{error}");
    }

    #[test]
    fn the_second_layer_is_composed_with_the_first() {
        let second = "stride = 2\ndilation = 3\npool = 3\npool_stride = 2\n[[block]]\nconv = 1\nkernel = 2\n";
        let (network, mut weights) = network(&[vec![1.0, 2.0], vec![0.0, 5.0]], second);
        let kernel = network.graph.parameters().into_iter().find(|p| p.name == "conv2.weight").unwrap();
        // [k, c_in, c_out]: tap 0 of both inputs, then tap 1.
        weights.params[kernel.offset..][..4].copy_from_slice(&[1.0, 10.0, 0.0, 100.0]);
        let bank = FilterBank::second_layer(&network, &weights, None).unwrap();
        // Rows of the second layer are 4 samples apart: h0 + 10 h1 + 100 h1 after 4 samples, with taps 3 samples apart.
        assert_eq!(bank.filters[0].taps, [1.0, 0.0, 0.0, 52.0, 0.0, 0.0, 0.0, 500.0]);
        assert_eq!(second_kernel(&network, &weights).unwrap().taps(0, 1).collect::<Vec<_>>(), [10.0, 100.0]);
    }

    #[test]
    fn unusual_networks_have_filters_or_a_reason() {
        let (network, weights) = network(&[vec![1.0, 2.0]], "");
        let reason = |network: &Network, weights: &Weights| {
            FilterBank::second_layer(network, weights, None).unwrap_err().to_string()
        };
        assert!(reason(&network, &weights).contains("only one convolution"));
        let other = Weights { params: weights.state.clone(), state: weights.state.clone() };
        assert!(FilterBank::first_layer(&network, &other, None).is_err());
        let text = "name = \"t\"\ninput = { length = 50, channels = 3, sample_rate = 100 }\nbatch_norm = true\n\
                    [[block]]\nconv = 4\nkernel = 5\nseparable = true\n[[block]]\nconv = 4\nkernel = 3\n";
        let separable = Network::build(&NetworkSpec::parse(text, "the test").unwrap(), 2).unwrap();
        let weights = Weights::initial(&separable.graph, Default::default(), 1);
        let bank = FilterBank::first_layer(&separable, &weights, None).unwrap();
        assert_eq!((bank.layer.as_str(), bank.filters.len(), bank.c_in, bank.rate), ("depthwise1", 3, 1, 100.0));
        assert!(reason(&separable, &weights).contains("depthwise-separable"));
    }

    #[test]
    fn changes_are_those_of_the_same_channel() {
        let (before, after) = (bank(&[cosine(500.0), cosine(3000.0)]), bank(&[cosine(4000.0), cosine(3000.0)]));
        let changes = after.changes_since(&before);
        assert_eq!(changes.iter().map(|change| change.channel).collect::<Vec<_>>(), [1, 0]);
        assert!((changes[0].similarity - 1.0).abs() < 1e-9 && changes[1].similarity.abs() < 0.01);
        assert!((changes[1].centre_before - 500.0).abs() < 2.0 && (changes[1].centre_after - 4000.0).abs() < 2.0);
    }
}
