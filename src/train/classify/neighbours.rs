//! k-nearest neighbours: the class that most of the k training clips at the least Euclidean distance have.

use super::matrix::{Matrix, largest, squared_distance};
use super::{Labelled, Tried};
use rayon::prelude::*;

/// The numbers of neighbours that are tried, from the smoothest classifier on; those above the number of training clips are left out.
const NEIGHBOURS: [usize; 6] = [25, 15, 9, 5, 3, 1];

/// The predictions for `queries` with each number of neighbours. Of training clips at the same distance the first is the nearer one; of classes with as many
/// votes the one with the nearest clip is taken.
pub(super) fn predictions(training: &Labelled, queries: &Matrix) -> Vec<Tried> {
    let n = training.labels.len();
    let numbers: Vec<usize> = NEIGHBOURS.into_iter().filter(|&k| k <= n).collect();
    let most = numbers.first().copied().unwrap_or(0);
    let nearest = |query: &[f64]| -> Vec<u32> {
        let mut distances: Vec<(f64, usize)> =
            training.rows.iter().enumerate().map(|(clip, row)| (squared_distance(query, row), clip)).collect();
        let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if most < n {
            distances.select_nth_unstable_by(most, order);
            distances.truncate(most);
        }
        distances.sort_unstable_by(order);
        distances.into_iter().map(|(_, clip)| training.labels[clip]).collect()
    };
    let rows: Vec<&[f64]> = queries.iter().collect();
    let nearest: Vec<Vec<u32>> = rows.into_par_iter().map(nearest).collect();
    let with = |k: usize| Tried {
        setting: format!("k = {k}"),
        predictions: nearest.iter().map(|labels| vote(&labels[..k], training.classes)).collect(),
    };
    numbers.into_iter().map(with).collect()
}

/// The class with the most votes; `labels` are those of the nearest clips, the nearest first.
fn vote(labels: &[u32], classes: usize) -> u32 {
    let mut votes = vec![0; classes];
    labels.iter().for_each(|&label| votes[label as usize] += 1);
    let most = votes[largest(&votes)];
    labels.iter().copied().find(|&label| votes[label as usize] == most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::blobs;
    use super::*;

    #[test]
    fn the_nearest_of_two_equal_classes_is_taken() {
        assert_eq!(vote(&[2, 1, 1, 2, 0], 3), 2);
        assert_eq!(vote(&[2, 1, 1, 0], 3), 1);
    }

    #[test]
    fn a_number_of_neighbours_above_that_of_the_clips_is_left_out() {
        let training = blobs(4, 2, 2, 0.1);
        let tried = predictions(&training, &training.rows);
        assert_eq!(tried.iter().map(|of| of.setting.as_str()).collect::<Vec<_>>(), ["k = 3", "k = 1"]);
        assert_eq!(tried[1].predictions, training.labels);
    }

    #[test]
    fn predictions_are_those_of_smartcore() {
        use smartcore::algorithm::neighbour::KNNAlgorithmName::LinearSearch;
        use smartcore::linalg::basic::matrix::DenseMatrix;
        use smartcore::neighbors::knn_classifier::{KNNClassifier, KNNClassifierParameters};
        // Two classes and an odd number of neighbours: no ties.
        let (training, queries) = (blobs(80, 3, 2, 2.0), blobs(41, 3, 2, 2.5).rows);
        let rows = |matrix: &Matrix| DenseMatrix::new(matrix.rows(), 3, matrix.values.clone(), false).unwrap();
        for Tried { setting, predictions } in predictions(&training, &queries) {
            let k = setting.strip_prefix("k = ").unwrap().parse().unwrap();
            let parameters = KNNClassifierParameters::default().with_k(k).with_algorithm(LinearSearch);
            let theirs = KNNClassifier::fit(&rows(&training.rows), &training.labels, parameters).unwrap();
            assert_eq!(predictions, theirs.predict(&rows(&queries)).unwrap(), "{setting}");
        }
    }
}
