//! The `reference_backward` of every operation compared with central differences of its `reference_forward`, in double precision: the proof of
//! the formulas with which the kernels are compared.

use rayon::prelude::*;
use stapes::base::rng::{Key, Stream};
use stapes::exec::Reference;
use stapes::exec::conformance::CaseGraph;
use stapes::ops::ALL;
use stapes::ops::case::Case;
use stapes::ops::device::Precision;
use stapes::train::gradcheck::check_case;

/// Largest difference, relative to the largest gradient of the tensor: the square of the distance, and rounding.
const TOLERANCE: f64 = 1e-6;
/// How many elements of a tensor are compared, at least and at most.
const ELEMENTS: [usize; 2] = [30, 400];
/// As many elements as keep outputs times parameters below this; wide convolutions have the formulas of narrow ones.
const WORK: usize = 1_000_000_000;

/// What is wrong with the gradients of a case.
fn wrong(family: &str, case: &Case) -> Vec<String> {
    let CaseGraph { graph, x, y, loss, inputs, params, mut state } = CaseGraph::new(case, Precision::F32).unwrap();
    let mut reference = Reference::forward(&graph, case.n, &params, &mut state, &inputs, Key::new(3, Stream::Dropout));
    reference.backward(&params, loss);
    for (input, id) in case.inputs.iter().zip(&x) {
        let gradient = &reference.gradients[id.index()];
        assert!(!input.fill.is_label() || gradient.iter().all(|&g| g == 0.0), "a label has no gradient");
    }
    let [least, most] = ELEMENTS;
    let work = case.n * graph.shape(y).size() * graph.params_len();
    let checks = check_case(case, (WORK / work.max(1)).clamp(least, most));
    let wrong = checks.into_iter().filter(|check| !check.agrees(TOLERANCE));
    wrong.map(|check| format!("{family} {} {check:?}", case.name)).collect()
}

#[test]
fn references_agree_with_central_differences() {
    let mut all: Vec<(&str, Case)> = Vec::new();
    for family in ALL {
        let cases: Vec<Case> = (family.cases)().into_iter().filter(|case| !case.real).collect();
        assert!(!cases.is_empty(), "{} has no case small enough", family.name);
        all.extend(cases.into_iter().map(|case| (family.name, case)));
    }
    let wrong: Vec<String> =
        all.par_iter().with_max_len(1).flat_map_iter(|(family, case)| wrong(family, case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
