//! Random forest: the class for which most of many decision trees vote, each grown on a bootstrap sample of the training clips, with a random choice of features at each split.
//!
//! **Source** Breiman, "Random forests", Machine Learning 2001. The trees are those of smartcore, which grows one after the other: each is a forest of one tree here, with a seed of its own,
//! so that threads share the trees and fewer trees are the first of more.

use super::matrix::{Matrix, largest};
use super::{Labelled, Tried};
use crate::base::rng::{Key, Stream};
use rayon::prelude::*;
use smartcore::ensemble::random_forest_classifier::{RandomForestClassifier, RandomForestClassifierParameters};
use smartcore::error::Failed;
use smartcore::linalg::basic::matrix::DenseMatrix;

/// The greatest depths of a tree that are tried, from the smoothest classifier on; a tree without one grows until its leaves are pure.
const DEPTHS: [Option<u16>; 2] = [Some(8), None];
/// The numbers of trees that are tried.
const TREES: [usize; 3] = [25, 50, 100];

/// The predictions for `queries` with each depth and number of trees.
pub(super) fn predictions(training: &Labelled, queries: &Matrix, seed: u64) -> Result<Vec<Tried>, Failed> {
    let dense = |matrix: &Matrix| DenseMatrix::new(matrix.rows(), matrix.cols, matrix.transposed().values, true);
    let (rows, queries) = (dense(&training.rows)?, dense(queries)?);
    let key = Key::new(seed, Stream::Resample);
    let mut tried = Vec::new();
    for depth in DEPTHS {
        let grow = |tree: usize| -> Result<Vec<u32>, Failed> {
            let parameters = RandomForestClassifierParameters {
                n_trees: 1,
                max_depth: depth,
                seed: key.bits(tree as u64),
                ..Default::default()
            };
            RandomForestClassifier::fit(&rows, &training.labels, parameters)?.predict(&queries)
        };
        let most = TREES[TREES.len() - 1];
        let trees: Vec<Vec<u32>> = (0..most).into_par_iter().map(grow).collect::<Result<_, _>>()?;
        for number in TREES {
            let depth = depth.map_or(String::new(), |depth| format!(", depth {depth}"));
            let setting = format!("{number} trees{depth}");
            tried.push(Tried { setting, predictions: votes(&trees[..number], training.classes) });
        }
    }
    Ok(tried)
}

/// The class that most trees predict for each row, the first of equal ones.
fn votes(trees: &[Vec<u32>], classes: usize) -> Vec<u32> {
    let rows = trees.first().map_or(0, Vec::len);
    let class = |row: usize| {
        let mut votes = vec![0; classes];
        trees.iter().for_each(|tree| votes[tree[row] as usize] += 1);
        largest(&votes) as u32
    };
    (0..rows).map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::blobs;
    use super::*;

    #[test]
    fn a_forest_learns_what_no_line_separates_and_does_not_depend_on_threads() {
        // Class 1 where exactly one of two features is above 0.
        let mut training = blobs(60, 2, 4, 0.3);
        training.labels = training.rows.iter().map(|row| u32::from((row[0] > 0.0) != (row[1] > 0.0))).collect();
        training.classes = 2;
        let of = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| predictions(&training, &training.rows, seed).unwrap())
        };
        let one = of(1, 1);
        assert_eq!(
            one.iter().map(|tried| tried.setting.as_str()).collect::<Vec<_>>()[2..4],
            ["100 trees, depth 8", "25 trees"]
        );
        assert_eq!(one[5].predictions, training.labels);
        assert_eq!(one, of(3, 1));
    }

    #[test]
    fn two_clips_are_enough() {
        let training = Labelled { rows: Matrix { cols: 1, values: vec![0.0, 1.0] }, labels: vec![0, 1], classes: 2 };
        assert_eq!(predictions(&training, &training.rows, 1).unwrap().len(), 6);
    }
}
