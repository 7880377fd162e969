//! Whether maps tell what a network relies on: deletion and insertion curves, beside those of random maps.
//!
//! A clip is cut into parts of equal length. Deletion replaces parts by silence, those with the largest values of a map first; a faithful map makes the probability of the predicted class
//! fall early, so that the area under the curve is small. Insertion begins with silence and puts the same parts back in the same order; a faithful map has a large area. Random
//! orders of the parts say what the areas are for a map without meaning.
//! **Source** Petsiuk, Das and Saenko, "RISE: randomized input sampling for explanation of black-box models", BMVC 2018.

use super::error::ExplainError;
use super::maps::Map;
use crate::base::rng::{Key, Stream};
use crate::train::{Mean, Predictor};
use serde::Serialize;

/// Parts of a clip: 25 ms each in a clip of one second.
pub const PARTS: usize = 40;
/// Points of a curve between none and all of the parts.
const INNER: usize = 9;
/// Random orders for each clip, whose areas are averaged.
const RANDOM: usize = 3;

/// The mean curves of a method, by the share of the parts: 0, 0.1, .., 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curves {
    /// The probability of the predicted class when this share is deleted.
    pub deletion: Vec<f64>,
    /// The same when this share is inserted into silence.
    pub insertion: Vec<f64>,
}

/// The result of a method, over clips.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Faithfulness {
    /// The method; `random` for random orders.
    pub method: String,
    /// Clips.
    pub clips: usize,
    /// Area under the deletion curve; smaller is better.
    pub deletion: Mean,
    /// Area under the insertion curve; larger is better.
    pub insertion: Mean,
    /// Area under the deletion curve less that of random orders, for each clip; none for random orders.
    pub deletion_against_random: Option<Mean>,
    /// The same for insertion.
    pub insertion_against_random: Option<Mean>,
    /// The mean curves.
    pub curves: Curves,
}

/// Sums over clips.
#[derive(Default)]
struct Total {
    deletion: Vec<f64>,
    insertion: Vec<f64>,
    curves: [[f64; INNER + 2]; 2],
}

/// Measures deletion and insertion clip by clip.
pub struct FaithfulnessCheck {
    methods: Vec<String>,
    /// Of the methods, then of random orders.
    totals: Vec<Total>,
    seed: u64,
    clip: usize,
    channels: usize,
    /// Masked copies of a clip.
    masked: Vec<f32>,
}

impl FaithfulnessCheck {
    /// A check of the maps of these methods, for clips of `clip` numbers with this many channels. Random orders depend on `seed`.
    pub fn new(methods: Vec<String>, clip: usize, channels: usize, seed: u64) -> FaithfulnessCheck {
        let totals = (0..=methods.len()).map(|_| Total::default()).collect();
        FaithfulnessCheck { methods, totals, seed, clip, channels: channels.max(1), masked: Vec::new() }
    }

    /// Adds a clip, `[length, channels]`, that the predictor takes for `class`: one map for each method.
    ///
    /// # Errors
    /// The predictor takes other clips.
    pub fn add(
        &mut self,
        predictor: &mut Predictor,
        input: &[f32],
        class: usize,
        maps: &[Map],
    ) -> Result<(), ExplainError> {
        let frames = self.clip / self.channels;
        let number = self.totals[0].deletion.len() as u64;
        let mut orders: Vec<Vec<usize>> = maps.iter().map(|map| descending(&map.by_part(frames, PARTS))).collect();
        let key = Key::new(self.seed, Stream::Case).with(number);
        let random = |order: usize| -> Vec<f64> {
            (0..PARTS).map(|part| key.with(order as u64).bits(part as u64) as f64).collect()
        };
        orders.extend((0..RANDOM).map(|order| descending(&random(order))));
        self.masked.clear();
        self.masked.extend_from_slice(input);
        self.masked.extend(std::iter::repeat_n(0.0, self.clip));
        for order in &orders {
            for inner in 1..=INNER {
                let gone = &order[..inner * PARTS / (INNER + 1)];
                for deletes in [true, false] {
                    self.mask(input, gone, deletes);
                }
            }
        }
        let masked = std::mem::take(&mut self.masked);
        let predictions = predictor.predict(&masked);
        self.masked = masked;
        let p: Vec<f64> = predictions?.into_iter().map(|of| of.probabilities[class]).collect();
        let (whole, silence) = (p[0], p[1]);
        for (order, inner) in p[2..].chunks_exact(2 * INNER).enumerate() {
            let curve = |which: usize, first: f64, last: f64| -> [f64; INNER + 2] {
                std::array::from_fn(|i| match i {
                    0 => first,
                    i if i > INNER => last,
                    i => inner[2 * (i - 1) + which],
                })
            };
            let curves = [curve(0, whole, silence), curve(1, silence, whole)];
            let is_random = order >= self.methods.len();
            let total = &mut self.totals[order.min(self.methods.len())];
            let share = if is_random { 1.0 / RANDOM as f64 } else { 1.0 };
            if order <= self.methods.len() {
                total.deletion.push(0.0);
                total.insertion.push(0.0);
            }
            for (areas, curve) in [&mut total.deletion, &mut total.insertion].into_iter().zip(&curves) {
                let last = areas.len() - 1;
                areas[last] += share * area(curve);
            }
            for (sums, curve) in total.curves.iter_mut().zip(&curves) {
                sums.iter_mut().zip(curve).for_each(|(sum, p)| *sum += share * p);
            }
        }
        Ok(())
    }

    /// Appends a copy of the clip in which the `parts` are silent, or all others.
    fn mask(&mut self, input: &[f32], parts: &[usize], deletes: bool) {
        let frames = self.clip / self.channels;
        let from = self.masked.len();
        match deletes {
            true => self.masked.extend_from_slice(input),
            false => self.masked.resize(from + self.clip, 0.0),
        }
        for &part in parts {
            let range = part * frames / PARTS * self.channels..(part + 1) * frames / PARTS * self.channels;
            let to = &mut self.masked[from..][range.clone()];
            match deletes {
                true => to.fill(0.0),
                false => to.copy_from_slice(&input[range]),
            }
        }
    }

    /// The results of the methods, then of random orders.
    pub fn finish(self) -> Vec<Faithfulness> {
        let names = self.methods.iter().map(String::as_str).chain(["random"]);
        let random = self.totals.last();
        let against = |of: &[f64], random: &[f64]| -> Mean {
            Mean::of(&of.iter().zip(random).map(|(of, random)| of - random).collect::<Vec<_>>())
        };
        let result = |(name, total): (&str, &Total)| {
            let clips = total.deletion.len();
            let curve = |sums: &[f64]| sums.iter().map(|sum| sum / clips.max(1) as f64).collect();
            let random = random.filter(|_| name != "random");
            Faithfulness {
                method: name.into(),
                clips,
                deletion: Mean::of(&total.deletion),
                insertion: Mean::of(&total.insertion),
                deletion_against_random: random.map(|random| against(&total.deletion, &random.deletion)),
                insertion_against_random: random.map(|random| against(&total.insertion, &random.insertion)),
                curves: Curves { deletion: curve(&total.curves[0]), insertion: curve(&total.curves[1]) },
            }
        };
        names.zip(&self.totals).map(result).collect()
    }
}

/// The numbers of the values, the largest first; of equal ones the first.
fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order
}

/// The area under a curve over the shares from 0 to 1, by trapezoids.
fn area(curve: &[f64]) -> f64 {
    let steps = curve.len().saturating_sub(1).max(1) as f64;
    curve.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).sum::<f64>() / steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Network, NetworkSpec};
    use crate::train::Weights;

    /// A network whose first class is that the middle of the clip is loud.
    fn middle_matters() -> (Predictor, usize) {
        let text = "name = 'middle'\ninput = { length = 80, channels = 1, sample_rate = 8000 }\n\
                    block = [{ conv = 1, kernel = 1, pool = 2 }]";
        let network = Network::build(&NetworkSpec::parse(text, "test").unwrap(), 2).unwrap();
        let mut weights = Weights::zeros(&network.graph);
        for parameter in network.graph.parameters() {
            let values = &mut weights.params[parameter.offset..][..parameter.len];
            match parameter.name.as_str() {
                "conv1.weight" => values.fill(1.0),
                // Rows 10 to 29 of 40, class 0.
                "fc1.weight" => (10..30).for_each(|row| values[row * 2] = 0.5),
                "fc1.bias" => values.copy_from_slice(&[-5.0, 0.0]),
                _ => {}
            }
        }
        (Predictor::builder(&network, weights).batch(7).build().unwrap(), 80)
    }

    #[test]
    fn a_map_of_what_matters_is_better_than_random_and_one_of_what_does_not_is_worse() {
        let (mut predictor, length) = middle_matters();
        let input = vec![1.0; length];
        let map = |inside: f32| Map {
            values: (0..40).map(|row| if (10..30).contains(&row) { inside } else { 1.0 - inside }).collect(),
            step: 2,
        };
        let mut check = FaithfulnessCheck::new(vec!["good".into(), "bad".into()], length, 1, 1);
        for _ in 0..3 {
            check.add(&mut predictor, &input, 0, &[map(1.0), map(0.0)]).unwrap();
        }
        let results = check.finish();
        assert_eq!(results.iter().map(|of| of.method.as_str()).collect::<Vec<_>>(), ["good", "bad", "random"]);
        let difference = |of: usize| {
            let of = &results[of];
            let [deletion, insertion] = [&of.deletion_against_random, &of.insertion_against_random];
            [deletion.as_ref().unwrap().mean, insertion.as_ref().unwrap().mean]
        };
        assert!(difference(0)[0] < -0.1 && difference(0)[1] > 0.1, "{:?}", results[0]);
        assert!(difference(1)[0] > 0.1 && difference(1)[1] < -0.1, "{:?}", results[1]);
        assert!(results[2].deletion_against_random.is_none());
        // All curves begin and end at the same probabilities.
        for of in &results {
            assert_eq!(of.clips, 3);
            assert_eq!(of.curves.deletion.len(), INNER + 2);
            approx::assert_abs_diff_eq!(of.curves.deletion[0], of.curves.insertion[INNER + 1], epsilon = 1e-6);
            approx::assert_abs_diff_eq!(of.curves.deletion[0], results[2].curves.deletion[0], epsilon = 1e-6);
        }
    }

    #[test]
    fn no_clips_are_no_obstacle() {
        let results = FaithfulnessCheck::new(vec!["none".into()], 80, 1, 1).finish();
        assert_eq!((results.len(), results[0].clips), (2, 0));
        assert!(results[0].curves.deletion.iter().all(|p| p.is_finite()));
    }
}
