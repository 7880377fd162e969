//! From the probabilities of successive windows to events: one for each spoken word.
//!
//! 1. **Smoothing**: the probabilities are averaged over the last windows ([`Manifest::smoothing_ms`]).
//! 2. **Candidate**: a candidate begins with the first window in which the averaged probability of a word reaches its threshold, and is decided [`Manifest::decision_ms`] later. In the meantime the
//!    beginning of a word may look like another word: of the words that reached their thresholds, the one with the largest sum of averaged probabilities is the one.
//! 3. **Refractory time**: the same sound stays in the following windows, and its end may look like another word. No candidate begins within [`Manifest::refractory_ms`] of the beginning of the last
//!    one, and none of the same word before its averaged probability has fallen below the threshold.

use super::manifest::Manifest;
use crate::base::Name;
use std::collections::VecDeque;

/// A word that was recognised in a stream, in windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// The number of the word.
    pub word: usize,
    /// Its largest averaged probability.
    pub probability: f64,
    /// The window with this probability.
    pub window: u64,
}

/// Finds words in the probabilities of successive windows.
pub struct Detector {
    thresholds: Vec<f64>,
    /// Windows that are averaged.
    smoothing: usize,
    /// Windows from the start of a candidate to its decision.
    decision: u64,
    /// Windows from the beginning of a candidate to that of the next.
    refractory: u64,
    recent: VecDeque<Vec<f64>>,
    average: Vec<f64>,
    candidate: Option<Candidate>,
    /// The first window in which a candidate may begin.
    free: u64,
    /// The word of the last event, until it falls below its threshold.
    last: Option<usize>,
}

/// A sound that is a word, and it is not decided which.
struct Candidate {
    /// The window in which a word reached its threshold.
    since: u64,
    /// For each word the sum of its averaged probabilities.
    sums: Vec<f64>,
    /// For each word the largest averaged probability and its window.
    most: Vec<(f64, u64)>,
}

/// Whether a class is none of the words: those that `train --unknown` and `--silence` add.
pub fn is_word(class: &Name) -> bool {
    !matches!(class.as_str(), Some("_unknown_" | "_silence_"))
}

impl Detector {
    /// A detector with the settings of `manifest` for windows that follow one another by `hop_s` seconds.
    pub fn new(manifest: &Manifest, hop_s: f64) -> Detector {
        let windows = |ms: f64| (ms / 1000.0 / hop_s).round();
        // What is no word reaches no threshold.
        let threshold = |word: &Name| if is_word(word) { manifest.threshold_of(word) } else { f64::INFINITY };
        Detector {
            thresholds: manifest.words.iter().map(threshold).collect(),
            smoothing: windows(manifest.smoothing_ms).max(1.0) as usize,
            decision: windows(manifest.decision_ms) as u64,
            refractory: windows(manifest.refractory_ms) as u64,
            recent: VecDeque::new(),
            average: vec![0.0; manifest.words.len()],
            candidate: None,
            free: 0,
            last: None,
        }
    }

    /// Takes the probabilities of window `window`, or none if the window is quiet, and returns a word whose decision falls in it.
    pub fn push(&mut self, window: u64, probabilities: Option<&[f64]>) -> Option<Detection> {
        let silence = || vec![0.0; self.average.len()];
        self.recent.push_back(probabilities.map_or_else(silence, <[f64]>::to_vec));
        if self.recent.len() > self.smoothing {
            self.recent.pop_front();
        }
        // Summed anew each time: differences would accumulate rounding.
        for (class, average) in self.average.iter_mut().enumerate() {
            *average = self.recent.iter().map(|of| of[class]).sum::<f64>() / self.smoothing as f64;
        }
        if self.last.is_some_and(|last| self.average[last] < self.thresholds[last]) {
            self.last = None;
        }
        let last = self.last;
        let open = move |class: &usize| Some(*class) != last;
        let classes = self.average.len();
        let reached = (0..classes).filter(open).any(|class| self.average[class] >= self.thresholds[class]);
        if self.candidate.is_none() && reached && window >= self.free {
            self.candidate = Some(Candidate { since: window, sums: vec![0.0; classes], most: vec![(0.0, 0); classes] });
        }
        let Candidate { since, sums, most } = self.candidate.as_mut()?;
        for class in (0..classes).filter(open) {
            let p = self.average[class];
            sums[class] += p;
            if p > most[class].0 {
                most[class] = (p, window);
            }
        }
        if window - *since >= self.decision { self.finish() } else { None }
    }

    /// Ends the stream, and returns the word that waited for its decision.
    pub fn finish(&mut self) -> Option<Detection> {
        let Candidate { since, sums, most } = self.candidate.take()?;
        let reached = (0..sums.len()).filter(|&c| most[c].0 >= self.thresholds[c]);
        let word = reached.max_by(|&a, &b| sums[a].total_cmp(&sums[b]).then(b.cmp(&a)))?;
        let (probability, window) = most[word];
        (self.free, self.last) = (since + self.refractory, Some(word));
        Some(Detection { word, probability, window })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detector(words: &[&str]) -> Detector {
        let words = words.iter().map(|word| Name::from_bytes(word.as_bytes())).collect();
        Detector::new(&Manifest::new(words, 16_000), 0.02)
    }

    /// The detections in windows whose probabilities `of` gives.
    fn run(detector: &mut Detector, windows: u64, of: impl Fn(u64) -> Vec<f64>) -> Vec<Detection> {
        let mut all: Vec<Detection> = (0..windows).filter_map(|w| detector.push(w, Some(&of(w)))).collect();
        all.extend(detector.finish());
        all
    }

    #[test]
    fn a_plateau_is_one_event_and_two_plateaus_are_two() {
        let of =
            |w: u64| if (50..80).contains(&w) || (150..180).contains(&w) { vec![0.95, 0.05] } else { vec![0.5; 2] };
        let events = run(&mut detector(&["yes", "no"]), 300, of);
        assert_eq!(events.iter().map(|e| e.word).collect::<Vec<_>>(), [0, 0]);
        assert!((50..80).contains(&events[0].window) && (150..180).contains(&events[1].window), "{events:?}");
        assert!((events[0].probability - 0.95).abs() < 1e-9);
    }

    #[test]
    fn the_beginning_and_the_end_of_a_word_that_look_like_others_are_no_events() {
        let of = |w: u64| match w {
            40..47 => vec![0.9, 0.1, 0.0],
            47..75 => vec![0.0, 1.0, 0.0],
            75..90 => vec![0.0, 0.1, 0.9],
            _ => vec![0.3; 3],
        };
        let events = run(&mut detector(&["sit", "six", "kiss"]), 200, of);
        assert_eq!(events.iter().map(|e| e.word).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn the_end_of_the_stream_decides_what_waits_and_classes_that_are_no_words_are_no_events() {
        let mut detector = detector(&["yes", "_unknown_", "_silence_"]);
        assert_eq!(run(&mut detector, 100, |w| if w < 50 { vec![0.0, 1.0, 0.0] } else { vec![0.0, 0.0, 1.0] }), []);
        assert_eq!(run(&mut detector, 10, |_| vec![1.0, 0.0, 0.0]).len(), 1);
    }

    #[test]
    fn another_word_follows_soon_and_the_same_word_only_after_a_pause() {
        let soon = |w: u64| {
            if w < 50 {
                vec![0.99, 0.01]
            } else if w < 100 {
                vec![0.01, 0.99]
            } else {
                vec![0.5; 2]
            }
        };
        let events = run(&mut detector(&["yes", "no"]), 150, soon);
        assert_eq!(events.iter().map(|e| e.word).collect::<Vec<_>>(), [0, 1]);
        let long = |w: u64| if w < 200 { vec![0.99, 0.01] } else { vec![0.5; 2] };
        assert_eq!(run(&mut detector(&["yes", "no"]), 300, long).len(), 1);
    }

    #[test]
    fn a_quiet_window_counts_as_no_word() {
        let mut detector = detector(&["yes", "no"]);
        assert!((0..100).all(|w| detector.push(w, None).is_none()));
        assert_eq!(detector.finish(), None);
    }
}
