//! Principal components: those of scikit-learn, up to their sign.

use crate::fixture::{TensorFile, difference};
use stapes::explain::Pca;

const TOLERANCE: f64 = 1e-4;

#[test]
fn components_are_those_of_scikit_learn() {
    let file = TensorFile::read("pca.safetensors");
    for case in ["few features", "many features", "many of both"] {
        let of = |name: &str| &file.tensors[&format!("{case}.{name}")];
        let (x, components) = (of("x"), of("components"));
        let (size, count) = (x.shape[1], components.shape[0]);
        let features: Vec<f32> = x.values.iter().map(|&v| v as f32).collect();
        let pca = Pca::new(&features, size, count).unwrap();
        let coordinates = of("coordinates");
        for number in 0..count {
            let expected = &components.values[number * size..][..size];
            let got = &pca.components[number];
            let sign = got.iter().zip(expected).map(|(a, b)| a * b).sum::<f64>().signum();
            let turned = |values: &[f64]| values.iter().map(|v| sign * v).collect::<Vec<_>>();
            assert!(difference(&turned(got), expected) < TOLERANCE, "{case}: component {number}");
            let along: Vec<f64> = pca.coordinates.iter().map(|of_clip| of_clip[number]).collect();
            let expected: Vec<f64> = coordinates.values.iter().skip(number).step_by(count).copied().collect();
            assert!(difference(&turned(&along), &expected) < TOLERANCE, "{case}: coordinates along {number}");
            let largest = got.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
            assert!(largest > 0.0, "{case}: the largest number of component {number} is {largest}");
        }
        assert!(difference(&pca.variances, &of("variances").values) < TOLERANCE, "{case}: variances");
        assert!(difference(&pca.shares, &of("shares").values) < TOLERANCE, "{case}: shares");
    }
}
