//! `--int8` of `stapes eval` and `stapes predict`: networks with weights and activations of 8 bits.

use clap::Args;

/// Clips of the calibration, if the command line does not say.
pub const CALIBRATION_CLIPS: u32 = 256;

/// Options that go with `--int8`.
#[derive(Clone, Debug, Args)]
#[group(id = "integers")]
#[cfg_attr(not(feature = "export"), allow(dead_code))]
pub struct Options {
    /// Training clips on which the ranges of 8-bit activations are measured.
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_CLIPS, value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "int8")]
    pub calibration_clips: u32,
}

#[cfg(feature = "export")]
pub use crate::export::IntegerNetwork;
#[cfg(feature = "export")]
pub use built::{Beside, beside, network};

#[cfg(not(feature = "export"))]
pub use missing::{Beside, IntegerNetwork, beside, network};

#[cfg(feature = "export")]
mod built {
    use super::Options;
    use crate::base::name::display_path;
    use crate::cli::context::Context;
    use crate::cli::ending::usage;
    use crate::cli::table::{count, thousands};
    use crate::cli::{interrupt, recordings};
    use crate::data::{Dataset, Grouping, Split};
    use crate::exec::DeviceChoice;
    use crate::export::{IntegerNetwork, IntegerTiming, integer_network, label_flips, time_integer};
    use crate::ops::ConvChoice;
    use crate::train::{Bundle, Comparison, Evaluation, Resampled};
    use anyhow::Result;
    use serde::Serialize;
    use std::path::Path;

    /// Most clips of which the time is measured.
    const TIMED: usize = 101;

    /// A network in integers beside the one in floating point that it is from, on the same clips.
    #[derive(Serialize)]
    pub struct Beside {
        clips: u64,
        accuracy: f64,
        accuracy_f32: f64,
        /// Of the accuracy, integers less floating point, with its 95 % interval.
        difference: f64,
        interval: [f64; 2],
        resampled: Resampled,
        #[serde(skip)]
        grouping: Grouping,
        p: f64,
        label_flips: usize,
        calibration_clips: usize,
        isa: &'static str,
        time: IntegerTiming,
    }

    /// The run's network in integers, calibrated on the training clips of its own recordings: `data` if they are read already, else those at `moved` or where the
    /// run says; and how many clips these are.
    pub fn network(
        options: &Options,
        context: &Context,
        bundle: &Bundle,
        data: Option<&Dataset>,
        moved: Option<&Path>,
    ) -> Result<(IntegerNetwork, usize)> {
        if matches!(context.choice, DeviceChoice::Cuda(_)) {
            return Err(usage("--int8 is computed by the processor; leave --device out"));
        }
        let most = options.calibration_clips as usize;
        if let Some(data) = data {
            return Ok(integer_network(bundle, data, most)?);
        }
        let Some(config) = &bundle.config else {
            return Err(usage(format!(
                "--int8 needs training clips, and {} names none; give the folder of the run",
                display_path(&bundle.file)
            )));
        };
        interrupt::watch()?;
        let reading = recordings::config_of_trained(config, bundle.standardisation.as_ref());
        let data = recordings::open(context, moved.or(config.data.as_deref()), &reading)?;
        interrupt::unwatch();
        Ok(integer_network(bundle, &data, most)?)
    }

    /// Evaluates `network` on the clips of `float`, an evaluation of the network that it is from.
    pub fn beside(
        (network, calibration_clips): &(IntegerNetwork, usize),
        context: &Context,
        (bundle, conv): (&Bundle, ConvChoice),
        (data, split): (&Dataset, Option<Split>),
        float: &Evaluation,
    ) -> Result<Beside> {
        let integer = network.evaluate(data, split, context.isa)?;
        let Comparison { difference, interval, resampled, p, .. } = Comparison::of(float, &integer, data);
        let all: Vec<u32> = float.predictions.iter().map(|prediction| prediction.clip).collect();
        let n = all.len().min(TIMED);
        let timed: Vec<u32> = (0..n).map(|i| all[i * all.len() / n]).collect();
        Ok(Beside {
            clips: integer.clips,
            accuracy: integer.accuracy,
            accuracy_f32: float.accuracy,
            difference,
            interval,
            resampled,
            grouping: data.grouping(),
            p,
            label_flips: label_flips(float, &integer),
            calibration_clips: *calibration_clips,
            isa: context.isa.name(),
            time: time_integer(bundle, network, (data, &timed), (context.isa, conv))?,
        })
    }

    impl Beside {
        /// The result for people.
        pub fn text(&self) -> String {
            let over = if self.resampled == Resampled::Speakers { self.grouping.plural() } else { "clips" };
            let IntegerTiming { seconds_f32, seconds, ratio, clips } = self.time;
            format!(
                "int8     accuracy {:.4} instead of {:.4} in floating point: difference {:+.2} points (95 % interval over {over} {:+.2} to {:+.2}, p = {:.2}), another class for {} of {}\n\
                 int8     calibrated on {}; {:.2} ms for a clip on one thread instead of {:.2} ms in floating point, {ratio:.2} times as long (medians of {}, {})\n",
                self.accuracy,
                self.accuracy_f32,
                100.0 * self.difference,
                100.0 * self.interval[0],
                100.0 * self.interval[1],
                self.p,
                thousands(self.label_flips as u64),
                count(self.clips, "clip"),
                count(self.calibration_clips as u64, "training clip"),
                1e3 * seconds,
                1e3 * seconds_f32,
                count(clips as u64, "clip"),
                self.isa,
            )
        }
    }
}

/// In a program without exports.
#[cfg(not(feature = "export"))]
mod missing {
    use super::Options;
    use crate::cli::context::Context;
    use crate::data::{Dataset, Split};
    use crate::ops::ConvChoice;
    use crate::simd::Isa;
    use crate::train::{Bundle, Evaluation};
    use anyhow::{Result, bail};
    use serde::Serialize;
    use std::path::Path;

    /// A network that there is none of.
    pub enum IntegerNetwork {}

    impl IntegerNetwork {
        pub fn logits_of_clips(&self, _: &[f32], _: Isa) -> Result<Vec<Vec<f32>>> {
            match *self {}
        }
    }

    /// A result that there is none of.
    #[derive(Serialize)]
    pub enum Beside {}

    impl Beside {
        pub fn text(&self) -> String {
            match *self {}
        }
    }

    pub fn network(
        _: &Options,
        _: &Context,
        _: &Bundle,
        _: Option<&Dataset>,
        _: Option<&Path>,
    ) -> Result<(IntegerNetwork, usize)> {
        bail!(
            "this program was built without exports, which compute networks in integers; build it again with `--features export`"
        )
    }

    pub fn beside(
        (network, _): &(IntegerNetwork, usize),
        _: &Context,
        _: (&Bundle, ConvChoice),
        _: (&Dataset, Option<Split>),
        _: &Evaluation,
    ) -> Result<Beside> {
        match *network {}
    }
}
