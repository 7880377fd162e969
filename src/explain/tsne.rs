//! t-SNE: clips with similar features close to each other in two dimensions.
//!
//! **Source**: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008; started from the principal components as in Kobak and Berens, "The art of using t-SNE for single-cell
//! transcriptomics", Nature Communications 10, 2019.

use super::error::ExplainError;
use super::pca::{Pca, centred};
use bhtsne::{Neighbor, tSNE};
use rayon::prelude::*;

/// The perplexity with enough clips.
const PERPLEXITY: f64 = 30.0;
/// Fewer clips have no neighbourhoods to speak of.
const LEAST_CLIPS: usize = 8;
/// Steps of the gradient descent.
const STEPS: usize = 750;
/// The accuracy of the Barnes-Hut approximation of the repulsive forces; 0 is exact.
const THETA: f64 = 0.5;
/// The standard deviation of the first coordinate at the start.
const START: f64 = 1e-4;

/// Clips in two dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Tsne {
    /// The coordinates of each clip; their unit has no meaning.
    pub coordinates: Vec<[f64; 2]>,
    /// About how many neighbours of each clip are kept close to it.
    pub perplexity: f64,
}

impl Tsne {
    /// The clips with these `features`, `[clips, size]`, in two dimensions, started from their principal components; none for fewer than eight clips.
    ///
    /// # Errors
    /// There are no clips, the array is not a whole number of clips, a feature is not finite, or no thread can be started.
    pub fn new(features: &[f32], size: usize, start: &Pca) -> Result<Option<Tsne>, ExplainError> {
        let (_, rows) = centred(features, size)?;
        let clips = rows.len() / size;
        if clips < LEAST_CLIPS {
            return Ok(None);
        }
        let perplexity = PERPLEXITY.min((clips - 1) as f64 / 3.0);
        let Some(neighbours) = neighbours(&rows, size, (3.0 * perplexity) as usize) else {
            return Ok(Some(Tsne { coordinates: vec![[0.0; 2]; clips], perplexity }));
        };
        let coordinate = |clip: usize, axis: usize| {
            let of_clip = start.coordinates.get(clip).and_then(|of_clip| of_clip.get(axis));
            of_clip.copied().unwrap_or(0.0)
        };
        let deviation = ((0..clips).map(|clip| coordinate(clip, 0).powi(2)).sum::<f64>() / clips as f64).sqrt();
        let scale = START / deviation.max(f64::MIN_POSITIVE);
        let start: Vec<f64> = (0..2 * clips).map(|at| scale * coordinate(at / 2, at % 2)).collect();
        // The crate adds in an order that depends on the number of threads, and the descent makes other pictures of other roundings: with one thread there is one order. Its own search for
        // neighbours is random, and therefore not used.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|_| ExplainError::NoThread)?;
        let numbers: Vec<usize> = (0..clips).collect();
        let flat = pool.install(|| {
            let mut descent = tSNE::<f64, usize>::new(&numbers);
            descent.perplexity(perplexity).epochs(STEPS).initial_embedding(start);
            descent.barnes_hut_with_neighbors(THETA, &neighbours).embedding()
        });
        Ok(Some(Tsne { coordinates: flat.as_chunks::<2>().0.to_vec(), perplexity }))
    }
}

/// The `count` nearest other clips of each, from the nearest on, with distances relative to their root mean square; none if all clips are equal.
fn neighbours(rows: &[f64], size: usize, count: usize) -> Option<Vec<Vec<Neighbor<f64>>>> {
    let clips = rows.len() / size;
    let row = |clip: usize| &rows[clip * size..][..size];
    let nearest = |clip: usize| {
        let distance = |other: usize| row(clip).iter().zip(row(other)).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let others = (0..clips).filter(|&other| other != clip);
        let mut all: Vec<(f64, usize)> = others.map(|other| (distance(other).sqrt(), other)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.truncate(count);
        all
    };
    let all: Vec<Vec<(f64, usize)>> = (0..clips).into_par_iter().map(nearest).collect();
    let squares: f64 = all.iter().flatten().map(|(distance, _)| distance.powi(2)).sum();
    let scale = (squares / (clips * count).max(1) as f64).sqrt();
    if scale == 0.0 {
        return None;
    }
    let relative = |(distance, index): (f64, usize)| Neighbor { index, distance: distance / scale };
    Some(all.into_iter().map(|of_clip| of_clip.into_iter().map(relative).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Key, Stream};

    /// Clips of `clusters` well separated clusters by turns, `[clips, 5]`.
    fn clustered(clips: usize, clusters: usize) -> Vec<f32> {
        let key = Key::new(1, Stream::Case);
        let value = |at: usize| {
            let (clip, feature) = (at / 5, at % 5);
            let centre = if clip % clusters == feature { 20.0 } else { 0.0 };
            (centre + key.normal(at as u64)) as f32
        };
        (0..5 * clips).map(value).collect()
    }

    fn tsne(features: &[f32], size: usize) -> Option<Tsne> {
        Tsne::new(features, size, &Pca::new(features, size, 2).unwrap()).unwrap()
    }

    #[test]
    fn clusters_stay_apart_and_any_number_of_threads_gives_the_same_bits() {
        let features = clustered(90, 3);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| tsne(&features, 5).unwrap())
        };
        let (one, three) = (with(1), with(3));
        assert_eq!(one, three);
        let at = &one.coordinates;
        let distance = |a: usize, b: usize| (at[a][0] - at[b][0]).hypot(at[a][1] - at[b][1]);
        for clip in 0..90 {
            let others = || (0..90).filter(|&other| other != clip);
            let nearest = others().min_by(|&a, &b| distance(clip, a).total_cmp(&distance(clip, b))).unwrap();
            assert_eq!(nearest % 3, clip % 3, "clip {clip} is closest to {nearest}");
        }
    }

    #[test]
    fn few_equal_and_repeated_clips_have_finite_coordinates() {
        assert_eq!(tsne(&clustered(7, 2), 5), None);
        let few = tsne(&clustered(8, 2), 5).unwrap();
        assert_eq!((few.coordinates.len(), few.perplexity), (8, 7.0 / 3.0));
        let equal = tsne(&[0.5; 100], 2).unwrap();
        assert!(equal.coordinates.iter().flatten().all(|&v| v == 0.0));
        let twice: Vec<f32> = (0..200).map(|at| if at / 2 % 2 == 0 { 1.0 } else { -1.0 }).collect();
        for embedding in [few, tsne(&twice, 2).unwrap()] {
            assert!(embedding.coordinates.iter().flatten().all(|v| v.is_finite()), "{embedding:?}");
        }
    }
}
