//! Computes a network in integers, a layer at a time: the reference for every other execution.

use super::{IntegerNetwork, IntegerStage, Multiplier};
use crate::base::Shape;
use crate::export::error::ExportError;
use crate::export::layers::ConvolutionGeometry;
use crate::export::stages::Kernel;

impl IntegerNetwork {
    /// The logits of a clip, `[length, channels]` with full scale 1, before it is standardised.
    ///
    /// # Errors
    /// The clip has another length than the input.
    pub fn logits(&self, clip: &[f32]) -> Result<Vec<f32>, ExportError> {
        let mut clip = clip.to_vec();
        if let Some(standardisation) = &self.standardisation {
            standardisation.apply(&mut clip);
        }
        self.logits_of_standardised(&clip)
    }

    /// The logits of a clip that has been standardised, or need not be.
    ///
    /// # Errors
    /// The clip has another length than the input.
    pub fn logits_of_standardised(&self, clip: &[f32]) -> Result<Vec<f32>, ExportError> {
        let expected = self.input.size();
        if clip.len() != expected {
            return Err(ExportError::ClipLength { got: clip.len(), expected });
        }
        // The input, then the output of each stage.
        let mut values: Vec<Vec<i16>> = vec![clip.iter().map(|&x| self.number(x)).collect()];
        for stage in &self.stages {
            let sums = stage.sums(&values[values.len() - 1]);
            if stage.rescale.is_empty() && stage.form.kernel == Kernel::Dense {
                let logits = sums.iter().zip(&self.logit_scale).map(|(&sum, scale)| sum as f32 * scale);
                return Ok(logits.collect());
            }
            let residual = stage.form.residual.map(|source| &values[source][..]);
            values.push(stage.output(sums, residual));
        }
        Ok(Vec::new())
    }

    /// A sample as an integer of 16 bits.
    pub(super) fn number(&self, x: f32) -> i16 {
        match x * self.input_factor {
            value if value > 32_767.0 => i16::MAX,
            value if value > -32_768.0 => (value + if value < 0.0 { -0.5 } else { 0.5 }) as i16,
            _ => i16::MIN,
        }
    }
}

impl IntegerStage {
    /// The sums of all rows before residual and pool.
    pub(super) fn sums(&self, x: &[i16]) -> Vec<i32> {
        let (input, channels) = (self.form.input, self.form.output.c);
        match self.form.kernel {
            Kernel::Convolution(geometry) => self.convolution(&geometry, x),
            Kernel::MaxPool { k, stride } => {
                let window = |r: usize| (r * stride)..(r * stride + k).min(input.l);
                let row = |r: usize| (0..channels).map(move |c| (r, c));
                let largest = |(r, c): (usize, usize)| window(r).map(|row| i32::from(x[row * input.c + c])).max();
                (0..self.form.rows).flat_map(row).map(|place| largest(place).unwrap_or(0)).collect()
            }
            Kernel::Mean => {
                let mut sums = self.bias.clone();
                for row in x.chunks_exact(input.c) {
                    sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += i32::from(x));
                }
                sums
            }
            Kernel::Dense => {
                let mut sums = self.bias.clone();
                for (row, &x) in self.weight.chunks_exact(channels).zip(x) {
                    sums.iter_mut().zip(row).for_each(|(sum, &w)| *sum += i32::from(x) * i32::from(w));
                }
                sums
            }
        }
    }

    fn convolution(&self, g: &ConvolutionGeometry, x: &[i16]) -> Vec<i32> {
        let Shape { l, c } = self.form.input;
        let channels = self.form.output.c;
        let outside = vec![self.zero_in as i16; c];
        let mut all = Vec::with_capacity(self.form.rows * channels);
        for r in 0..self.form.rows {
            let mut sums = self.bias.clone();
            for t in 0..g.k {
                let row = (r * g.stride + t * g.dilation).checked_sub(g.before).filter(|&row| row < l);
                let inputs = row.map_or(&outside[..], |row| &x[row * c..][..c]);
                if g.depthwise {
                    let taps = &self.weight[t * c..][..c];
                    let terms = sums.iter_mut().zip(inputs).zip(taps);
                    terms.for_each(|((sum, &x), &w)| *sum += i32::from(x) * i32::from(w));
                    continue;
                }
                let taps = self.weight[t * c * channels..].chunks_exact(channels);
                for (&x, taps) in inputs.iter().zip(taps) {
                    sums.iter_mut().zip(taps).for_each(|(sum, &w)| *sum += i32::from(x) * i32::from(w));
                }
            }
            all.extend(sums);
        }
        all
    }

    /// The output from the sums of all rows and the rows that are added.
    fn output(&self, mut sums: Vec<i32>, residual: Option<&[i16]>) -> Vec<i16> {
        let channels = self.form.output.c;
        if let (Some(rows), Some(code)) = (residual, self.residual) {
            for (i, (sum, &x)) in sums.iter_mut().zip(rows).enumerate() {
                *sum = self.rescale[i % channels].apply(*sum) + code.rescale.apply(i32::from(x) - code.zero);
            }
        }
        let pool = self.form.pool;
        let mut output = Vec::with_capacity(self.form.output.size());
        for r in 0..self.form.output.l {
            let rows = (r * pool.stride)..(r * pool.stride + pool.k).min(self.form.rows);
            for c in 0..channels {
                let largest = rows.clone().map(|row| sums[row * channels + c]).max().unwrap_or(0);
                let value = match self.residual {
                    Some(_) => Multiplier::UNIT.apply(largest),
                    None => self.rescale.get(c).map_or(largest, |rescale| rescale.apply(largest)),
                };
                output.push((value + self.zero_out).clamp(0, self.most) as i16);
            }
        }
        output
    }
}
