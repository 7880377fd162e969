//! Augmentation: each time that a training clip is used, it is altered at random.
//!
//! The alterations of a clip, in their order: window of a longer clip, time shift and speed; gain and polarity; equaliser; noise; mask. Mixup then mixes the
//! finished clips of a batch. Each value is a function of the seed, the epoch, the clip and the kind of alteration. It therefore depends neither on threads nor
//! on where a run was resumed, and switching one alteration on leaves the values of the others as they are.

mod biquad;
mod mixup;
mod noise;
mod settings;
mod speed;

use crate::base::rng::{Key, Stream};

use super::clip::Format;
use super::dataset::Dataset;
use super::error::DataError;
use super::samples::Sample;
use biquad::{Biquad, Response};
use speed::Positions;

pub use noise::NoiseSource;
pub(super) use noise::{NoiseBank, no_noise_text, pieces};
pub use settings::Augment;

/// The kinds of random numbers of a clip.
#[derive(Clone, Copy)]
enum Draw {
    Window = 0,
    Shift = 1,
    Speed = 2,
    Gain = 3,
    Polarity = 4,
    Equaliser = 5,
    Noise = 6,
    Mask = 7,
    Mixup = 8,
}

/// The coordinate of the generated noise, beside the epochs.
const GENERATED: u64 = u64::MAX;
/// The first coordinate of steps, beside those of clips.
const STEPS: u64 = 1 << 32;

/// Memory that [`Augmenter::apply`] reuses from clip to clip.
#[derive(Clone, Debug, Default)]
pub struct AugmentWorkspace {
    /// The samples of a channel, or a row.
    values: Vec<f32>,
    /// The order of the rows in mixup.
    order: Vec<u32>,
}

/// Alters clips as an [`Augment`] says.
#[derive(Clone, Debug)]
pub struct Augmenter {
    augment: Augment,
    noise: NoiseBank,
    rate_hz: f64,
    channels: usize,
    key: Key,
}

impl Augmenter {
    /// An augmenter of the clips of `data`. Noise is read or generated only if `augment` adds noise. From an archive it is read in a pass of its own,
    /// which ends after its folder. If the data set has the class `_silence_`, whose validation and test segments are of the same recordings, only
    /// the stretch of each recording that is for training is added.
    ///
    /// # Errors
    /// A setting is outside of its range, or alters sound and `data` is a data set of arrays; or the folder of noise cannot be read or contains no recording that can be used.
    pub fn new(augment: Augment, noise: &NoiseSource, data: &Dataset, seed: u64) -> Result<Augmenter, DataError> {
        for (name, value) in [("noise", augment.noise), ("equaliser", augment.equaliser)] {
            if value > 0.0 && !data.is_sound() {
                return Err(DataError::AugmentsSound { name, data: data.source().into() });
            }
        }
        let mut augmenter = Augmenter::with_tracks(augment, Vec::new(), data.format(), seed)?;
        if augment.noise > 0.0 {
            augmenter.noise = match data.silence_noise(noise) {
                Some(of_training) => of_training,
                None => NoiseBank::load(noise, data, augmenter.key.with(GENERATED))?,
            };
        }
        Ok(augmenter)
    }

    /// An augmenter with noise in memory: mono tracks at the rate of `format`, full scale 32768. Without a track no noise is added.
    ///
    /// # Errors
    /// A setting is outside of its range, or `format` has no channels.
    pub fn with_tracks(
        augment: Augment,
        tracks: Vec<Vec<i16>>,
        format: Format,
        seed: u64,
    ) -> Result<Augmenter, DataError> {
        augment.check()?;
        let Format { rate_hz, channels } = format;
        if channels == 0 {
            return Err(DataError::BadSetting { what: "channel count", value: 0, min: 1, max: 64 });
        }
        Ok(Augmenter {
            augment,
            noise: NoiseBank::of(tracks),
            rate_hz: f64::from(rate_hz),
            channels: channels as usize,
            key: Key::new(seed, Stream::Augment),
        })
    }

    /// The settings.
    pub fn augment(&self) -> &Augment {
        &self.augment
    }

    /// What a user may want to know: that noise is generated because the data set has none.
    pub fn remark(&self) -> Option<&str> {
        self.noise.remark()
    }

    /// A hash of the background noise, which tells whether it is still the same when a run is resumed; none if no noise is added.
    pub fn noise_fingerprint(&self) -> Option<String> {
        self.noise.fingerprint()
    }

    /// Writes clip number `clip` as it is in `epoch` to `row`, `[length, channels]`, full scale 1.
    ///
    /// `samples` is `[frames, channels]`, full scale 32768 for 16-bit samples, of any length: what the row has beyond it is zero, and of a longer clip the row
    /// has the first frames, or a random window with [`Augment::random_crop`]. All channels are altered alike. Every result is finite.
    pub fn apply<T: Sample>(
        &self,
        epoch: u64,
        clip: u32,
        samples: &[T],
        row: &mut [f32],
        workspace: &mut AugmentWorkspace,
    ) {
        self.alter(&self.augment, (epoch, clip), samples, row, workspace);
    }

    /// Writes a segment of the class `_silence_`, which was drawn with a random position and gain, as it is in `epoch`: as [`Augmenter::apply`], but without
    /// shift, gain, mask and random window.
    pub(super) fn apply_to_silence<T: Sample>(
        &self,
        epoch: u64,
        clip: u32,
        samples: &[T],
        row: &mut [f32],
        workspace: &mut AugmentWorkspace,
    ) {
        let augment = Augment { shift: 0.0, gain: 0.0, mask: 0.0, random_crop: false, ..self.augment };
        self.alter(&augment, (epoch, clip), samples, row, workspace);
    }

    fn alter<T: Sample>(
        &self,
        augment: &Augment,
        (epoch, clip): (u64, u32),
        samples: &[T],
        row: &mut [f32],
        workspace: &mut AugmentWorkspace,
    ) {
        let Augment { gain, polarity, equaliser, noise, snr_low, snr_high, mask, mask_seconds, .. } = *augment;
        let key = |draw: Draw| self.clip_key(epoch, clip, draw);
        let gain = match gain > 0.0 {
            true => 10f64.powf(gain * centred(key(Draw::Gain)) / 20.0),
            false => 1.0,
        };
        let sign = if key(Draw::Polarity).uniform(0) < polarity { -1.0 } else { 1.0 };
        self.place(augment, key, (samples, (sign * gain) as f32 * T::SCALE), row, &mut workspace.values);
        if key(Draw::Equaliser).uniform(0) < equaliser {
            let response = Response::draw(key(Draw::Equaliser).with(0), self.rate_hz);
            Biquad::new(response, self.rate_hz).filter(row, self.channels);
        }
        if key(Draw::Noise).uniform(0) < noise {
            let snr_db = snr_low + (snr_high - snr_low) * key(Draw::Noise).uniform(1);
            self.noise.add(key(Draw::Noise).with(0), snr_db, gain, row, self.channels);
        }
        if key(Draw::Mask).uniform(0) < mask {
            let frames = row.len() / self.channels;
            let seconds = mask_seconds * (1.0 + 3.0 * key(Draw::Mask).uniform(1)) / 4.0;
            let len = ((seconds * self.rate_hz).round() as usize).min(frames);
            let start = key(Draw::Mask).below(2, (frames - len) as u64 + 1) as usize;
            row[start * self.channels..(start + len) * self.channels].fill(0.0);
        }
    }

    /// Writes the window of the clip to the row: shifted, at its speed, multiplied by `scale`.
    fn place<T: Sample>(
        &self,
        augment: &Augment,
        key: impl Fn(Draw) -> Key,
        (samples, scale): (&[T], f32),
        row: &mut [f32],
        buffer: &mut Vec<f32>,
    ) {
        let Augment { shift, speed, random_crop, .. } = *augment;
        let channels = self.channels;
        let (frames, have) = (row.len() / channels, samples.len() / channels);
        let window = match random_crop && have > frames {
            true => key(Draw::Window).below(0, (have - frames) as u64 + 1) as i64,
            false => 0,
        };
        let have = if random_crop { have } else { have.min(frames) };
        let largest = (shift * self.rate_hz).round() as u64;
        let shift = key(Draw::Shift).below(0, 2 * largest + 1) as i64 - largest as i64;
        if speed > 0.0 {
            // The middle of the row stays in its place.
            let middle = frames.saturating_sub(1) as f64 / 2.0;
            let factor = (centred(key(Draw::Speed)) * speed.ln_1p()).exp();
            let start = window as f64 + middle - (middle + shift as f64) * factor;
            let samples = &samples[..have * channels];
            return speed::interpolate((samples, channels), Positions { start, factor }, scale, row, buffer);
        }
        // Frame t of the row is frame t + offset of the clip.
        let offset = window - shift;
        let first = (-offset).clamp(0, frames as i64) as usize;
        let last = (have as i64 - offset).clamp(first as i64, frames as i64) as usize;
        let from = (first as i64 + offset).clamp(0, have as i64) as usize;
        let samples = &samples[from * channels..(from + last - first) * channels];
        row[..first * channels].fill(0.0);
        row[last * channels..].fill(0.0);
        let row = &mut row[first * channels..last * channels];
        row.iter_mut().zip(samples).for_each(|(x, &sample)| *x = sample.value() * scale);
    }

    /// Mixes the rows of a batch, `[n, ..]`, and their labels, `[n, classes]`, in place, if [`Augment::mixup`] is not 0.
    pub(super) fn mix(
        &self,
        (epoch, step): (u64, u64),
        clips: &[u32],
        (rows, labels): (&mut [f32], &mut [f32]),
        workspace: &mut AugmentWorkspace,
    ) {
        let alpha = self.augment.mixup;
        if alpha == 0.0 || clips.is_empty() {
            return;
        }
        let AugmentWorkspace { values, order } = workspace;
        self.key.with(epoch).with(STEPS + step).permute(clips.len(), order);
        let share = |i: usize| mixup::beta(self.clip_key(epoch, clips[i], Draw::Mixup), alpha) as f32;
        mixup::mix(rows, rows.len() / clips.len(), order, share, values);
        mixup::mix(labels, labels.len() / clips.len(), order, share, values);
    }

    fn clip_key(&self, epoch: u64, clip: u32, draw: Draw) -> Key {
        self.key.with(epoch).with(clip.into()).with(draw as u64)
    }
}

/// A number that is uniform in `[-1, 1)`.
fn centred(key: Key) -> f64 {
    2.0 * key.uniform(0) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::FULL_SCALE;

    const RATE: usize = 16_000;
    const NONE: Augment = Augment::NONE;
    const ALL: Augment = Augment {
        shift: 0.08,
        gain: 6.0,
        polarity: 0.5,
        equaliser: 0.5,
        noise: 0.5,
        speed: 0.1,
        mask: 0.3,
        random_crop: true,
        ..NONE
    };

    fn augmenter(augment: Augment, channels: u32) -> Augmenter {
        let key = Key::new(9, Stream::Case);
        let track = (0..40_000).map(|i| (3_000.0 * key.normal(i)) as i16).collect();
        Augmenter::with_tracks(augment, vec![track], Format { rate_hz: RATE as u32, channels }, 1).unwrap()
    }

    /// A clip without a zero, in 16 bits.
    fn clip(frames: usize) -> Vec<i16> {
        (0..frames).map(|t| (8_000.0 * (t as f64 * 0.05).sin()) as i16 | 1).collect()
    }

    fn row(augmenter: &Augmenter, epoch: u64, samples: &[i16], len: usize) -> Vec<f32> {
        let mut row = vec![f32::NAN; len];
        augmenter.apply(epoch, 3, samples, &mut row, &mut AugmentWorkspace::default());
        row
    }

    fn plain(samples: &[i16]) -> Vec<f32> {
        samples.iter().map(|&v| f32::from(v) * FULL_SCALE).collect()
    }

    #[test]
    fn without_alterations_a_row_is_the_samples() {
        let samples = clip(500);
        let augmenter = augmenter(NONE, 1);
        assert_eq!(row(&augmenter, 0, &samples, 500), plain(&samples));
        assert_eq!(row(&augmenter, 0, &samples, 300), plain(&samples[..300]));
        let padded: Vec<f32> = plain(&samples).into_iter().chain([0.0; 100]).collect();
        assert_eq!(row(&augmenter, 0, &samples, 600), padded);
    }

    #[test]
    fn shifts_are_whole_frames_within_their_limit_and_shift_zeros_in() {
        let samples = clip(400);
        let augmenter = augmenter(Augment { shift: 0.001, ..NONE }, 1);
        let mut shifts = std::collections::BTreeSet::new();
        for epoch in 0..400 {
            let row = row(&augmenter, epoch, &samples, 400);
            let shift = (-16..=16i64).find(|shift| {
                let of = |t: i64| usize::try_from(t - shift).ok().and_then(|t| samples.get(t)).map_or(0, |&v| v);
                row.iter().zip(0..).all(|(&x, t)| x == f32::from(of(t)) * FULL_SCALE)
            });
            shifts.insert(shift.expect("the row is the shifted clip"));
        }
        assert_eq!(shifts.len(), 33);
        // Shifted out entirely.
        let far = Augment { shift: 1.0, ..NONE };
        let far = (0..50).map(|epoch| row(&self::augmenter(far, 1), epoch, &samples[..9], 9)).collect::<Vec<_>>();
        assert!(far.iter().filter(|row| row.iter().all(|&x| x == 0.0)).count() > 40);
    }

    #[test]
    fn gain_and_polarity_scale_the_clip_within_their_limits() {
        let samples = clip(100);
        let augmenter = augmenter(Augment { gain: 6.0, polarity: 0.25, ..NONE }, 1);
        let (mut inverted, mut gains) = (0, Vec::new());
        for epoch in 0..2_000 {
            let row = row(&augmenter, epoch, &samples, 100);
            let ratio = row[50] / (f32::from(samples[50]) * FULL_SCALE);
            for (x, &sample) in row.iter().zip(&samples) {
                assert!((x - ratio * f32::from(sample) * FULL_SCALE).abs() < 1e-6);
            }
            inverted += u32::from(ratio < 0.0);
            gains.push(20.0 * f64::from(ratio.abs()).log10());
        }
        assert!(gains.iter().all(|db| db.abs() <= 6.0001));
        let mean = gains.iter().sum::<f64>() / 2_000.0;
        let variance = gains.iter().map(|db| db * db).sum::<f64>() / 2_000.0;
        assert!(mean.abs() < 0.4 && (variance - 12.0).abs() < 1.0, "uniform in dB: {mean} {variance}");
        assert!((400..600).contains(&inverted), "{inverted} of 2000 for a probability of 1/4");
    }

    #[test]
    fn speed_keeps_the_middle_and_has_its_limits() {
        // A pulse train with a period of 1000 frames around the middle.
        let mut samples = vec![0; 16_001];
        samples.iter_mut().step_by(1_000).for_each(|v| *v = 20_000);
        let augmenter = augmenter(Augment { speed: 0.1, ..NONE }, 1);
        let mut factors = Vec::new();
        for epoch in 0..200 {
            let row = row(&augmenter, epoch, &samples, 16_001);
            let after = (8_100..9_500).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            let before = (6_500..7_900).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            assert_eq!(row[8_000], 20_000.0 * FULL_SCALE);
            assert!((before + after).abs_diff(16_000) <= 1, "{before} {after}");
            factors.push(1_000.0 / (after - 8_000) as f64);
        }
        let (low, high) = (1.0 / 1.1 - 0.002, 1.1 + 0.002);
        assert!(factors.iter().all(|f| (low..high).contains(f)));
        assert!(factors.iter().any(|&f| f < 0.93) && factors.iter().any(|&f| f > 1.07));
    }

    #[test]
    fn a_mask_is_one_stretch_of_its_length() {
        let samples = clip(16_000);
        let augmenter = augmenter(Augment { mask: 0.5, mask_seconds: 0.2, ..NONE }, 1);
        let (mut masked, mut lengths) = (0, Vec::new());
        for epoch in 0..400 {
            let row = row(&augmenter, epoch, &samples, 16_000);
            let zeros = row.iter().filter(|&&x| x == 0.0).count();
            if zeros > 0 {
                let start = row.iter().position(|&x| x == 0.0).unwrap();
                assert!(row[start..start + zeros].iter().all(|&x| x == 0.0));
                masked += 1;
                lengths.push(zeros);
            }
        }
        assert!((150..250).contains(&masked), "{masked} of 400");
        assert!(lengths.iter().all(|len| (800..=3_200).contains(len)));
        assert!(lengths.iter().any(|&len| len < 1_000) && lengths.iter().any(|&len| len > 3_000));
        assert!(
            row(&augmenter, 0, &samples[..10], 10).iter().all(|x| x.is_finite()),
            "a mask is no longer than the row"
        );
    }

    #[test]
    fn a_random_window_of_a_longer_clip_is_contiguous_and_shifts_real_samples_in() {
        let samples: Vec<i16> = (0..40).collect();
        let mut starts = std::collections::BTreeSet::new();
        for (shift, possible) in [(0.0, 0..=30), (0.000_13, 0..=32)] {
            let augmenter = augmenter(Augment { random_crop: true, shift, ..NONE }, 1);
            for epoch in 0..500 {
                let row = row(&augmenter, epoch, &samples, 10);
                let inside: Vec<f32> = row.iter().copied().filter(|&x| x != 0.0).collect();
                assert!(inside.windows(2).all(|pair| pair[1] - pair[0] == FULL_SCALE));
                let start = (row[5] / FULL_SCALE) as i64 - 5;
                assert!((possible.start() - 2..=*possible.end()).contains(&start), "{start}");
                starts.insert(start);
            }
        }
        assert_eq!(starts.range(0..=30).count(), 31);
        assert!(starts.contains(&31) || starts.contains(&32), "the window can be shifted beyond the end");
    }

    #[test]
    fn switching_an_alteration_on_keeps_the_values_of_the_others() {
        let samples = clip(16_000);
        let shifted = augmenter(Augment { shift: 0.08, ..NONE }, 1);
        let masked = augmenter(Augment { shift: 0.08, mask: 1.0, polarity: 1.0, ..NONE }, 1);
        for epoch in 0..20 {
            let (a, b) = (row(&shifted, epoch, &samples, 16_000), row(&masked, epoch, &samples, 16_000));
            assert!(a.iter().zip(&b).all(|(&a, &b)| b == 0.0 || b == -a));
        }
    }

    #[test]
    fn every_input_gives_finite_numbers_whatever_was_in_the_buffers() {
        let extreme = Augment { gain: 60.0, snr_low: -100.0, snr_high: -100.0, speed: 1.0, shift: 60.0, ..ALL };
        let signals: [fn(usize) -> i16; 4] =
            [|_| 0, |_| i16::MAX, |_| i16::MIN, |t| if t % 2 == 0 { i16::MAX } else { i16::MIN }];
        for augment in [ALL, Augment { random_crop: false, ..ALL }, extreme] {
            for channels in [1, 2] {
                let augmenter = augmenter(augment, channels);
                let mut workspace = AugmentWorkspace::default();
                for (have, frames) in [(1, 1), (0, 1), (5, 0), (100, 1), (1, 100), (777, 100), (1_000, 1_000)] {
                    for (epoch, signal) in (0..100).zip(signals.iter().cycle()) {
                        let samples: Vec<i16> = (0..have * channels as usize).map(signal).collect();
                        let mut row = vec![f32::NAN; frames * channels as usize];
                        augmenter.apply(epoch, 0, &samples, &mut row, &mut workspace);
                        assert!(row.iter().all(|x| x.is_finite()), "{augment:?} {have} {frames} epoch {epoch}");
                        let mut again = vec![1e30; row.len()];
                        augmenter.apply(epoch, 0, &samples, &mut again, &mut AugmentWorkspace::default());
                        assert_eq!(row, again);
                    }
                }
            }
        }
    }

    #[test]
    fn equal_channels_stay_equal() {
        let samples: Vec<i16> = clip(4_000).iter().flat_map(|&v| [v; 3]).collect();
        for augment in [ALL, Augment { speed: 0.0, ..ALL }] {
            let (one, three) = (augmenter(augment, 1), augmenter(augment, 3));
            for epoch in 0..50 {
                let wide = row(&three, epoch, &samples, 9_000);
                let mono = row(&one, epoch, &clip(4_000), 3_000);
                for (frame, x) in wide.chunks(3).zip(mono) {
                    assert!(frame.iter().all(|y| (y - x).abs() < 1e-5), "{epoch}");
                }
            }
        }
    }
}
