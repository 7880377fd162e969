//! What a run needs before its first step: the network, the trainer, and how clips are put in batches.

use super::bundle::{Bundle, Which};
use super::config::{Kept, TrainConfig};
use super::error::TrainError;
use super::freeze::parse_freeze;
use super::teacher::Teacher;
use super::trainer::Trainer;
use super::transfer::{Transfer, transfer};
use crate::data::{Augmenter, BatchOptions, DataError, Dataset, EpochSteps, Split};
use crate::exec::Device;
use crate::nn::{Network, Objective};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether a run begins or continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It begins, with initial weights or those of another run.
    New,
    /// It continues with the weights of its checkpoint.
    Resumed,
}

/// A run before its first step.
pub struct Prepared {
    /// The configuration, with the classes of the data.
    pub config: TrainConfig,
    /// The network.
    pub network: Arc<Network>,
    /// The device, at the precision of the run.
    pub device: Device,
    /// How training clips are altered and put in batches.
    pub batches: BatchOptions,
    /// The steps of an epoch.
    pub epoch: EpochSteps,
    /// The trainer, with the first weights.
    pub trainer: Trainer,
    /// Where the weights of each layer come from, if the run starts from another one.
    pub transfer: Option<Transfer>,
    /// The trained network from which the run learns.
    pub teacher: Option<Teacher>,
    /// Hashes of what the run reads beside the recordings.
    pub sources: Sources,
}

/// Hashes of what a run reads beside the recordings. They are stored with its settings, because a run that is resumed with other noise or
/// another teacher would not be the same run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Of the background noise, if it is added or the class of silence is cut from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<String>,
    /// Of the teacher's weights, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
}

impl Sources {
    /// What differs from the sources of an earlier part of the run, as a sentence without an end; a hash that an earlier version
    /// did not store counts as equal.
    pub fn change(&self, earlier: &Sources) -> Option<&'static str> {
        let differ = |ours: &Option<String>, theirs: &Option<String>| theirs.is_some() && ours != theirs;
        if differ(&self.noise, &earlier.noise) {
            return Some("its background noise is not the same as before; put the recordings of noise back");
        }
        differ(&self.teacher, &earlier.teacher)
            .then_some("its teacher has other weights than before; put its weight file back")
    }
}

impl Prepared {
    /// Builds the network and the trainer.
    ///
    /// # Errors
    /// Settings contradict each other, the network cannot be built, there is no memory for it, there are no training clips, or the run to
    /// start from cannot be used.
    pub fn new(config: TrainConfig, data: &Arc<Dataset>, device: Device, start: Start) -> Result<Prepared, TrainError> {
        check(&config, data)?;
        let device = device.precision(config.precision);
        if let [class] = data.classes() {
            return Err(TrainError::SingleClass { data: data.source().to_string(), class: class.clone() });
        }
        let soft_labels = config.augment.mixup > 0.0 || config.teacher.is_some();
        let objective = Objective { smoothing: config.smoothing, soft_labels };
        let network = Arc::new(Network::build_with(&config.network, data.classes().len(), objective)?);
        // The run is repeated with these words, whatever is added to the data later.
        let config = TrainConfig { classes: data.classes().to_vec(), ..config };
        let augment = match config.augment.is_none() {
            true => None,
            false => Some(Arc::new(Augmenter::new(config.augment, &config.noise_from, data, config.seed)?)),
        };
        let batches = BatchOptions {
            // Statistics over a batch of a single clip would be useless, or not exist at all.
            merge_single: network.graph.couples_samples(),
            soft_labels: soft_labels.then_some(network.classes),
            augment,
            ..BatchOptions::new(config.batch, config.seed)
        };
        let epoch = batches.epoch(training_clips(data)?)?;
        let frozen = parse_freeze(&config.freeze, &network)?;
        let trainer = Trainer::builder(&network).batch(epoch.largest()).adam(config.adam).init(config.init);
        let trainer = trainer.frozen(frozen).average(config.average).seed(config.seed).conv(config.conv);
        let mut trainer = trainer.device(device.clone()).build()?;
        let transfer = match (&config.init_from, start) {
            (Some(path), Start::New) => {
                let mut weights = trainer.weights.clone();
                let transfer = transfer(&Bundle::open(path, Which::Best)?, &network, &config.classes, &mut weights)?;
                trainer.set_weights(weights, None)?;
                Some(transfer)
            }
            _ => None,
        };
        let teacher = match &config.teacher {
            Some(path) => {
                Some(Teacher::open(path, (&config, data.standardisation()), &network, epoch.largest(), &device)?)
            }
            None => None,
        };
        // A device that prepares for each batch size does so before the first step.
        trainer.reserve(epoch.clips_of(0).len())?;
        trainer.reserve(epoch.last())?;
        let noise = batches.augment.as_ref().and_then(|augmenter| augmenter.noise_fingerprint());
        let noise = noise.or_else(|| data.silence_fingerprint());
        let sources = Sources { noise, teacher: teacher.as_ref().map(|teacher| teacher.weights.clone()) };
        Ok(Prepared { config, network, device, batches, epoch, trainer, transfer, teacher, sources })
    }
}

/// Refuses settings that contradict each other or the data.
fn check(config: &TrainConfig, data: &Dataset) -> Result<(), TrainError> {
    let refuse = |message: &str| Err(TrainError::Config { place: "settings".into(), message: message.into() });
    if config.patience > 0 && config.keep == Kept::Last {
        return refuse("`patience` ends a run after its best epoch, so it needs keep=best, not keep=last");
    }
    if config.patience > 0 && data.in_split(Split::Validation).is_empty() {
        return refuse("`patience` needs validation clips, and there are none; set patience=0");
    }
    let added = config.extra_classes().names();
    let has = [data.unknown_class(), data.silence_class()].into_iter().flatten();
    if has.map(|class| data.classes()[class as usize].clone()).ne(added) {
        return refuse(
            "`unknown` and `silence` do not agree with the data set; read the data set with the same settings",
        );
    }
    if config.standardise != data.standardisation().is_some() {
        return refuse("`standardise` and the data set do not agree; read the data set with the same setting");
    }
    Ok(config.augment.check()?)
}

/// How many clips an epoch uses; at least one.
pub fn training_clips(data: &Dataset) -> Result<usize, TrainError> {
    match data.clips_per_epoch() {
        0 => Err(DataError::EmptySplit { split: Split::Training, grouping: data.grouping() }.into()),
        clips => Ok(clips),
    }
}
