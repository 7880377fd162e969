//! Single words in a stream of sound, as somebody speaks them one after another to make recordings.

use super::extent::extent;
use std::collections::VecDeque;

/// Frames of a second whose levels are compared.
const FRAMES_PER_SECOND: usize = 100;
/// Decibels above the background that begin a take.
const ABOVE: f64 = 12.0;
/// The level in decibels relative to full scale that a take must reach.
const LEAST: f64 = -50.0;
/// Frames below the level that end a take: the closure of a plosive is shorter.
const PAUSE: usize = 30;
/// Fewest frames of a take: a click is shorter.
const SHORTEST: usize = 8;
/// Frames from which the level of the background follows: three seconds.
const BACKGROUND: usize = 300;
/// Frames before and after a take in which the word may be, below the level that begins a take.
const MARGIN: usize = 15;
/// Fewest frames before the background is known.
const KNOWN: usize = 20;

/// One spoken word.
#[derive(Clone, Debug, PartialEq)]
pub struct Take {
    /// The samples of a window, with the word in its middle.
    pub samples: Vec<f32>,
    /// Samples of the word.
    pub length: usize,
    /// Its largest absolute value; 1 is full scale.
    pub peak: f32,
    /// Whether the word is longer than the window, and therefore cut off.
    pub too_long: bool,
}

/// Finds single words in a stream, each between pauses.
pub struct TakeFinder {
    rate_hz: u32,
    window: usize,
    frame: usize,
    /// The last samples, and the index of the first of them in the stream.
    samples: Vec<f32>,
    at: usize,
    /// Frames so far.
    frames: usize,
    background: VecDeque<f64>,
    /// The first frame of a take, and the last loud one.
    take: Option<(usize, usize)>,
    /// Takes whose window has not arrived as a whole.
    ended: VecDeque<(usize, usize)>,
    level: f64,
}

impl TakeFinder {
    /// A finder for windows of `window` samples at this rate.
    pub fn new(rate_hz: u32, window: usize) -> TakeFinder {
        let frame = (rate_hz as usize / FRAMES_PER_SECOND).max(1);
        TakeFinder {
            rate_hz,
            window,
            frame,
            samples: Vec::new(),
            at: 0,
            frames: 0,
            background: VecDeque::new(),
            take: None,
            ended: VecDeque::new(),
            level: -200.0,
        }
    }

    /// The level of the last 10 ms, in decibels relative to full scale.
    pub fn level_db(&self) -> f64 {
        self.level
    }

    /// Takes the next samples, and returns the words that end in them.
    pub fn push(&mut self, samples: &[f32]) -> Vec<Take> {
        self.samples.extend_from_slice(samples);
        let mut takes = Vec::new();
        while (self.frames + 1) * self.frame <= self.at + self.samples.len() {
            let frame = &self.samples[self.frames * self.frame - self.at..][..self.frame];
            let power = frame.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / self.frame as f64;
            self.level = 10.0 * power.max(1e-20).log10();
            self.next_frame();
            self.frames += 1;
            // The middle of the word is at most its last frame.
            let after = self.window / 2 / self.frame + MARGIN + 2;
            while let Some(&(first, last)) = self.ended.front()
                && self.frames > last + after
            {
                self.ended.pop_front();
                takes.extend(self.made(first, last));
            }
        }
        // A window before the current take is kept.
        let first = self.ended.front().copied().or(self.take);
        let from = first.map_or(self.frames, |(first, _)| first) * self.frame;
        let unused = from.saturating_sub(self.window + self.at);
        if unused > self.window {
            self.samples.drain(..unused);
            self.at += unused;
        }
        takes
    }

    /// Ends the stream, and returns the words in its rest.
    pub fn finish(mut self) -> Vec<Take> {
        let ended: Vec<(usize, usize)> = self.ended.drain(..).chain(self.take.take()).collect();
        ended.into_iter().filter_map(|(first, last)| self.made(first, last)).collect()
    }

    fn next_frame(&mut self) {
        let loud = self.background.len() >= KNOWN && self.level >= (self.background_db() + ABOVE).max(LEAST);
        match (&mut self.take, loud) {
            (None, true) => self.take = Some((self.frames, self.frames)),
            (Some((_, last)), true) => *last = self.frames,
            (Some((first, last)), false) if self.frames - *last >= PAUSE => {
                self.ended.push_back((*first, *last));
                self.take = None;
            }
            (Some(_), false) => {}
            (None, false) => {
                self.background.push_back(self.level);
                if self.background.len() > BACKGROUND {
                    self.background.pop_front();
                }
            }
        }
    }

    /// The median level of the frames outside of words.
    fn background_db(&self) -> f64 {
        let mut levels: Vec<f64> = self.background.iter().copied().collect();
        levels.sort_by(f64::total_cmp);
        levels.get(levels.len() / 2).copied().unwrap_or(0.0)
    }

    /// The take of these frames, if it is not too short.
    fn made(&mut self, first: usize, last: usize) -> Option<Take> {
        if last + 1 - first < SHORTEST {
            return None;
        }
        // The soft beginning and end of a word are below the level that begins a take.
        let margin = self.frame * MARGIN;
        let begins = (first * self.frame).saturating_sub(margin).max(self.at);
        let ends = ((last + 1) * self.frame + margin).min(self.at + self.samples.len());
        let around = &self.samples[begins - self.at..ends - self.at];
        let within = extent(around, self.rate_hz);
        let word = &around[within.clone()];
        let peak = word.iter().fold(0f32, |most, x| most.max(x.abs()));
        let middle = begins + (within.start + within.end) / 2;
        let mut samples = vec![0.0; self.window];
        for (i, x) in samples.iter_mut().enumerate() {
            let at = (middle + i).checked_sub(self.window / 2 + self.at);
            *x = at.and_then(|at| self.samples.get(at)).copied().unwrap_or(0.0);
        }
        Some(Take { samples, length: word.len(), peak, too_long: word.len() > self.window })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quiet background with bursts at these places.
    fn sound(len: usize, bursts: &[(usize, usize)]) -> Vec<f32> {
        let mut samples: Vec<f32> = (0..len).map(|i| ((i * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.002).collect();
        for &(at, length) in bursts {
            (at..at + length).for_each(|i| samples[i] += (i as f32 * 0.3).sin() * 0.3);
        }
        samples
    }

    #[test]
    fn each_word_is_one_take_in_the_middle_of_its_window_whatever_the_pieces() {
        let sound = sound(80_000, &[(20_000, 5_000), (50_000, 8_000)]);
        let of = |size: usize| -> Vec<Take> {
            let mut finder = TakeFinder::new(16_000, 16_000);
            let mut takes: Vec<Take> = sound.chunks(size).flat_map(|piece| finder.push(piece)).collect();
            takes.extend(finder.finish());
            takes
        };
        let takes = of(80_000);
        assert_eq!(takes.iter().map(|take| take.samples.len()).collect::<Vec<_>>(), [16_000, 16_000]);
        for (take, length) in takes.iter().zip([5_000usize, 8_000]) {
            assert!(take.length.abs_diff(length) <= 480 && !take.too_long, "{} {length}", take.length);
            let loud: Vec<usize> = (0..16_000).filter(|&i| take.samples[i].abs() > 0.1).collect();
            let middle = (loud[0] + loud[loud.len() - 1]) / 2;
            assert!(middle.abs_diff(8_000) <= 240, "{middle}");
        }
        for size in [1_279, 160, 333] {
            assert_eq!(of(size), takes);
        }
    }

    #[test]
    fn a_click_and_silence_are_no_takes_and_a_long_word_is_marked() {
        let mut finder = TakeFinder::new(16_000, 16_000);
        assert!(finder.push(&sound(60_000, &[(20_000, 300)])).is_empty());
        assert!(finder.push(&[0.0; 20_000]).is_empty());
        let takes = finder.push(&sound(80_000, &[(20_000, 30_000)]));
        assert_eq!(takes.len(), 1);
        assert!(takes[0].too_long);
    }
}
