//! The probabilities of every window of a recording, and what a detector makes of them.

use super::recording::{Recording, Spoken};
use crate::listen::{Detection, Detector, ListenError, Manifest, Recogniser, StreamOptions};
use crate::train::softmax;

/// The outputs of a network for a recording.
pub struct Outputs {
    classes: usize,
    /// Samples from window to window, of a window, and before the recording.
    hop: u64,
    window: u64,
    lead: u64,
    rate_hz: u32,
    /// Probabilities, `[windows, classes]`; NaN in quiet windows.
    probabilities: Vec<f32>,
    /// What was spoken, in order.
    pub spoken: Vec<Spoken>,
    /// Samples of the recording.
    pub samples: u64,
}

/// Why a word that was not spoken was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A word of the network was spoken: another one, or the same was detected twice.
    Word,
    /// Another word was spoken.
    OtherWord,
    /// Nothing was spoken.
    Noise,
}

/// A word that was detected and not spoken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FalseAlarm {
    /// What was detected.
    pub detection: Detection,
    /// What was there instead.
    pub cause: Cause,
    /// The first sample of the window, in samples from the start of the recording; negative before it.
    pub start: i64,
}

/// Words that were spoken, detected, and detected without being spoken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// For each class how often it was spoken.
    pub spoken: Vec<u64>,
    /// For each class how often it was spoken and detected.
    pub detected: Vec<u64>,
    /// What was detected and not spoken.
    pub false_alarms: Vec<FalseAlarm>,
    /// The length of the recording.
    pub hours: f64,
}

impl Tally {
    /// Words that were spoken, and those of them that were detected.
    pub fn recall(&self) -> [u64; 2] {
        [self.spoken.iter().sum(), self.detected.iter().sum()]
    }

    /// False alarms of a class.
    pub fn false_alarms_of(&self, class: usize) -> u64 {
        self.false_alarms.iter().filter(|alarm| alarm.detection.word == class).count() as u64
    }

    /// False alarms with a cause.
    pub fn caused_by(&self, cause: Cause) -> u64 {
        self.false_alarms.iter().filter(|alarm| alarm.cause == cause).count() as u64
    }
}

impl Outputs {
    /// Listens to a recording. `progress` is called with the samples so far, and ends the recording by returning false.
    ///
    /// # Errors
    /// The stream cannot be begun, or a sample is not finite.
    pub fn listen(
        recogniser: &Recogniser,
        recording: &mut Recording<'_>,
        options: &StreamOptions,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Outputs, ListenError> {
        let rate_hz = recogniser.rate_hz();
        let mut stream = recogniser.stream_with(rate_hz, options)?;
        let (hop, window) = (stream.sharing().hop as u64, stream.sharing().window as u64);
        let classes = recogniser.manifest.words.len();
        let mut detected = Outputs {
            classes,
            hop,
            window,
            lead: window - hop,
            rate_hz,
            // Windows that begin before the recording and end in it are reported with its first samples.
            probabilities: Vec::new(),
            spoken: Vec::new(),
            samples: 0,
        };
        let probabilities = &mut detected.probabilities;
        let mut keep = |output: crate::listen::WindowOutput<'_>| {
            probabilities.resize(output.number as usize * classes, f32::NAN);
            match output.quiet {
                true => probabilities.extend(std::iter::repeat_n(f32::NAN, classes)),
                false => probabilities.extend(softmax(output.logits).into_iter().map(|p| p as f32)),
            }
        };
        while let Some(scene) = recording.next_scene() {
            detected.samples += scene.len() as u64;
            detected.spoken.extend(recording.take_spoken());
            stream.push_with(&scene, &mut keep)?;
            if !progress(detected.samples) {
                break;
            }
        }
        stream.finish_with(&mut keep)?;
        Ok(detected)
    }

    /// The words that are detected with these settings.
    pub fn detections(&self, manifest: &Manifest) -> Vec<Detection> {
        let mut detector = Detector::new(manifest, self.hop as f64 / f64::from(self.rate_hz));
        let mut window = vec![0.0; self.classes];
        let mut found = Vec::new();
        for (number, probabilities) in self.probabilities.chunks_exact(self.classes).enumerate() {
            window.iter_mut().zip(probabilities).for_each(|(to, &from)| *to = f64::from(from));
            found.extend(detector.push(number as u64, (!window[0].is_nan()).then_some(&window[..])));
        }
        found.extend(detector.finish());
        found
    }

    /// Compares what is detected with these settings to what was spoken. A word was detected if it is detected in a window with at least half of its sound.
    pub fn tally(&self, manifest: &Manifest) -> Tally {
        let mut tally = Tally {
            spoken: vec![0; self.classes],
            detected: vec![0; self.classes],
            false_alarms: Vec::new(),
            hours: self.samples as f64 / f64::from(self.rate_hz) / 3600.0,
        };
        self.spoken.iter().filter_map(|spoken| spoken.word).for_each(|word| tally.spoken[word] += 1);
        let mut taken = vec![false; self.spoken.len()];
        for detection in self.detections(manifest) {
            let start = (detection.window * self.hop) as i64 - self.lead as i64;
            let end = start + self.window as i64;
            let half = |s: &Spoken| {
                let within = (s.end as i64).min(end) - (s.start as i64).max(start);
                within * 2 >= (s.end - s.start) as i64
            };
            let first = self.spoken.partition_point(|s| (s.end as i64) <= start);
            let there: Vec<usize> = (first..self.spoken.len())
                .take_while(|&i| (self.spoken[i].start as i64) < end)
                .filter(|&i| half(&self.spoken[i]))
                .collect();
            let same = |&i: &usize| self.spoken[i].word == Some(detection.word) && !taken[i];
            if let Some(i) = there.iter().copied().find(same) {
                taken[i] = true;
                tally.detected[detection.word] += 1;
                continue;
            }
            let cause = match there.iter().any(|&i| self.spoken[i].word.is_some()) {
                true => Cause::Word,
                false if there.is_empty() => Cause::Noise,
                false => Cause::OtherWord,
            };
            tally.false_alarms.push(FalseAlarm { detection, cause, start });
        }
        tally
    }

    /// The sound of windows that begin at these samples, in ascending order, from the same recording made again; each with its number in `starts`.
    pub fn sounds(&self, recording: &mut Recording<'_>, starts: &[i64], each: &mut dyn FnMut(usize, &[f32])) {
        let (mut kept, mut at, mut next) = (vec![0.0; self.window as usize], -(self.window as i64), 0);
        while next < starts.len()
            && let Some(scene) = recording.next_scene()
        {
            kept.extend(scene);
            let end = at + kept.len() as i64;
            while next < starts.len() && starts[next] + self.window as i64 <= end {
                let from = (starts[next] - at).max(0) as usize;
                each(next, &kept[from..from + self.window as usize]);
                next += 1;
            }
            // A window may begin in this scene and end in the next.
            let done = kept.len().saturating_sub(2 * self.window as usize);
            kept.drain(..done);
            at += done as i64;
        }
    }
}
