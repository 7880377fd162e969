//! Mean and standard deviation of each channel over the training clips.

use rayon::prelude::*;

use crate::base::Standardisation;

use super::dataset::Dataset;
use super::split::Split;

/// How the clips of a data set are standardised.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Standardise {
    /// They are used as they are.
    #[default]
    No,
    /// By the mean and deviation of each channel over the training clips.
    ByTrainingClips,
    /// By these values, such as those that a trained network was trained with.
    By(Standardisation),
}

/// Number, mean and sum of squared differences to the mean.
#[derive(Clone, Copy, Default)]
struct Moments {
    n: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// The moments of both sets of values.
    ///
    /// **Source** Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979, equation 2.1.
    fn merge(self, other: Moments) -> Moments {
        let n = self.n + other.n;
        if other.n == 0.0 {
            return self;
        }
        let difference = other.mean - self.mean;
        Moments {
            n,
            mean: self.mean + difference * (other.n / n),
            squares: self.squares + other.squares + difference * difference * (self.n * other.n / n),
        }
    }
}

/// The standardisation by the training clips of `data`, of the part of each clip that is used, without padding; none if there are no training clips.
/// A channel whose values are all equal gets the deviation 1, so that it becomes 0.
pub(super) fn of_training_clips(data: &Dataset) -> Option<Standardisation> {
    let channels = data.format().channels as usize;
    let clips = data.in_split(Split::Training);
    // Merged in the order of the clips, so that the result does not depend on the threads.
    let of_clips: Vec<Vec<Moments>> = clips.par_iter().map(|&clip| of_clip(data, clip as usize, channels)).collect();
    let mut moments = vec![Moments::default(); channels];
    for of_clip in of_clips {
        moments.iter_mut().zip(of_clip).for_each(|(all, own)| *all = all.merge(own));
    }
    let mean = moments.iter().map(|of| of.mean as f32).collect();
    let deviation = moments.iter().map(|of| match (of.squares / of.n).sqrt() as f32 {
        deviation if deviation > 0.0 => deviation,
        _ => 1.0,
    });
    Standardisation::new(mean, deviation.collect()).ok().filter(|_| !clips.is_empty())
}

fn of_clip(data: &Dataset, clip: usize, channels: usize) -> Vec<Moments> {
    let mut values = vec![0.0; data.used_len(clip)];
    data.samples(clip).write(&mut values);
    let n = (values.len() / channels) as f64;
    let of_channel = |channel: usize| {
        let values = || values.iter().skip(channel).step_by(channels).map(|&value| f64::from(value));
        let mean = if n == 0.0 { 0.0 } else { values().sum::<f64>() / n };
        Moments { n, mean, squares: values().map(|value| (value - mean).powi(2)).sum() }
    };
    (0..channels).map(of_channel).collect()
}
