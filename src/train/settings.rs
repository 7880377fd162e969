//! The table of settings.

use super::config::Kept;
use super::setting::{Group, Setting, Values, parsed};
use super::setting_values::{
    EMBEDDED, NOISE_GENERATED, NOISE_OF_DATA, double, float, path_value, run_path, split_name, split_rule,
    step_schedule, whole,
};
use crate::base::Name;
use crate::data::{NoiseSource, SHARES, UnknownFrom};
use crate::nn::Variant;
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use crate::optim::ScheduleKind;
use std::path::PathBuf;

/// All settings, in the order in which `config.toml` lists them.
pub const SETTINGS: &[Setting] = &[
    Setting::new(
        Group::Data,
        "data",
        Values::Text("a folder, a .tar.gz, .csv, .npz or .parquet file, or `embedded` for the built-in recordings"),
        "the data set; a relative path starts at the current folder",
        |c, v| {
            c.data = (v != EMBEDDED).then(|| PathBuf::from(v));
            Ok(())
        },
        |c| Some(c.data.as_deref().map_or(EMBEDDED.into(), |path| path_value(path, &[EMBEDDED]))),
    )
    .changeable()
    .path(|c, path| c.data = Some(path)),
    Setting::new(
        Group::Data,
        "classes",
        Values::Text("names separated by commas (`\\,` is a comma in a name), in config.toml an array"),
        "the classes in the order of the network's outputs; empty for all words of the data",
        |c, v| {
            c.classes = Name::parse_list(v).map_err(|e| e.to_string())?;
            Ok(())
        },
        |c| Some(c.classes.iter().map(Name::to_string).collect::<Vec<_>>().into()),
    ),
    Setting::new(
        Group::Data,
        "unknown",
        Values::Text("words of the data, `other-words` for all that are no classes, and folders (with a slash, such as ./NAME), separated by commas; in config.toml an array; empty for none"),
        "adds the class `_unknown_`, with clips of these words and folders, of which each epoch uses others",
        |c, v| {
            let entries = Name::parse_list(v).map_err(|e| e.to_string())?;
            c.unknown = entries.iter().map(UnknownFrom::parse).collect();
            Ok(())
        },
        |c| Some(c.unknown.iter().map(|from| from.entry().to_string()).collect::<Vec<_>>().into()),
    )
    .changeable(),
    Setting::new(
        Group::Data,
        "unknown_share",
        Values::Between(SHARES.0, SHARES.1),
        "clips of `_unknown_` in each epoch and in the validation and test clips, as a share of the clips of all words there; at most all there are",
        |c, v| parsed(v).map(|share| c.unknown_share = share),
        |c| double(c.unknown_share),
    ),
    Setting::new(
        Group::Data,
        "silence",
        Values::Flag,
        "whether there is the class `_silence_`, of segments of background noise (`noise_from`) at random gain and of digital silence, other ones in each epoch",
        |c, v| parsed(v).map(|silence| c.silence = silence),
        |c| Some(c.silence.into()),
    ),
    Setting::new(
        Group::Data,
        "silence_share",
        Values::Between(SHARES.0, SHARES.1),
        "segments of `_silence_`, as a share of the clips of all words",
        |c, v| parsed(v).map(|share| c.silence_share = share),
        |c| double(c.silence_share),
    ),
    Setting::new(
        Group::Data,
        "split",
        Values::Words(&["speaker", "official", "random"]),
        "which clips train, validate and test: by a hash of the speaker, by the lists in the data, or at random (80/10/10)",
        |c, v| {
            c.split = split_rule(v, c.seed);
            Ok(())
        },
        |c| Some(split_name(c.split).into()),
    ),
    Setting::new(
        Group::Data,
        "crop",
        Values::Words(&["start", "center", "loudest"]),
        "the part that is used of clips that are longer than the network's input; `loudest` is the one with the largest energy",
        |c, v| v.parse().map(|crop| c.crop = crop),
        |c| Some(c.crop.name().into()),
    ),
    Setting::new(
        Group::Data,
        "standardise",
        Values::Flag,
        "whether inputs are standardised: each channel minus its mean, divided by its standard deviation, both over the training clips",
        |c, v| parsed(v).map(|standardise| c.standardise = standardise),
        |c| Some(c.standardise.into()),
    ),
    Setting::new(
        Group::Data,
        "strict",
        Values::Flag,
        "whether the first clip that cannot be used ends the run",
        |c, v| parsed(v).map(|strict| c.strict = strict),
        |c| Some(c.strict.into()),
    )
    .changeable(),
    Setting::new(
        Group::Run,
        "recipe",
        Values::Text("a name; it has no effect of its own"),
        "the recipe from which the other settings were taken",
        |c, v| {
            c.recipe = (!v.is_empty()).then(|| v.into());
            Ok(())
        },
        |c| c.recipe.as_deref().map(toml::Value::from),
    )
    .changeable(),
    Setting::new(
        Group::Run,
        "epochs",
        // The records of all epochs are stored in the header of a checkpoint, which has a limit of 100 MB.
        Values::Whole(1, 100_000),
        "complete passes over the training clips",
        |c, v| parsed(v).map(|epochs| c.epochs = epochs),
        |c| whole(c.epochs),
    )
    .changeable(),
    Setting::new(
        Group::Run,
        "batch",
        Values::Whole(1, 1 << 20),
        "clips in each training step",
        |c, v| parsed(v).map(|batch| c.batch = batch),
        |c| whole(c.batch as u64),
    ),
    Setting::new(
        Group::Run,
        "seed",
        Values::Whole(0, i64::MAX as u64),
        "seed of the initial weights, the order of the clips, dropout, augmentation, the random split, and the clips of `_unknown_` and `_silence_` in each epoch",
        |c, v| {
            c.seed = parsed(v)?;
            c.split = split_rule(split_name(c.split), c.seed);
            Ok(())
        },
        |c| whole(c.seed),
    ),
    Setting::new(
        Group::Run,
        "keep",
        Values::Words(&Kept::NAMES),
        "the weights that are the result: those of the epoch with the highest validation accuracy, or those of the last epoch",
        |c, v| v.parse().map(|keep| c.keep = keep),
        |c| Some(c.keep.name().into()),
    ),
    Setting::new(
        Group::Run,
        "patience",
        Values::Whole(0, 100_000),
        "the run ends after so many epochs without a higher validation accuracy; 0 for never",
        |c, v| parsed(v).map(|patience| c.patience = patience),
        |c| whole(c.patience),
    ),
    Setting::new(
        Group::Optimisation,
        "lr",
        Values::Between(1e-9, 1e3),
        "Adam's learning rate; the largest one of a schedule",
        |c, v| parsed(v).map(|lr| c.adam.lr = lr),
        |c| float(c.adam.lr),
    ),
    Setting::new(
        Group::Optimisation,
        "schedule",
        Values::Words(&["constant", "step", "cosine", "one-cycle"]),
        "how the learning rate changes during the run",
        |c, v| {
            c.schedule.kind = match v {
                "step" => ScheduleKind::Step { every: 1.0 / 3.0, factor: 0.1 },
                "cosine" => ScheduleKind::Cosine,
                "one-cycle" => ScheduleKind::OneCycle,
                _ => ScheduleKind::Constant,
            };
            Ok(())
        },
        |c| {
            let name = match c.schedule.kind {
                ScheduleKind::Constant => "constant",
                ScheduleKind::Step { .. } => "step",
                ScheduleKind::Cosine => "cosine",
                ScheduleKind::OneCycle => "one-cycle",
            };
            Some(name.into())
        },
    ),
    Setting::new(
        Group::Optimisation,
        "warmup",
        Values::Below(0.0, 1.0),
        "share of the steps in which the learning rate rises linearly to `lr`",
        |c, v| parsed(v).map(|warmup| c.schedule.warmup = warmup),
        |c| double(c.schedule.warmup),
    ),
    Setting::new(
        Group::Optimisation,
        "lr_end",
        Values::Between(0.0, 1.0),
        "the learning rate of the last step of the schedules cosine and one-cycle, as a share of `lr`",
        |c, v| parsed(v).map(|end| c.schedule.end = end),
        |c| double(c.schedule.end),
    ),
    Setting::new(
        Group::Optimisation,
        "step_every",
        Values::Between(0.001, 1.0),
        "the schedule step multiplies the learning rate by `step_factor` after each such share of the steps",
        |c, v| {
            *step_schedule(c)?.0 = parsed(v)?;
            Ok(())
        },
        |c| step_schedule(&mut c.clone()).ok().and_then(|(every, _)| double(*every)),
    ),
    Setting::new(
        Group::Optimisation,
        "step_factor",
        Values::Between(0.000_001, 1.0),
        "see `step_every`",
        |c, v| {
            *step_schedule(c)?.1 = parsed(v)?;
            Ok(())
        },
        |c| step_schedule(&mut c.clone()).ok().and_then(|(_, factor)| double(*factor)),
    ),
    Setting::new(
        Group::Optimisation,
        "beta1",
        Values::Between(0.0, 0.999_999),
        "decay of Adam's first moment",
        |c, v| parsed(v).map(|beta| c.adam.beta1 = beta),
        |c| float(c.adam.beta1),
    ),
    Setting::new(
        Group::Optimisation,
        "beta2",
        Values::Between(0.0, 0.999_999),
        "decay of Adam's second moment",
        |c, v| parsed(v).map(|beta| c.adam.beta2 = beta),
        |c| float(c.adam.beta2),
    ),
    Setting::new(
        Group::Optimisation,
        "eps",
        Values::Between(1e-12, 1.0),
        "added to the square root of Adam's second moment",
        |c, v| parsed(v).map(|eps| c.adam.eps = eps),
        |c| float(c.adam.eps),
    ),
    Setting::new(
        Group::Optimisation,
        "weight_decay",
        Values::Between(0.0, 10.0),
        "decoupled weight decay (AdamW) of the weights of convolutions and dense layers",
        |c, v| parsed(v).map(|decay| c.adam.weight_decay = decay),
        |c| float(c.adam.weight_decay),
    ),
    Setting::new(
        Group::Optimisation,
        "clip_norm",
        Values::Between(0.0, 1e6),
        "largest norm of the gradient of all parameters, which is scaled down to it; 0 for no limit",
        |c, v| parsed(v).map(|norm| c.adam.clip_norm = norm),
        |c| float(c.adam.clip_norm),
    ),
    Setting::new(
        Group::Optimisation,
        "smoothing",
        Values::Between(0.0, 0.999),
        "label smoothing: share of each label's probability that is distributed evenly over all classes",
        |c, v| parsed(v).map(|smoothing| c.smoothing = smoothing),
        |c| double(c.smoothing),
    ),
    Setting::new(
        Group::Optimisation,
        "average",
        Values::Between(0.0, 0.999_999),
        "decay of the exponential moving average of the weights, which is then what is evaluated and saved; 0 for none",
        |c, v| parsed(v).map(|average| c.average = average),
        |c| float(c.average),
    ),
    Setting::new(
        Group::Augmentation,
        "shift",
        Values::Between(0.0, 60.0),
        "largest shift in time, in seconds",
        |c, v| parsed(v).map(|shift| c.augment.shift = shift),
        |c| double(c.augment.shift),
    ),
    Setting::new(
        Group::Augmentation,
        "gain",
        Values::Between(0.0, 60.0),
        "largest change of loudness, in dB up and down",
        |c, v| parsed(v).map(|gain| c.augment.gain = gain),
        |c| double(c.augment.gain),
    ),
    Setting::new(
        Group::Augmentation,
        "polarity",
        Values::Between(0.0, 1.0),
        "probability that a clip changes its sign",
        |c, v| parsed(v).map(|polarity| c.augment.polarity = polarity),
        |c| double(c.augment.polarity),
    ),
    Setting::new(
        Group::Augmentation,
        "equaliser",
        Values::Between(0.0, 1.0),
        "probability of a random filter: high-pass, low-pass, peak or notch",
        |c, v| parsed(v).map(|equaliser| c.augment.equaliser = equaliser),
        |c| double(c.augment.equaliser),
    ),
    Setting::new(
        Group::Augmentation,
        "noise",
        Values::Between(0.0, 1.0),
        "probability of background noise",
        |c, v| parsed(v).map(|noise| c.augment.noise = noise),
        |c| double(c.augment.noise),
    ),
    Setting::new(
        Group::Augmentation,
        "snr_low",
        Values::Between(-100.0, 100.0),
        "smallest signal-to-noise ratio of that noise, in dB",
        |c, v| parsed(v).map(|snr| c.augment.snr_low = snr),
        |c| double(c.augment.snr_low),
    ),
    Setting::new(
        Group::Augmentation,
        "snr_high",
        Values::Between(-100.0, 100.0),
        "largest signal-to-noise ratio of that noise, in dB",
        |c, v| parsed(v).map(|snr| c.augment.snr_high = snr),
        |c| double(c.augment.snr_high),
    ),
    Setting::new(
        Group::Augmentation,
        "noise_from",
        Values::Text(
            "`data` for the folder _background_noise_ of the recordings, `generated`, or a folder of recordings",
        ),
        "the background noise, also of the class `_silence_`; `data` is generated noise if the recordings have none",
        |c, v| {
            c.noise_from = match v {
                NOISE_OF_DATA => NoiseSource::Data,
                NOISE_GENERATED => NoiseSource::Generated,
                folder => NoiseSource::Folder(PathBuf::from(folder)),
            };
            Ok(())
        },
        |c| {
            Some(match &c.noise_from {
                NoiseSource::Data => NOISE_OF_DATA.into(),
                NoiseSource::Generated => NOISE_GENERATED.into(),
                NoiseSource::Folder(path) => path_value(path, &[NOISE_OF_DATA, NOISE_GENERATED]),
            })
        },
    )
    .path(|c, path| c.noise_from = NoiseSource::Folder(path)),
    Setting::new(
        Group::Augmentation,
        "speed",
        Values::Between(0.0, 1.0),
        "largest change of speed: the factor is between 1 / (1 + speed) and 1 + speed",
        |c, v| parsed(v).map(|speed| c.augment.speed = speed),
        |c| double(c.augment.speed),
    ),
    Setting::new(
        Group::Augmentation,
        "mask",
        Values::Between(0.0, 1.0),
        "probability that a stretch of the clip is set to zero",
        |c, v| parsed(v).map(|mask| c.augment.mask = mask),
        |c| double(c.augment.mask),
    ),
    Setting::new(
        Group::Augmentation,
        "mask_seconds",
        Values::Between(0.001, 60.0),
        "longest such stretch, in seconds; the shortest is a quarter of it",
        |c, v| parsed(v).map(|seconds| c.augment.mask_seconds = seconds),
        |c| double(c.augment.mask_seconds),
    ),
    Setting::new(
        Group::Augmentation,
        "mixup",
        Values::Between(0.0, 100.0),
        "mixes two clips and their labels; the share is Beta(mixup, mixup) distributed; 0 for no mixing",
        |c, v| parsed(v).map(|mixup| c.augment.mixup = mixup),
        |c| double(c.augment.mixup),
    ),
    Setting::new(
        Group::Augmentation,
        "random_crop",
        Values::Flag,
        "whether training uses a random part of clips that are longer than the network's input, instead of the one that `crop` names",
        |c, v| parsed(v).map(|random| c.augment.random_crop = random),
        |c| Some(c.augment.random_crop.into()),
    ),
    Setting::new(
        Group::Transfer,
        "init_from",
        Values::Text("the folder of a run or a weight file; empty for none"),
        "the run whose weights the layers start with, where names and shapes are equal",
        |c, v| {
            c.init_from = run_path(v);
            Ok(())
        },
        |c| c.init_from.as_deref().map(|path| path_value(path, &[])),
    )
    .path(|c, path| c.init_from = Some(path)),
    Setting::new(
        Group::Transfer,
        "freeze",
        Values::Text("layers separated by commas, such as conv1,conv2, or `all-but-head`; empty for none"),
        "layers whose weights do not change; the batch norm that follows a convolution is frozen with it",
        |c, v| {
            c.freeze = v.into();
            Ok(())
        },
        |c| Some(c.freeze.as_str().into()),
    ),
    Setting::new(
        Group::Transfer,
        "teacher",
        Values::Text("the folder of a run or a weight file; empty for none"),
        "a trained network from whose probabilities this one learns, beside the labels (distillation)",
        |c, v| {
            c.teacher = run_path(v);
            Ok(())
        },
        |c| c.teacher.as_deref().map(|path| path_value(path, &[])),
    )
    .path(|c, path| c.teacher = Some(path)),
    Setting::new(
        Group::Transfer,
        "teacher_share",
        Values::Between(0.0, 1.0),
        "share of the teacher's probabilities in the labels",
        |c, v| parsed(v).map(|share| c.teacher_share = share),
        |c| double(c.teacher_share),
    ),
    Setting::new(
        Group::Transfer,
        "temperature",
        Values::Between(0.01, 100.0),
        "the teacher's logits are divided by it; above 1 its probabilities are more even",
        |c, v| parsed(v).map(|temperature| c.temperature = temperature),
        |c| double(c.temperature),
    ),
    Setting::new(
        Group::Computation,
        "init",
        Values::Words(&["he-normal", "he-uniform", "glorot-normal", "glorot-uniform", "pytorch"]),
        "how the weights are initialised",
        |c, v| v.parse().map(|init| c.init = init),
        |c| Some(c.init.to_string().into()),
    ),
    Setting::new(
        Group::Computation,
        "conv",
        Values::Words(&ConvChoice::NAMES),
        "how convolutions are computed: as separate operations, fused, or fused where that is faster",
        |c, v| v.parse().map(|conv| c.conv = conv),
        |c| Some(c.conv.to_string().into()),
    ),
    Setting::new(
        Group::Computation,
        "precision",
        Values::Words(&Precision::NAMES),
        "the number format of convolutions and dense layers on a GPU; the processor always computes in f32",
        |c, v| v.parse().map(|precision| c.precision = precision),
        |c| Some(c.precision.to_string().into()),
    ),
    Setting::new(
        Group::Network,
        "variant",
        Values::Words(&["do", "bn", "do+bn"]),
        "dropout, batch norm or both: sets `dropout` and `batch_norm` of the network",
        |c, v| v.parse::<Variant>().map(|variant| c.network.set_variant(variant)),
        |_| None,
    ),
    Setting::new(
        Group::Network,
        "dropout",
        Values::Below(0.0, 1.0),
        "share of the features that training sets to zero before the last layer",
        |c, v| parsed(v).map(|dropout| c.network.head.dropout = dropout),
        |_| None,
    ),
    Setting::new(
        Group::Network,
        "batch_norm",
        Values::Flag,
        "whether every convolution is followed by batch norm",
        |c, v| parsed(v).map(|batch_norm| c.network.batch_norm = batch_norm),
        |_| None,
    ),
];

#[cfg(test)]
mod tests {
    use super::super::setting::shown;
    use super::*;
    use crate::nn::{self, Initialisation};
    use crate::train::TrainConfig;

    #[test]
    fn every_setting_refuses_a_wrong_value_with_its_name_its_values_and_the_text() {
        let mut config = TrainConfig::new(nn::find("custom32-8").unwrap().spec(Variant::Do));
        for setting in SETTINGS.iter().filter(|setting| !matches!(setting.values, Values::Text(_))) {
            for text in ["", "-1000", "nan", "2e99", "x\ty"] {
                let error = setting.set(&mut config, text).unwrap_err();
                let (key, values) = (setting.key, &setting.values);
                assert_eq!(error, format!("{key} must be {values}, got {}", shown(text)));
                assert!(!error.contains('\t'), "{error}");
            }
        }
        let error = SETTINGS.iter().find(|s| s.key == "dropout").unwrap().set(&mut config, "2").unwrap_err();
        assert_eq!(error, "dropout must be at least 0 and below 1, got 2");
    }

    #[test]
    fn words_are_those_of_their_types() {
        let words = |key: &str| match SETTINGS.iter().find(|s| s.key == key).unwrap().values {
            Values::Words(words) => words.to_vec(),
            _ => panic!("{key} has no words"),
        };
        assert_eq!(words("init"), Initialisation::ALL.map(Initialisation::name));
        assert_eq!(words("variant"), Variant::ALL.map(Variant::name));
    }
}
