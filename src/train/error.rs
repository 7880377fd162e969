//! Why training, evaluation or a weight file fails, each in one sentence with a way out.

use crate::base::Name;
use crate::base::name::display_path;
use crate::base::text_file::TextFileError;
#[cfg(feature = "audio")]
use crate::data::DataError;
use crate::exec::DeviceError;
use crate::graph::GraphError;
use crate::nn::SpecError;
use std::path::PathBuf;
use thiserror::Error;

/// A setting whose value in a weight file differs from that where the file is used.
#[derive(Debug, Error)]
#[error("`{key}` is {ours} in {place}, and {theirs} in {}; {advice}", display_path(.file))]
pub struct Disagreement {
    /// The setting, with its tables: `network.input.length`.
    pub key: String,
    /// Its value where the file is used.
    pub ours: String,
    /// Where that is.
    pub place: String,
    /// Its value in the weight file.
    pub theirs: String,
    /// The weight file.
    pub file: PathBuf,
    /// The way out.
    pub advice: String,
}

/// An error of this module, or of a lower one that passes through it.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The recordings cannot be used.
    #[cfg(feature = "audio")]
    #[error(transparent)]
    Data(#[from] DataError),
    /// Of the network's description.
    #[error(transparent)]
    Network(#[from] SpecError),
    /// Of the graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Of the GPU.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Threads cannot be started.
    #[error("cannot start {threads} threads ({source}); give fewer with --threads")]
    Threads {
        /// How many.
        threads: usize,
        /// The system's reason.
        source: rayon::ThreadPoolBuildError,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot {doing} {}: {source}; {advice}", display_path(.path))]
    Io {
        /// What was tried: `read`, `write`, ..
        doing: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
        /// The way out.
        advice: &'static str,
    },
    /// The recordings are of one word.
    #[error("{data} has a single class, `{class}`; a network needs at least two: add clips of another one")]
    SingleClass {
        /// The recordings.
        data: String,
        /// The only class.
        class: Name,
    },
    /// A run of this name exists.
    #[error("the run folder {} exists; give another --name, or --force to replace it, or --resume to continue it", display_path(.0))]
    RunExists(PathBuf),
    /// Another process writes in the run folder.
    #[error("the run folder {} is in use by {}; wait until that process ends, or use another run folder", display_path(.path), process(.pid))]
    RunInUse {
        /// The run folder.
        path: PathBuf,
        /// The process, if it is known.
        pid: Option<u32>,
    },
    /// The path is not a run folder.
    #[error("{} is not a run folder: it has no {missing}; {}", display_path(.path), run_advice(.nearest))]
    NotARun {
        /// The path.
        path: PathBuf,
        /// The file that is missing.
        missing: &'static str,
        /// The run folder that was probably meant.
        nearest: Option<PathBuf>,
    },
    /// A new run would lie in the folder of another run.
    #[error("{} is a run folder, and a run cannot be made within another one; give a folder outside of it with --runs", display_path(.0))]
    RunWithinRun(PathBuf),
    /// A text file cannot be read.
    #[error("cannot read {}: {source}; {advice}", display_path(.path))]
    Text {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TextFileError,
        /// The way out.
        advice: &'static str,
    },
    /// A file of another format where a weight file is needed.
    #[error("{} is {looks_like}, not a safetensors file; {advice}", display_path(.path))]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        looks_like: String,
        /// The way out.
        advice: String,
    },
    /// A weight file is damaged.
    #[error("{} is damaged ({reason}); train again, take another file of the run, or save it again with the program that it is from", display_path(.path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A weight is not a finite number.
    #[error("the tensor `{tensor}` of {} holds {value}, with which a network computes nothing of use; lower the learning rate and train again", display_path(.path))]
    WeightsNotFinite {
        /// The file.
        path: PathBuf,
        /// The first such tensor.
        tensor: String,
        /// The first such number in it.
        value: f32,
    },
    /// A class that is listed twice.
    #[error("the class `{name}` is listed twice for {}; the classes are the outputs of the network, each with its own name", display_path(.path))]
    RepeatedClass {
        /// The weight file.
        path: PathBuf,
        /// The class.
        name: Name,
    },
    /// A weight file does not agree with what it is used for.
    #[error("{0}")]
    Disagree(Box<Disagreement>),
    /// A weight file is of another network.
    #[error("{} holds the weights of another network: {reason}", display_path(.path))]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// A weight file does not store its network and classes, as a state dict does not.
    #[error(
        "{} holds weights and does not say of which network and classes; `stapes import` with --model and --classes makes a file of it that does",
        display_path(.0)
    )]
    NoIdentity(PathBuf),
    /// A layer to be frozen does not exist.
    #[error(
        "`freeze`: the network `{network}` has no layer `{name}` with weights{hint}; its layers are {layers}: name some of them, separated by commas, or give all-but-head"
    )]
    UnknownLayer {
        /// The name that was given.
        name: String,
        /// The network.
        network: String,
        /// The name that was probably meant; empty if there is none.
        hint: String,
        /// The layers of the network that have weights.
        layers: String,
    },
    /// A layer is asked for that is not there.
    #[error("the network `{network}` has no layer `{name}`{hint}; its layers are {layers}")]
    NoSuchLayer {
        /// The name that was given.
        name: String,
        /// The network.
        network: String,
        /// The name that was probably meant; empty if there is none.
        hint: String,
        /// The layers of the network.
        layers: String,
    },
    /// A layer's output is asked for that a predictor does not keep.
    #[error("the output of the layer `{layer}` is not kept; name it when the predictor is built")]
    NotKept {
        /// The layer.
        layer: String,
    },
    /// An activation that a classifier is to be fitted to is not a finite number.
    #[cfg(feature = "classify")]
    #[error(
        "the layer `{layer}` computes {value} for the clip {clip}, and classifiers need finite numbers; take another layer, or train again with a lower learning rate"
    )]
    FeatureNotFinite {
        /// The layer.
        layer: String,
        /// The first clip with such a number.
        clip: Name,
        /// The number.
        value: f32,
    },
    /// A layer has too many numbers for classifiers.
    #[cfg(feature = "classify")]
    #[error(
        "the layer `{layer}` has {features} numbers for each clip, and classifiers take at most {most}; take a later layer"
    )]
    TooManyFeatures {
        /// The layer.
        layer: String,
        /// Its numbers for each clip.
        features: usize,
        /// The most.
        most: usize,
    },
    /// Classifiers need clips of all three splits.
    #[cfg(feature = "classify")]
    #[error(
        "{data} has no {split} clips; classifiers are fitted on training clips, chosen on validation clips and tested on test clips: take a run whose recordings have all three"
    )]
    SplitWithoutClips {
        /// The recordings.
        data: String,
        /// The split.
        split: &'static str,
    },
    /// Classifiers need two classes.
    #[cfg(feature = "classify")]
    #[error(
        "all training clips of {data} are of the class `{class}`; a classifier needs clips of at least two classes"
    )]
    TrainingOfOneClass {
        /// The recordings.
        data: String,
        /// The class.
        class: Name,
    },
    /// A classifier cannot be fitted.
    #[cfg(feature = "classify")]
    #[error("the classifier {name} cannot be fitted: {reason}; leave it out with --classifiers")]
    Classifier {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// A configuration cannot be.
    #[error("{place}: {message}")]
    Config {
        /// The file with its line, or the option.
        place: String,
        /// What is wrong and what would do.
        message: String,
    },
    /// The loss is no longer a number.
    #[error(
        "the loss became {loss} in epoch {epoch}, step {step}: {culprit}; lower the learning rate with --lr, or look at the clips {clips}"
    )]
    NotFinite {
        /// The loss.
        loss: f64,
        /// Epoch, from 1.
        epoch: u64,
        /// Step in the epoch, from 1.
        step: u64,
        /// The first layer whose output is not finite.
        culprit: String,
        /// Names of the batch's first clips.
        clips: String,
    },
    /// The recordings are no longer those of a run.
    #[error("the recordings are not those of {}: {difference}; give the data it was trained on with --data", display_path(.path))]
    OtherData {
        /// The run's list of clips.
        path: PathBuf,
        /// The first line that differs.
        difference: String,
    },
    /// Runs that are to be compared were evaluated on different clips.
    #[error(
        "{} and {} cannot be compared: {difference}; give runs of the same recordings, classes and split",
        display_path(.first),
        display_path(.second)
    )]
    OtherClips {
        /// A run folder.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// A graph cannot be trained or run.
    #[error("{reason}")]
    Model {
        /// What is wrong, and what would do.
        reason: String,
    },
    /// A batch has too few or too many samples.
    #[error("a batch of {n} samples cannot be computed here; take {min} to {max}")]
    BatchSize {
        /// Its samples.
        n: usize,
        /// The smallest batch.
        min: usize,
        /// The largest batch.
        max: usize,
    },
    /// An array does not have the length that a model requires.
    #[error(
        "{what} have {got} numbers instead of {expected}; pass whole samples, each with as many numbers as the model's shapes say"
    )]
    WrongLength {
        /// Which array.
        what: &'static str,
        /// The length that was required.
        expected: usize,
        /// The length that it has.
        got: usize,
    },
    /// A training step to be measured would take too much memory.
    #[error("a training step of {batch} clips would take {} GB; give a smaller --batch", .bytes / 1_000_000_000)]
    TooLargeToMeasure {
        /// Clips of the step.
        batch: usize,
        /// Bytes that it would take.
        bytes: usize,
    },
    /// A run to be resumed differs in something that would change its results.
    #[error("{} cannot be resumed: {reason}", display_path(.path))]
    CannotResume {
        /// The run folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl TrainError {
    /// A closure that turns an I/O error on `path` into this error.
    pub fn io<'a>(
        doing: &'static str,
        path: &'a std::path::Path,
        advice: &'static str,
    ) -> impl Fn(std::io::Error) -> TrainError + 'a {
        move |source| TrainError::Io { doing, path: path.to_path_buf(), source, advice }
    }
}

fn run_advice(nearest: &Option<PathBuf>) -> String {
    nearest
        .as_ref()
        .map_or("give the folder that `stapes train` made".into(), |run| format!("did you mean {}?", display_path(run)))
}

fn process(pid: &Option<u32>) -> String {
    pid.map_or("another process".into(), |pid| format!("process {pid}"))
}
