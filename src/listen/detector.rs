//! From the probabilities of successive windows to events: one for each spoken word.
//!
//! 1. **Smoothing**: the probabilities are averaged over the last windows ([`Manifest::smoothing_ms`]).
//! 2. **Candidate**: a candidate begins with the first window in which the averaged probability of a word reaches its threshold. It is decided [`Manifest::decision_ms`] later. In the meantime the beginning of a word may look like another word: the word with the largest sum of averaged probabilities is the one.
//! 3. **Refractory time**: after an event the same sound stays in the following windows, and its end may look like another word. For [`Manifest::refractory_ms`] after the event's last window,
//!    and until no word reaches its threshold, there is no other candidate.

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
    /// Windows after an event without another.
    refractory: u64,
    recent: VecDeque<Vec<f64>>,
    average: Vec<f64>,
    state: State,
}

enum State {
    /// No word.
    Waiting,
    /// A word reached its threshold.
    Candidate {
        since: u64,
        /// For each word the sum of its averaged probabilities.
        sums: Vec<f64>,
        /// For each word the largest averaged probability and its window.
        most: Vec<(f64, u64)>,
    },
    /// After an event, until this window at least.
    Refractory { until: u64 },
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
            state: State::Waiting,
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
        let detected = self.average.iter().zip(&self.thresholds).any(|(p, threshold)| p >= threshold);
        match &mut self.state {
            State::Refractory { until } if detected || window < *until => return None,
            State::Refractory { .. } => self.state = State::Waiting,
            State::Waiting if !detected => return None,
            _ => {}
        }
        if detected && let State::Waiting = self.state {
            let classes = self.average.len();
            self.state = State::Candidate { since: window, sums: vec![0.0; classes], most: vec![(0.0, 0); classes] };
        }
        if let State::Candidate { since, sums, most } = &mut self.state {
            for ((sum, most), &p) in sums.iter_mut().zip(most).zip(&self.average) {
                *sum += p;
                if p > most.0 {
                    *most = (p, window);
                }
            }
            if window - *since >= self.decision {
                return self.decide(window);
            }
        }
        None
    }

    /// Ends the stream, and returns the word that waited for its decision.
    pub fn finish(&mut self) -> Option<Detection> {
        self.decide(0)
    }

    /// Decides the candidate at window `now`.
    fn decide(&mut self, now: u64) -> Option<Detection> {
        let State::Candidate { sums, most, .. } = &self.state else { return None };
        let reached = (0..sums.len()).filter(|&c| most[c].0 >= self.thresholds[c]);
        let word = reached.max_by(|&a, &b| sums[a].total_cmp(&sums[b]).then(b.cmp(&a)))?;
        let (probability, window) = most[word];
        self.state = State::Refractory { until: now + self.refractory };
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
    fn a_quiet_window_counts_as_no_word() {
        let mut detector = detector(&["yes", "no"]);
        assert!((0..100).all(|w| detector.push(w, None).is_none()));
        assert_eq!(detector.finish(), None);
    }
}
