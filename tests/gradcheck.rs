//! Every op's `reference_backward` against central differences of its `reference_forward`, in double precision: what
//! proves the formulas by which the kernels are judged.

use rayon::prelude::*;
use stapes::base::{
    Shape,
    rng::{Key, Stream},
};
use stapes::ops::ALL;
use stapes::ops::case::{Case, Fill};
use stapes::ops::op::{ReferenceBackward, ReferenceForward, Role};

/// Half the distance of a central difference; the inputs are of order one.
const STEP: f64 = 1e-5;
/// Largest difference, relative to the largest gradient of the tensor: `STEP^2` of truncation, some 1e-11 of rounding.
const TOLERANCE: f64 = 1e-6;
/// Differences below this are rounding, where the whole gradient is zero (batch norm of a single number).
const ROUNDING: f64 = 1e-9;

/// Places of a tensor that are tried, picked at random: at least the first number, and at most the second.
const PLACES: [usize; 2] = [30, 400];
/// As many as keep outputs times parameters below this; wide convolutions have the formulas of narrow ones.
const WORK: usize = 1_000_000_000;

/// What the loss `sum of w * y` is a function of.
#[derive(Clone)]
struct Point {
    x: Vec<Vec<f64>>,
    params: Vec<f64>,
}

struct Problem<'c> {
    case: &'c Case,
    shapes: Vec<Shape>,
    state: Vec<f64>,
    /// Weights of the outputs, and so the gradient of the output.
    w: Vec<f64>,
    draw: Key,
}

fn noise(len: usize, tag: u64) -> Vec<f64> {
    let key = Key::new(7, Stream::Case).with(tag);
    (0..len as u64).map(|i| key.normal(i)).collect()
}

impl Problem<'_> {
    fn new(case: &Case) -> (Problem<'_>, Point) {
        let shapes: Vec<Shape> = case.inputs.iter().map(|input| input.shape).collect();
        let spec = case.op.spec(&shapes).unwrap();
        let mut state = Vec::new();
        for (tag, tensor) in spec.state.iter().enumerate() {
            let positive = tensor.role == Role::RunningVariance;
            state
                .extend(noise(tensor.len(), 10 + tag as u64).iter().map(|&v| if positive { 0.5 + v.abs() } else { v }));
        }
        let x = (0..shapes.len()).map(|i| case.input(i)).collect();
        let w = noise(case.n * spec.y.size(), 1);
        let point = Point { x, params: noise(spec.params_len(), 2) };
        (Problem { case, shapes, state, w, draw: Key::new(7, Stream::Dropout) }, point)
    }

    fn loss(&self, point: &Point) -> f64 {
        let mut y = vec![0.0; self.w.len()];
        self.case.op.reference_forward(&mut ReferenceForward {
            n: self.case.n,
            shapes: &self.shapes,
            x: &point.x.iter().map(|x| &x[..]).collect::<Vec<_>>(),
            params: &point.params,
            state: &mut self.state.clone(),
            draw: self.draw,
            y: &mut y,
        });
        y.iter().zip(&self.w).map(|(y, w)| y * w).sum()
    }

    fn gradients(&self, point: &Point) -> Point {
        let mut gradients =
            Point { x: point.x.iter().map(|x| vec![0.0; x.len()]).collect(), params: vec![0.0; point.params.len()] };
        self.case.op.reference_backward(&mut ReferenceBackward {
            n: self.case.n,
            shapes: &self.shapes,
            x: &point.x.iter().map(|x| &x[..]).collect::<Vec<_>>(),
            params: &point.params,
            // A reference of an op with state that forward changes does not read it.
            state: &self.state,
            draw: self.draw,
            dy: &self.w,
            dx: &mut gradients.x,
            dparams: &mut gradients.params,
        });
        gradients
    }

    /// Compares one tensor's gradient with central differences.
    fn check(&self, point: &Point, gradient: &[f64], of: impl Fn(&mut Point) -> &mut Vec<f64>) -> Option<String> {
        let mut moved = point.clone();
        let largest = gradient.iter().fold(0.0_f64, |most, g| most.max(g.abs()));
        let [least, most] = PLACES;
        let places = (WORK / (self.w.len() * point.params.len()).max(1)).clamp(least, most);
        for i in self.draw.permutation(gradient.len()).into_iter().take(places).map(|i| i as usize) {
            let g = gradient[i];
            let start = of(&mut moved)[i];
            let mut loss_at = |value: f64| {
                of(&mut moved)[i] = value;
                self.loss(&moved)
            };
            let difference = (loss_at(start + STEP) - loss_at(start - STEP)) / (2.0 * STEP);
            of(&mut moved)[i] = start;
            let error = (g - difference).abs();
            if error.is_nan() || error > TOLERANCE * largest + ROUNDING {
                return Some(format!("[{i}] is {g}, central difference {difference}"));
            }
        }
        None
    }
}

/// What of a case does not meet its central differences.
fn wrong(family: &str, case: &Case) -> Vec<String> {
    let (problem, point) = Problem::new(case);
    let gradients = problem.gradients(&point);
    let mut wrong = Vec::new();
    let mut report = |tensor: String, difference: Option<String>| {
        wrong.extend(difference.map(|d| format!("{family} {} {tensor}{d}", case.name)));
    };
    report("params".into(), problem.check(&point, &gradients.params, |p| &mut p.params));
    for (i, input) in case.inputs.iter().enumerate() {
        if matches!(input.fill, Fill::Class(_)) {
            assert!(gradients.x[i].iter().all(|&g| g == 0.0), "a class number has no gradient");
        } else if input.fill.differentiable() {
            report(format!("x{i}"), problem.check(&point, &gradients.x[i], |p| &mut p.x[i]));
        }
    }
    wrong
}

#[test]
fn references_meet_central_differences() {
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
