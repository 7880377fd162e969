//! A long recording made of clips and noise, of which is known what is spoken when.

use crate::base::rng::{Key, Stream};
use crate::listen::extent;
use std::collections::VecDeque;

/// Seconds of a scene: a stretch with one background.
const SCENE: f64 = 20.0;
/// Shortest and longest pause before a clip, in seconds.
const PAUSE: [f64; 2] = [0.5, 2.0];
/// Seconds over which a background begins and ends.
const FADE: f64 = 0.02;
/// Clips whose level is measured.
const MEASURED: usize = 200;

/// What a recording is made of.
pub struct Material<'a> {
    /// The word of each clip; none if it is not one of the network's.
    pub words: Vec<Option<usize>>,
    /// The samples of a clip, at the network's rate.
    pub samples: Box<dyn Fn(usize) -> Vec<f32> + 'a>,
    /// Recordings of background noise, at the network's rate; none of them is empty.
    pub noise: Vec<Vec<f32>>,
}

/// How a recording is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordingSettings {
    /// The network's sample rate.
    pub rate_hz: u32,
    /// At least as long, in samples; the last scene is completed.
    pub samples: u64,
    /// Everything random follows from it.
    pub seed: u64,
    /// Smallest and largest signal-to-noise ratio in decibels: of the median level of the words to that of the background of a scene.
    pub snr_db: [f64; 2],
}

/// A clip in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// Its word; none if it is not one of the network's.
    pub word: Option<usize>,
    /// The number of the clip.
    pub clip: usize,
    /// Where its sound begins, in samples from the start of the recording.
    pub start: u64,
    /// Where its sound ends.
    pub end: u64,
}

/// A recording that is made scene by scene, so that hours of it need little memory. The same settings and material give the same recording.
pub struct Recording<'a> {
    material: &'a Material<'a>,
    settings: RecordingSettings,
    /// The clips of each word, and those of other words.
    of_word: Vec<Vec<usize>>,
    others: Vec<usize>,
    /// Root mean square of a word of median level.
    level: f64,
    scene: u64,
    at: u64,
    spoken: VecDeque<Spoken>,
}

impl<'a> Recording<'a> {
    /// The recording of these settings.
    pub fn new(material: &'a Material<'a>, settings: RecordingSettings) -> Recording<'a> {
        let words = material.words.iter().flatten().max().map_or(0, |&most| most + 1);
        let of = |word: Option<usize>| -> Vec<usize> {
            (0..material.words.len()).filter(|&clip| material.words[clip] == word).collect()
        };
        let of_word: Vec<Vec<usize>> =
            (0..words).map(|word| of(Some(word))).filter(|clips| !clips.is_empty()).collect();
        let level = level(material, &of_word.concat(), settings.rate_hz);
        let others = of(None);
        Recording { material, settings, of_word, others, level, scene: 0, at: 0, spoken: VecDeque::new() }
    }

    /// What is spoken in the scenes so far that was not taken yet.
    pub fn take_spoken(&mut self) -> Vec<Spoken> {
        self.spoken.drain(..).collect()
    }

    /// The samples of the next scene; none at the end.
    pub fn next_scene(&mut self) -> Option<Vec<f32>> {
        if self.at >= self.settings.samples || self.of_word.is_empty() && self.others.is_empty() {
            return None;
        }
        let rate = f64::from(self.settings.rate_hz);
        let key = Key::new(self.settings.seed, Stream::Recording).with(self.scene);
        self.scene += 1;
        let mut scene: Vec<f32> = Vec::new();
        for item in 0.. {
            if scene.len() as f64 > SCENE * rate {
                break;
            }
            let key = key.with(item);
            let pause = PAUSE[0] + (PAUSE[1] - PAUSE[0]) * key.uniform(0);
            scene.resize(scene.len() + (pause * rate) as usize, 0.0);
            let clip = self.clip(key);
            let samples = (self.material.samples)(clip);
            let within = extent(&samples, self.settings.rate_hz);
            let begins = self.at + scene.len() as u64;
            let (start, end) = (begins + within.start as u64, begins + within.end as u64);
            self.spoken.push_back(Spoken { word: self.material.words[clip], clip, start, end });
            scene.extend(samples);
        }
        self.add_noise(key.with(u64::MAX), &mut scene);
        self.at += scene.len() as u64;
        Some(scene)
    }

    /// A word or another word, each as often; every word as often as every other.
    fn clip(&self, key: Key) -> usize {
        let other = self.of_word.is_empty() || !self.others.is_empty() && key.uniform(1) < 0.5;
        let clips = match other {
            true => &self.others,
            false => &self.of_word[key.below(2, self.of_word.len() as u64) as usize],
        };
        clips[key.below(3, clips.len() as u64) as usize]
    }

    fn add_noise(&self, key: Key, scene: &mut [f32]) {
        if self.material.noise.is_empty() {
            return;
        }
        let track = &self.material.noise[key.below(0, self.material.noise.len() as u64) as usize];
        let power = track.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / track.len() as f64;
        let [low, high] = self.settings.snr_db;
        let snr = 10f64.powf((low + (high - low) * key.uniform(1)) / 20.0);
        let gain = self.level / snr / power.sqrt().max(1e-9);
        let begins = key.below(2, track.len() as u64) as usize;
        let fade = (FADE * f64::from(self.settings.rate_hz)).max(1.0);
        let len = scene.len();
        for (i, x) in scene.iter_mut().enumerate() {
            let edge = ((i.min(len - 1 - i) as f64 + 1.0) / fade).min(1.0);
            *x += (f64::from(track[(begins + i) % track.len()]) * gain * edge) as f32;
        }
    }
}

/// The median root mean square of the words, each where it sounds.
fn level(material: &Material<'_>, clips: &[usize], rate_hz: u32) -> f64 {
    let step = clips.len().div_ceil(MEASURED).max(1);
    let level = |&clip: &usize| {
        let samples = (material.samples)(clip);
        let sound = &samples[extent(&samples, rate_hz)];
        (sound.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / sound.len().max(1) as f64).sqrt()
    };
    let mut levels: Vec<f64> = clips.iter().step_by(step).map(level).collect();
    levels.sort_by(f64::total_cmp);
    levels.get(levels.len() / 2).copied().unwrap_or(0.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(_: usize) -> Vec<f32> {
        (0..8_000).map(|i| if (2_000..6_000).contains(&i) { (i as f32 * 0.4).sin() * 0.5 } else { 0.0 }).collect()
    }

    fn settings(snr: f64) -> RecordingSettings {
        RecordingSettings { rate_hz: 8_000, samples: 400_000, seed: 3, snr_db: [snr, snr] }
    }

    fn made(material: &Material<'_>, snr: f64) -> (Vec<f32>, Vec<Spoken>) {
        let mut recording = Recording::new(material, settings(snr));
        let mut all = Vec::new();
        while let Some(scene) = recording.next_scene() {
            all.extend(scene);
        }
        (all, recording.take_spoken())
    }

    #[test]
    fn the_sound_is_where_the_list_says_and_the_noise_as_loud_as_asked() {
        let quiet = Material { words: vec![Some(0), Some(1), None], samples: Box::new(burst), noise: Vec::new() };
        let (clean, spoken) = made(&quiet, 10.0);
        assert!(clean.len() >= 400_000 && spoken.len() > 20);
        for word in [Some(0), Some(1), None] {
            assert!(spoken.iter().any(|s| s.word == word));
        }
        for s in &spoken {
            assert!((s.end - s.start).abs_diff(4_000) <= 160, "{s:?}");
            assert!(clean[s.start as usize..s.end as usize].iter().any(|x| x.abs() > 0.4));
        }
        let noise = vec![(0..5_000).map(|i| ((i * 7919 % 997) as f32 / 997.0 - 0.5) * 0.1).collect()];
        let (noisy, again) = made(&Material { noise, ..quiet }, 10.0);
        assert_eq!(spoken, again);
        let power = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>();
        let noise = power(&mut noisy.iter().zip(&clean).map(|(a, b)| a - b)) / noisy.len() as f64;
        let snr = 10.0 * (0.125 / noise).log10(); // a sine of amplitude 0.5 has the power 0.125
        assert!((snr - 10.0).abs() < 0.3, "{snr}");
    }
}
