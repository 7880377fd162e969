//! A complete run: epochs, validation, checkpoints, metrics and the final evaluation; it can be stopped and resumed at any step.

use super::agreement::{Side, file_name};
use super::checkpoint::{self, Checkpoint, Progress};
use super::config::{Kept, TrainConfig};
use super::diagnose::first_not_finite;
use super::error::TrainError;
use super::eval::Evaluation;
use super::evaluation_report::save_evaluation;
use super::event_file;
use super::identity::STANDARDISATION;
use super::metrics::{self, EpochRecord};
use super::predictor::Predictor;
use super::prepared::{Prepared, Sources, Start, training_clips};
use super::run_claim::RunClaim;
use super::run_folder::{RunFolder, write_atomically};
use super::split_file::{check_split, split_tsv};
use super::teacher::Teacher;
use super::trainer::Trainer;
use super::transfer::Transfer;
use super::weight_file::{self, WeightFile};
use super::weights::Weights;
use crate::data::{BatchOptions, Batches, Dataset, EpochSteps, Samples, Split};
use crate::exec::Device;
use crate::nn::Network;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

/// Clips in each batch of an evaluation.
pub const EVAL_BATCH: usize = 32;

/// Receives the progress of a run, and can stop it.
pub trait Observer {
    /// Called after each step, with the epoch and the step (from 1), the steps of an epoch, and the mean loss of the epoch so far.
    fn step(&mut self, _epoch: u64, _step: u64, _steps: u64, _loss: f64) {}
    /// Called after each epoch, with its record, and whether it is the best so far in a run that keeps the best.
    fn epoch(&mut self, _record: &EpochRecord, _best: bool) {}
    /// Asked before each step: whether the run should save a checkpoint and stop.
    fn stop(&self) -> bool {
        false
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All epochs are done.
    Finished {
        /// The epoch whose weights were best on the validation clips, from 1.
        best_epoch: u64,
        /// The evaluation of those weights on the test clips; none if there are none.
        test: Option<Evaluation>,
    },
    /// The observer stopped the run; a checkpoint is saved.
    Interrupted {
        /// Complete epochs.
        epoch: u64,
        /// Steps after them.
        step: u64,
    },
}

/// A run in progress.
pub struct Session {
    config: TrainConfig,
    network: Arc<Network>,
    data: Arc<Dataset>,
    claim: RunClaim,
    device: Device,
    /// Whether steps take clips by number, on a GPU.
    clips_on_gpu: bool,
    /// How training clips are altered and put in batches.
    batches: BatchOptions,
    /// The steps of an epoch.
    epoch: EpochSteps,
    trainer: Trainer,
    /// Where the weights of each layer come from, if the run starts from another one.
    transfer: Option<Transfer>,
    teacher: Option<Teacher>,
    sources: Sources,
    progress: Progress,
    records: Vec<EpochRecord>,
    metrics_rebuilt: bool,
    /// The best weights so far.
    best: Weights,
}

impl Session {
    /// A new run in a claimed folder: builds the network, draws its weights, and writes the files that are known before
    /// the first step. Until its first checkpoint the run is provisional: see [`RunClaim`].
    ///
    /// # Errors
    /// The network cannot be built, there is no memory for it, or the folder cannot be written.
    pub fn start(
        config: TrainConfig,
        data: Arc<Dataset>,
        claim: RunClaim,
        device: impl Into<Device>,
    ) -> Result<Session, TrainError> {
        let mut session = Session::new(config, data, claim, device.into(), Start::New)?;
        session.claim.begin()?;
        let folder = session.claim.folder();
        write_atomically(&folder.config(), session.config.to_toml().as_bytes())?;
        let names = session.data.classes().iter().map(|class| format!("{class}\n")).collect::<String>();
        write_atomically(&folder.classes(), names.as_bytes())?;
        write_atomically(&folder.split(), split_tsv(&session.data).as_bytes())?;
        metrics::write(&folder.metrics(), &[])?;
        Ok(session)
    }

    /// Continues a claimed run where its last checkpoint ends, bit for bit.
    ///
    /// # Errors
    /// The run has no checkpoint, the checkpoint is damaged, or the settings, the recordings or the best weights are not
    /// those of the checkpoint.
    pub fn resume(
        config: TrainConfig,
        data: Arc<Dataset>,
        claim: RunClaim,
        device: impl Into<Device>,
    ) -> Result<Session, TrainError> {
        let folder = claim.folder().clone();
        let cannot = |reason: &str| TrainError::CannotResume { path: folder.path().into(), reason: reason.into() };
        check_split(&folder, &data)?;
        if !folder.last().exists() {
            return Err(cannot("it ended before its first checkpoint; start it again with --config and --force"));
        }
        let file = WeightFile::read(&folder.last())?;
        let mut session = Session::new(config, data, claim, device.into(), Start::Resumed)?;
        let Some(last) = checkpoint::load(&file, &session.network.graph)? else {
            return Err(cannot(
                "last.safetensors does not store the optimiser and the settings of the run; start a new run with --config",
            ));
        };
        settings_side(&folder).settings(&session.config, file.path(), &last.settings)?;
        if let Some(change) = session.sources.change(&last.sources) {
            return Err(cannot(&format!("{change}, or start a new run with --config")));
        }
        session.best = session.best_of(&last)?;
        let Checkpoint { weights, optimizer: (m, v, step), average, progress, mut records, .. } = last;
        if progress.epoch != records.len() as u64 {
            return Err(cannot("last.safetensors contradicts itself; start a new run with --config"));
        }
        (session.trainer.adam.m, session.trainer.adam.v, session.trainer.adam.step) = (m, v, step);
        session.trainer.weights = weights;
        session.trainer.weights_changed()?;
        if let Some(average) = average {
            session.trainer.set_averaged(average)?;
        }
        session.metrics_rebuilt = !metrics::add_times(&folder.metrics(), &mut records);
        session.records = records;
        session.progress = progress;
        write_records(&folder, &session.records)?;
        Ok(session)
    }

    /// The best weights of a run, of which `last` is the last checkpoint.
    fn best_of(&self, last: &Checkpoint) -> Result<Weights, TrainError> {
        let result = last.average.as_ref().unwrap_or(&last.weights);
        let Progress { best_epoch, epoch, step, .. } = last.progress;
        let Some(record) = best_epoch.checked_sub(1).and_then(|at| last.records.get(at as usize)) else {
            return Ok(result.clone());
        };
        let path = self.folder().best();
        if path.exists() {
            let best = weight_file::load_weights(&path, &self.network.graph)?;
            if metrics::hash(&best.params) == record.weights {
                return Ok(best);
            }
        }
        // The process was killed after it had written the last checkpoint, and before the best weights, which are the same.
        if best_epoch == epoch && step == 0 {
            self.save_best(result)?;
            return Ok(result.clone());
        }
        let reason = format!(
            "best.safetensors does not hold the weights of epoch {best_epoch}, the best so far; \
             put that file back, or start a new run with --config"
        );
        Err(TrainError::CannotResume { path: self.folder().path().into(), reason })
    }

    fn new(
        config: TrainConfig,
        data: Arc<Dataset>,
        claim: RunClaim,
        device: Device,
        start: Start,
    ) -> Result<Session, TrainError> {
        let prepared = Prepared::new(config, &data, device, start)?;
        let Prepared { config, network, device, batches, epoch, trainer, transfer, teacher, sources } = prepared;
        let best = trainer.weights.clone();
        let (progress, records) = (Progress::default(), Vec::new());
        Ok(Session {
            config,
            network,
            data,
            claim,
            device,
            epoch,
            clips_on_gpu: false,
            batches,
            trainer,
            transfer,
            teacher,
            sources,
            progress,
            records,
            metrics_rebuilt: false,
            best,
        })
    }

    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        self.claim.folder()
    }

    /// The device that computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Steps in each epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.epoch.count()
    }

    /// The network.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// The weights after the last step.
    pub fn weights(&self) -> &Weights {
        &self.trainer.weights
    }

    /// The weights that are evaluated and saved: the moving average, if the run has one.
    fn result(&self) -> &Weights {
        self.trainer.averaged().unwrap_or(&self.trainer.weights)
    }

    /// What a user may want to know about the background noise: that it is generated because the recordings have none.
    pub fn noise_remark(&self) -> Option<&str> {
        let augmenter = self.batches.augment.as_ref();
        augmenter.and_then(|augmenter| augmenter.remark()).or_else(|| self.data.silence_remark())
    }

    /// Where the weights of each layer come from, if the run started from another one.
    pub fn transfer(&self) -> Option<&Transfer> {
        self.transfer.as_ref()
    }

    /// The weights that the run keeps, so far.
    pub fn best_weights(&self) -> &Weights {
        &self.best
    }

    /// The records of the complete epochs.
    pub fn records(&self) -> &[EpochRecord] {
        &self.records
    }

    /// Whether a resumed run found `metrics.jsonl` incomplete and wrote it from the last checkpoint, without the times of
    /// the epochs that were missing.
    pub fn metrics_rebuilt(&self) -> bool {
        self.metrics_rebuilt
    }

    /// Bytes of activations, gradients and sums.
    pub fn memory_bytes(&self) -> usize {
        self.trainer.memory_bytes()
    }

    /// Runs the remaining epochs, and evaluates the best weights on the test clips.
    ///
    /// # Errors
    /// The loss or a weight is not finite, a file cannot be written, or the GPU fails.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        let start = (self.progress.epoch, self.progress.step);
        let data = &self.data;
        // Altered clips, and segments of silence that differ from epoch to epoch, are made on the host, for both devices alike.
        let unaltered = data.is_sound() && data.standardisation().is_none() && data.silence_class().is_none();
        if unaltered && self.batches.augment.is_none() && self.teacher.is_none() {
            self.clips_on_gpu = self.trainer.upload_clips((0..data.clips().len()).map(|clip| sound(data, clip)))?;
        }
        let options = BatchOptions { start, with_samples: !self.clips_on_gpu, ..self.batches.clone() };
        let mut batches = Batches::train(self.data.clone(), options)?;
        if self.progress.step > batches.steps_per_epoch() {
            let steps = batches.steps_per_epoch();
            let reason = format!("its checkpoint is {} steps into an epoch of {steps}", self.progress.step);
            return Err(TrainError::CannotResume { path: self.folder().path().into(), reason });
        }
        // Where memory allows only small batches, evaluations have no larger ones; their results do not depend on it.
        let batch = EVAL_BATCH.min(self.config.batch);
        let predictor = Predictor::builder(&self.network, self.trainer.weights.clone()).batch(batch);
        let mut predictor = predictor.conv(self.config.conv).device(self.device.clone()).build()?;
        while self.progress.epoch < self.config.epochs && !self.out_of_patience() {
            if !self.steps(&mut batches, observer)? {
                self.trainer.download()?;
                self.save_last()?;
                self.claim.keep();
                let Progress { epoch, step, .. } = self.progress;
                return Ok(Outcome::Interrupted { epoch, step });
            }
            self.end_epoch(&mut predictor, observer)?;
        }
        let test = match self.data.in_split(Split::Testing).is_empty() {
            true => None,
            false => {
                predictor.set_weights(&self.best)?;
                Some(predictor.evaluate(&self.data, Split::Testing)?)
            }
        };
        if let Some(test) = &test {
            save_evaluation(&self.claim, test, &self.data)?;
        }
        Ok(Outcome::Finished { best_epoch: self.progress.best_epoch, test })
    }

    /// Whether the validation accuracy has not risen for as many epochs as the run has patience.
    fn out_of_patience(&self) -> bool {
        let Progress { epoch, step, best_epoch, .. } = self.progress;
        self.config.patience > 0 && step == 0 && epoch - best_epoch >= self.config.patience
    }

    /// Runs the remaining steps of the current epoch; false if the observer stopped them.
    fn steps(&mut self, batches: &mut Batches, observer: &mut dyn Observer) -> Result<bool, TrainError> {
        let (steps, batch) = (batches.steps_per_epoch(), self.config.batch as f64);
        let (start, before, data) = (Instant::now(), self.progress.seconds, self.data.clone());
        // The steps whose loss is not known yet.
        let mut submitted: VecDeque<(Vec<u32>, Vec<f32>)> = VecDeque::new();
        loop {
            let stop = observer.stop();
            let done = if stop || self.progress.step + submitted.len() as u64 >= steps {
                self.trainer.wait()?
            } else {
                let batch = batches.next_batch().expect("training batches have no end");
                let total = steps * self.config.epochs;
                self.trainer.set_lr(self.config.schedule.rate(self.config.adam.lr, self.trainer.adam.step, total));
                let (inputs, labels) = (batch.valid_inputs(), batch.valid_labels());
                submitted.push_back((batch.clips.clone(), labels.to_vec()));
                match (self.clips_on_gpu, &mut self.teacher) {
                    (true, _) => self.trainer.submit(&batch.clips, |clip| sound(&data, clip as usize), labels)?,
                    (false, None) => vec![self.trainer.step(inputs, labels)?],
                    (false, Some(teacher)) => vec![self.trainer.step(inputs, teacher.labels(inputs, labels)?)?],
                }
            };
            for step in done {
                let (clips, labels) = submitted.pop_front().expect("what is done was submitted");
                if !step.loss.is_finite() {
                    return Err(self.not_finite(step.loss, &clips, &labels)?);
                }
                let progress = &mut self.progress;
                progress.step += 1;
                // The mean over the clips: a short batch counts as the share of a batch that it is.
                progress.loss_sum += step.loss * (clips.len() as f64 / batch);
                progress.correct += step.correct;
                progress.seconds = before + start.elapsed().as_secs_f64();
                let seen = self.epoch.clips_of(progress.step - 1).end;
                observer.step(progress.epoch + 1, progress.step, steps, progress.loss_sum / (seen as f64 / batch));
            }
            if stop || self.progress.step >= steps {
                return Ok(!stop);
            }
        }
    }

    /// The error of a step on these clips whose loss is not finite.
    fn not_finite(&mut self, loss: f64, clips: &[u32], labels: &[f32]) -> Result<TrainError, TrainError> {
        self.trainer.download()?;
        let name = |&clip: &u32| self.data.clips()[clip as usize].name.to_string();
        Ok(TrainError::NotFinite {
            loss,
            epoch: self.progress.epoch + 1,
            step: self.progress.step + 1,
            culprit: first_not_finite(&self.trainer, &self.samples(clips), labels),
            clips: clips.iter().take(3).map(name).collect::<Vec<_>>().join(", "),
        })
    }

    /// The samples of some clips, as the input of a network.
    fn samples(&self, clips: &[u32]) -> Vec<f32> {
        let mut inputs = vec![0.0; clips.len() * self.data.row_len()];
        let rows = inputs.chunks_exact_mut(self.data.row_len());
        clips.iter().zip(rows).for_each(|(&clip, row)| self.data.write_input(clip as usize, row));
        inputs
    }

    fn end_epoch(&mut self, predictor: &mut Predictor, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let start = Instant::now();
        self.trainer.download()?;
        let validation = match self.data.in_split(Split::Validation).is_empty() {
            true => None,
            false => {
                predictor.set_weights(self.result())?;
                Some(predictor.evaluate(&self.data, Split::Validation)?)
            }
        };
        let weights = metrics::hash(&self.result().params);
        let p = &mut self.progress;
        let clips = training_clips(&self.data)? as f64;
        let record = EpochRecord {
            epoch: p.epoch + 1,
            train_loss: p.loss_sum / (clips / self.config.batch as f64),
            train_accuracy: p.correct as f64 / clips,
            validation_loss: validation.as_ref().map(|v| v.loss),
            validation_accuracy: validation.as_ref().map(|v| v.accuracy),
            lr: self.trainer.adam.settings.lr,
            seconds: p.seconds + start.elapsed().as_secs_f64(),
            clips_per_second: clips / p.seconds.max(1e-9),
            weights,
        };
        // Without validation clips the last epoch counts as the best.
        let better = match (&validation, p.best_accuracy, p.best_loss) {
            _ if self.config.keep == Kept::Last => true,
            (Some(v), Some(accuracy), Some(loss)) => v.accuracy > accuracy || (v.accuracy == accuracy && v.loss < loss),
            _ => true,
        };
        *p = Progress { epoch: p.epoch + 1, step: 0, loss_sum: 0.0, correct: 0, seconds: 0.0, ..p.clone() };
        if better {
            p.best_accuracy = validation.as_ref().map(|v| v.accuracy);
            p.best_loss = validation.as_ref().map(|v| v.loss);
            p.best_epoch = p.epoch;
            self.best = self.result().clone();
        }
        self.records.push(record);
        // The last checkpoint first: the other files can be made from it if the process is killed in between.
        self.save_last()?;
        if better {
            self.save_best(&self.best)?;
        }
        write_records(self.folder(), &self.records)?;
        self.claim.keep();
        let remarkable = better && self.config.keep == Kept::Best;
        observer.epoch(self.records.last().expect("one was just added"), remarkable);
        Ok(())
    }

    fn save_last(&self) -> Result<(), TrainError> {
        let Trainer { weights, adam, .. } = &self.trainer;
        let average = self.trainer.averaged();
        let (sources, progress, records) = (&self.sources, &self.progress, &self.records);
        let state = checkpoint::State { adam, average, sources, progress, records };
        checkpoint::save(&self.folder().last(), &self.network.graph, weights, &state, self.metadata())
    }

    fn save_best(&self, best: &Weights) -> Result<(), TrainError> {
        weight_file::save_weights(&self.folder().best(), &self.network.graph, best, self.metadata())
    }

    fn metadata(&self) -> HashMap<String, String> {
        let settings = toml::to_string(&self.config.fixed()).expect("settings are valid TOML");
        let mut metadata = checkpoint::metadata(&self.config.network, self.data.classes(), settings);
        if let Some(standardisation) = self.data.standardisation() {
            let text = serde_json::to_string(standardisation).expect("numbers are valid JSON");
            metadata.insert(STANDARDISATION.into(), text);
        }
        metadata
    }
}

/// The 16-bit samples of a clip of sound.
fn sound(data: &Dataset, clip: usize) -> &[i16] {
    match data.samples(clip) {
        Samples::I16(samples) => samples,
        Samples::F32(_) => unreachable!("only clips of sound are uploaded"),
    }
}

/// Writes the records for people and programs, and for TensorBoard. Their times there follow from that of the settings, which are written at
/// the start of a run.
fn write_records(folder: &RunFolder, records: &[EpochRecord]) -> Result<(), TrainError> {
    metrics::write(&folder.metrics(), records)?;
    let start = std::fs::metadata(folder.config()).and_then(|file| file.modified()).ok();
    let start = start.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    event_file::write(&folder.events(), start.as_secs_f64(), records)
}

/// What is compared with the settings in a checkpoint.
fn settings_side(folder: &RunFolder) -> Side<'static> {
    Side {
        place: file_name(&folder.config()),
        advice: "a resumed run keeps its settings: change it back, or start a new run with --config",
    }
}

/// Checks that `config` has the settings that the last checkpoint of a run was trained with, as [`Session::resume`] does;
/// useful before the recordings are read, which takes longer.
///
/// # Errors
/// A setting differs, or the checkpoint cannot be read.
pub fn check_settings(folder: &RunFolder, config: &TrainConfig) -> Result<(), TrainError> {
    if !folder.last().exists() {
        return Ok(());
    }
    let file = WeightFile::read(&folder.last())?;
    match checkpoint::settings(&file) {
        Some(settings) => settings_side(folder).settings(config, file.path(), settings),
        None => Ok(()),
    }
}
