//! The last samples of a stream: the sound of an event, and how loud a window is.

/// Frames of a second whose levels are compared.
const FRAMES_PER_SECOND: usize = 50;

/// The last samples of a stream.
pub(super) struct History {
    window: usize,
    hop: usize,
    /// Samples that are kept.
    kept: usize,
    samples: Vec<f32>,
    /// The index in the stream of the first of `samples`.
    at: u64,
    /// Samples of a frame.
    frame: usize,
    /// The power of each frame, from frame `frames_at` on.
    powers: Vec<f64>,
    frames_at: u64,
}

impl History {
    /// The last `kept` samples, in which there are windows of `window` samples every `hop` samples.
    pub(super) fn new(window: usize, hop: usize, rate_hz: u32, kept: usize) -> History {
        // A window has at least one whole frame, wherever it begins.
        let frame = (rate_hz as usize / FRAMES_PER_SECOND).min(window / 2).max(1);
        History { window, hop, kept, samples: Vec::new(), at: 0, frame, powers: Vec::new(), frames_at: 0 }
    }

    pub(super) fn push(&mut self, samples: &[f32]) {
        self.samples.extend_from_slice(samples);
        let end = self.at + self.samples.len() as u64;
        loop {
            let next = (self.frames_at + self.powers.len() as u64) * self.frame as u64;
            if next + self.frame as u64 > end {
                break;
            }
            let frame = &self.samples[(next - self.at) as usize..][..self.frame];
            self.powers.push(frame.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / self.frame as f64);
        }
        // Removed in large pieces, because what follows moves.
        if self.samples.len() > 2 * self.kept {
            let frames = (self.samples.len() - self.kept) / self.frame;
            self.samples.drain(..frames * self.frame);
            self.at += (frames * self.frame) as u64;
            self.powers.drain(..frames);
            self.frames_at += frames as u64;
        }
    }

    /// The samples of window `number`, as far as they are kept.
    pub(super) fn window(&self, number: u64) -> &[f32] {
        let begins = (number * self.hop as u64).saturating_sub(self.at) as usize;
        let begins = begins.min(self.samples.len());
        &self.samples[begins..self.samples.len().min(begins + self.window)]
    }

    /// The level of the loudest whole frame of window `number`, in decibels relative to full scale.
    pub(super) fn level(&self, number: u64) -> f64 {
        let (begins, frame) = (number * self.hop as u64, self.frame as u64);
        let (first, end) = (begins.div_ceil(frame), (begins + self.window as u64) / frame);
        let index = |of: u64| (of.saturating_sub(self.frames_at) as usize).min(self.powers.len());
        let most = self.powers[index(first)..index(end).max(index(first))].iter().copied().fold(0.0, f64::max);
        10.0 * most.max(1e-20).log10()
    }
}
