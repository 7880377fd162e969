//! From a network in floating point and the ranges of its activations to one in integers.

use super::{Calibration, IntegerNetwork, IntegerResidual, IntegerStage, Multiplier, Range};
use crate::export::error::ExportError;
use crate::export::stages::{Kernel, Stage, Stages};

/// Units of a number of the output in which residuals are added.
const UNITS: f64 = 256.0;
/// How many stages have outputs of 16 bits, if these are not negative and the next stage is a convolution.
const WIDE_STAGES: usize = 2;
/// The largest number of 16 bits.
const WIDE: i32 = 32_767;
/// The largest value of an output of 16 bits, in units of the largest of the calibration.
const HEADROOM: f32 = 2.0;
/// Most rows of a mean, so that its sum fits into 32 bits.
const MOST_ROWS: usize = 1 << 22;

/// What a number of an activation stands for.
#[derive(Clone, Copy)]
struct Code {
    scale: f64,
    zero: i32,
    /// The largest magnitude of a number.
    largest: i64,
}

impl Code {
    fn of(range: Range, most: i32) -> Code {
        let (scale, zero) = range.scale_and_zero(most);
        Code { scale, zero, largest: i64::from(most) }
    }

    /// The code of the output of stage `i`.
    fn of_stage(stages: &Stages, i: usize, calibration: &Calibration) -> Option<Code> {
        let (&range, &extent) = (calibration.outputs.get(i)?, calibration.extents.get(i)?);
        let reader = stages.stages.get(i + 1).map(|stage| stage.form.kernel);
        let is_wide = i < WIDE_STAGES && extent.low == 0.0 && matches!(reader, Some(Kernel::Convolution(_)));
        Some(match is_wide {
            true => Code::of(Range { high: HEADROOM * extent.high, ..extent }, WIDE),
            false => Code::of(range, 255),
        })
    }
}

impl IntegerNetwork {
    /// The network in integers.
    ///
    /// # Errors
    /// The first layer with weights is not a convolution, a mean is over too many rows, or the calibration is of another network.
    pub fn new(stages: &Stages, calibration: &Calibration) -> Result<IntegerNetwork, ExportError> {
        // 16-bit sound becomes its samples; other inputs use the whole range.
        let input_factor = match calibration.input_peak {
            peak if peak <= 1.0 => 32_768.0,
            peak => 32_767.0 / peak,
        };
        // The code of the input, then of the output of each stage.
        let mut codes = vec![Code { scale: 1.0 / f64::from(input_factor), zero: 0, largest: 32_768 }];
        let mut integer: Vec<IntegerStage> = Vec::with_capacity(stages.stages.len());
        let mut logit_scale = Vec::new();
        for (i, stage) in stages.stages.iter().enumerate() {
            let (Some(&before), Some(code)) = (codes.last(), Code::of_stage(stages, i, calibration)) else {
                return Err(ExportError::Calibration);
            };
            check(stage, i)?;
            let output = if matches!(stage.form.kernel, Kernel::MaxPool { .. }) { before } else { code };
            let is_last = i + 1 == stages.stages.len();
            let (converted, scales) = convert(stage, before, if is_last { None } else { Some(output) }, &codes);
            if is_last {
                logit_scale = scales.iter().map(|&scale| scale as f32).collect();
            }
            integer.push(converted);
            codes.push(output);
        }
        Ok(IntegerNetwork {
            input: stages.input,
            standardisation: stages.standardisation.clone(),
            input_factor,
            stages: integer,
            logit_scale,
        })
    }
}

fn check(stage: &Stage, index: usize) -> Result<(), ExportError> {
    let refuse = |advice| {
        Err(ExportError::NoForm {
            layer: stage.form.name.clone(),
            operation: "a layer".into(),
            format: "a network in integers",
            advice,
        })
    };
    if index == 0 && !matches!(stage.form.kernel, Kernel::Convolution(_)) {
        return refuse("the first layer must be a convolution; compute it in floating point, without --int8");
    }
    if stage.form.kernel == Kernel::Mean && stage.form.input.l > MOST_ROWS {
        return refuse("its mean is over too many rows; compute it in floating point, without --int8");
    }
    Ok(())
}

/// The stage in integers, and what a unit of the sums of each channel stands for; without an output code, for the last stage.
fn convert(stage: &Stage, input: Code, output: Option<Code>, codes: &[Code]) -> (IntegerStage, Vec<f64>) {
    let form = stage.form.clone();
    let channels = form.output.c;
    let (weight, bias, scales) = match form.kernel {
        Kernel::MaxPool { .. } => (Vec::new(), Vec::new(), Vec::new()),
        Kernel::Mean => {
            let rows = form.input.l;
            (Vec::new(), vec![-(rows as i32) * input.zero; channels], vec![input.scale / rows as f64; channels])
        }
        Kernel::Convolution(_) | Kernel::Dense => weights(stage, input),
    };
    let residual = form.residual.zip(output).map(|(source, output)| IntegerResidual {
        zero: codes[source].zero,
        rescale: Multiplier::new(codes[source].scale / output.scale * UNITS),
    });
    let units = if residual.is_some() { UNITS } else { 1.0 };
    let rescale = output.map_or_else(Vec::new, |output| {
        scales.iter().map(|scale| Multiplier::new(scale / output.scale * units)).collect()
    });
    // The numbers of a pool have their zero already.
    let zero_out = output.filter(|_| !scales.is_empty()).map_or(0, |output| output.zero);
    let zero_in = input.zero;
    let most = output.map_or(255, |output| output.largest as i32);
    (IntegerStage { form, weight, bias, rescale, residual, zero_in, zero_out, most }, scales)
}

/// The weights and biases in integers, and what a unit of the sums of each channel stands for.
fn weights(stage: &Stage, input: Code) -> (Vec<i8>, Vec<i32>, Vec<f64>) {
    let channels = stage.form.output.c;
    let mut weight = vec![0i8; stage.weight.len()];
    let mut bias = Vec::with_capacity(channels);
    let mut scales = Vec::with_capacity(channels);
    for (j, &b) in stage.bias.iter().enumerate() {
        let of_channel = || stage.weight.iter().skip(j).step_by(channels);
        let peak = of_channel().fold(0.0f32, |peak, w| peak.max(w.abs()));
        let mut scale = f64::from(peak) / 127.0;
        if scale == 0.0 {
            scale = f64::from(f32::MIN_POSITIVE);
        }
        // With a larger scale the weights have fewer bits, and the largest sum becomes smaller.
        let (numbers, start) = loop {
            let numbers: Vec<i8> = of_channel().map(|&w| (f64::from(w) / scale).round() as i8).collect();
            let magnitude: i64 = numbers.iter().map(|&q| i64::from(q).abs()).sum();
            let sum: i64 = numbers.iter().map(|&q| i64::from(q)).sum();
            let start = (f64::from(b) / (scale * input.scale)).round() - (i64::from(input.zero) * sum) as f64;
            if start.abs() + (magnitude * input.largest) as f64 <= f64::from(i32::MAX) {
                break (numbers, start as i32);
            }
            scale *= 2.0;
        };
        weight.iter_mut().skip(j).step_by(channels).zip(numbers).for_each(|(to, q)| *to = q);
        bias.push(start);
        scales.push(scale * input.scale);
    }
    (weight, bias, scales)
}
