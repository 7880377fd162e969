//! Words in sound: of a clip, and of a stream as it arrives.

use super::detector::{Detection, Detector};
use super::error::ListenError;
use super::extent::extent;
use super::history::History;
use super::manifest::Manifest;
use super::part::{How, Part};
use super::rate::RateConverter;
use super::sharing::Sharing;
use super::windows::Windows;
use crate::base::{Name, Standardisation};
use crate::nn::Network;
use crate::ops::ConvChoice;
use crate::simd::Isa;
use crate::train::{Bundle, Prediction, Weights, Which, softmax};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// Hops that are computed at once.
const PIECE: usize = 16;

/// A word in a stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// The word.
    pub word: Name,
    /// Its largest probability, averaged over [`Manifest::smoothing_ms`].
    pub probability: f64,
    /// Where its sound begins, in seconds from the start of the stream.
    pub start: f64,
    /// Where its sound ends, in seconds.
    pub end: f64,
    /// The window in which the word was recognised, at the network's sample rate.
    #[serde(skip)]
    pub sound: Vec<f32>,
}

/// A trained network that recognises words, with everything that it needs beside samples.
///
/// ```no_run
/// use stapes::listen::Recogniser;
///
/// let mut recogniser = Recogniser::load("runs/lamps".as_ref())?;
/// let clip = vec![0.0; 44_100];
/// println!("{}", recogniser.recognise(&clip, 44_100)?.word);
///
/// let mut stream = recogniser.stream(48_000)?;
/// for piece in clip.chunks(480) {
///     for event in stream.push(piece)? {
///         println!("{} at {:.2} s, {:.3}", event.word, event.start, event.probability);
///     }
/// }
/// # Ok::<(), stapes::listen::ListenError>(())
/// ```
pub struct Recogniser {
    network: Arc<Network>,
    weights: Weights,
    standardisation: Option<Standardisation>,
    /// Settings of streams.
    pub manifest: Manifest,
    clips: Part,
}

/// The output of the network for a window of a stream.
#[derive(Clone, Copy, Debug)]
pub struct WindowOutput<'a> {
    /// Its number; windows follow one another by [`Sharing::hop`].
    pub number: u64,
    /// Its first sample at the network's rate, negative before the stream.
    pub start: i64,
    /// The logits.
    pub logits: &'a [f32],
    /// Whether the window is below [`Manifest::quiet_db`], so that nothing is recognised in it.
    pub quiet: bool,
}

/// The most probable word of a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognition {
    /// The word.
    pub word: Name,
    /// Its probability.
    pub probability: f64,
    /// The probability of every word, in the order of [`Manifest::words`].
    pub probabilities: Vec<f64>,
}

impl Recogniser {
    /// Loads a run folder, or a weight file that stores its network and words. The manifest beside it is read if there is one.
    ///
    /// # Errors
    /// A file cannot be read or is damaged; the manifest is of another network; the network takes more than one channel.
    pub fn load(path: &Path) -> Result<Recogniser, ListenError> {
        Recogniser::load_with(path, None)
    }

    /// As [`Recogniser::load`], with another manifest.
    ///
    /// # Errors
    /// As for [`Recogniser::load`]; or there is no such manifest.
    pub fn load_with(path: &Path, manifest: Option<&Path>) -> Result<Recogniser, ListenError> {
        let bundle = Bundle::open(path, Which::Best)?;
        let (words, rate) = (bundle.classes.clone(), bundle.network.spec.input.sample_rate);
        let beside = Manifest::path_for(path);
        let file = manifest.or_else(|| beside.is_file().then_some(beside.as_path()));
        let manifest = match file {
            Some(file) => {
                let manifest = Manifest::read(file)?;
                manifest.check_for(file, &words, rate)?;
                manifest
            }
            None => Manifest::new(words, rate),
        };
        Recogniser::new(bundle, manifest)
    }

    /// A recogniser of a loaded network with these settings.
    ///
    /// # Errors
    /// The network takes more than one channel; a setting is out of range; the memory does not suffice.
    pub fn new(bundle: Bundle, manifest: Manifest) -> Result<Recogniser, ListenError> {
        let Bundle { network, weights, standardisation, .. } = bundle;
        let channels = network.spec.input.channels;
        if channels != 1 {
            return Err(ListenError::Channels { channels });
        }
        manifest.check()?;
        let how = How { batch: 1, isa: Isa::best(), conv: ConvChoice::default() };
        let clips = Part::head(&network, &weights, network.audio, how)?;
        Ok(Recogniser { network, weights, standardisation, manifest, clips })
    }

    /// The sample rate of the network's input, in hertz.
    pub fn rate_hz(&self) -> u32 {
        self.network.spec.input.sample_rate
    }

    /// Samples of the network's input.
    pub fn window(&self) -> usize {
        self.network.spec.input.length
    }

    /// Recognises the word in a clip of one channel with full scale 1. What is longer than the network's input is cut off, what is shorter is filled up with zeros.
    ///
    /// # Errors
    /// The rate cannot be converted, or a sample is not finite.
    pub fn recognise(&mut self, samples: &[f32], rate_hz: u32) -> Result<Recognition, ListenError> {
        let mut clip = Vec::new();
        let mut rate = RateConverter::new(rate_hz, self.rate_hz())?;
        rate.push(samples, &mut clip)?;
        rate.finish(&mut clip)?;
        let used = clip.len().min(self.window());
        clip.resize(self.window(), 0.0);
        if let Some(standardisation) = &self.standardisation {
            standardisation.apply(&mut clip[..used]); // padding stays zero
        }
        self.clips.run(&clip);
        let Prediction { class, probability, probabilities } = Prediction::of_logits(self.clips.output(0));
        Ok(Recognition { word: self.manifest.words[class].clone(), probability, probabilities })
    }

    /// Begins a stream of sound of this rate.
    ///
    /// # Errors
    /// The rate cannot be converted, a setting of the manifest is out of range, or the memory does not suffice.
    pub fn stream(&self, rate_hz: u32) -> Result<Stream, ListenError> {
        self.stream_with(rate_hz, &StreamOptions::default())
    }

    /// Begins a stream that is computed in another way than by default.
    ///
    /// # Errors
    /// As for [`Recogniser::stream`].
    pub fn stream_with(&self, rate_hz: u32, options: &StreamOptions) -> Result<Stream, ListenError> {
        self.manifest.check()?;
        let rate = RateConverter::new(rate_hz, self.rate_hz())?;
        let hop = (self.manifest.hop_ms / 1000.0 * f64::from(self.rate_hz())).round() as usize;
        let sharing =
            if options.share { Sharing::plan(&self.network, hop)? } else { Sharing::none(&self.network, hop)? };
        let isa = options.isa.unwrap_or_else(Isa::best);
        let windows = Windows::with(&self.network, &self.weights, sharing, isa, options.conv)?;
        Ok(Stream::new(self, rate, windows))
    }
}

/// How a stream is computed.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// Whether windows share what they can ([`Sharing`]).
    pub share: bool,
    /// The instruction set; by default the best of this processor.
    pub isa: Option<Isa>,
    /// The algorithm of convolutions.
    pub conv: ConvChoice,
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions { share: true, isa: None, conv: ConvChoice::default() }
    }
}

/// A stream of sound in which words are recognised.
///
/// The stream is continued by silence on both sides, so that a word at its very start or end is recognised too. Events do not depend on how it is cut into pieces.
pub struct Stream {
    rate: RateConverter,
    rate_hz: u32,
    standardisation: Option<Standardisation>,
    words: Vec<Name>,
    quiet_db: f64,
    windows: Windows,
    detector: Detector,
    history: History,
    /// Samples of silence before the stream.
    lead: u64,
    resampled: Vec<f32>,
    /// MACs of the network on a window.
    alone: u64,
}

impl Stream {
    fn new(of: &Recogniser, rate: RateConverter, windows: Windows) -> Stream {
        let (hop, window) = (windows.sharing().hop, windows.sharing().window);
        let rate_hz = of.rate_hz();
        let detector = Detector::new(&of.manifest, hop as f64 / f64::from(rate_hz));
        let kept = window + (of.manifest.decision_ms / 1000.0 * f64::from(rate_hz)) as usize + (PIECE + 2) * hop;
        let lead = window - hop;
        let mut stream = Stream {
            rate,
            rate_hz,
            standardisation: of.standardisation.clone(),
            words: of.manifest.words.clone(),
            quiet_db: of.manifest.quiet_db,
            detector,
            history: History::new(window, hop, rate_hz, kept),
            lead: lead as u64,
            windows,
            resampled: Vec::new(),
            alone: of.network.macs(),
        };
        // Windows that begin before the stream. All of them are quiet, so that there is no event yet.
        stream.take(&vec![0.0; lead], &mut |_| {});
        stream
    }

    /// MACs of a second of sound if every window were computed by itself.
    pub fn macs_per_second_alone(&self) -> f64 {
        self.alone as f64 * f64::from(self.rate_hz) / self.sharing().hop as f64
    }

    /// What the windows of the stream share.
    pub fn sharing(&self) -> &Sharing {
        self.windows.sharing()
    }

    /// Takes the next samples of one channel with full scale 1, in pieces of any size, and returns the words that were decided.
    ///
    /// # Errors
    /// A sample is not finite; nothing of the piece is used then.
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<Event>, ListenError> {
        self.push_with(samples, &mut |_| {})
    }

    /// As [`Stream::push`]; calls `window` with the output of every window.
    ///
    /// # Errors
    /// As for [`Stream::push`].
    pub fn push_with(
        &mut self,
        samples: &[f32],
        window: &mut dyn FnMut(WindowOutput<'_>),
    ) -> Result<Vec<Event>, ListenError> {
        let mut resampled = std::mem::take(&mut self.resampled);
        resampled.clear();
        let done = self.rate.push(samples, &mut resampled).map(|()| self.take(&resampled, window));
        self.resampled = resampled;
        done
    }

    /// Ends the stream, and returns the words in its rest.
    ///
    /// # Errors
    /// The last samples cannot be resampled.
    pub fn finish(self) -> Result<Vec<Event>, ListenError> {
        self.finish_with(&mut |_| {})
    }

    /// As [`Stream::finish`]; calls `window` with the output of every window.
    ///
    /// # Errors
    /// As for [`Stream::finish`].
    pub fn finish_with(mut self, window: &mut dyn FnMut(WindowOutput<'_>)) -> Result<Vec<Event>, ListenError> {
        let mut rest = Vec::new();
        std::mem::replace(&mut self.rate, RateConverter::none()).finish(&mut rest)?;
        let mut events = self.take(&rest, window);
        // Windows that end after the stream.
        let silence = vec![0.0; self.lead as usize + self.windows.sharing().segment];
        events.extend(self.take(&silence, window));
        let last = self.detector.finish();
        events.extend(last.map(|detection| self.event(detection)));
        Ok(events)
    }

    /// Takes samples at the network's rate.
    fn take(&mut self, samples: &[f32], window: &mut dyn FnMut(WindowOutput<'_>)) -> Vec<Event> {
        let mut events = Vec::new();
        // In hops, so that the history holds the window of every event.
        let hop = self.windows.sharing().hop;
        let mut standardised = Vec::new();
        for piece in samples.chunks(hop * PIECE) {
            self.history.push(piece);
            let mut input = piece;
            if let Some(standardisation) = &self.standardisation {
                standardised.clear();
                standardised.extend_from_slice(piece);
                standardisation.apply(&mut standardised);
                input = &standardised;
            }
            let mut detections = Vec::new();
            let Stream { windows, detector, history, lead, quiet_db, .. } = self;
            windows.push(input, &mut |number, logits| {
                let quiet = history.level(number) < *quiet_db;
                let start = (number * hop as u64) as i64 - *lead as i64;
                window(WindowOutput { number, start, logits, quiet });
                let probabilities = (!quiet).then(|| softmax(logits));
                detections.extend(detector.push(number, probabilities.as_deref()));
            });
            events.extend(detections.into_iter().map(|detection| self.event(detection)));
        }
        events
    }

    fn event(&self, detection: Detection) -> Event {
        let sound = self.history.window(detection.window).to_vec();
        let within = extent(&sound, self.rate_hz);
        let at = detection.window * self.windows.sharing().hop as u64;
        let seconds =
            |sample: usize| (at as i64 + sample as i64 - self.lead as i64).max(0) as f64 / f64::from(self.rate_hz);
        let (start, end) = (seconds(within.start), seconds(within.end));
        Event { word: self.words[detection.word].clone(), probability: detection.probability, start, end, sound }
    }
}
