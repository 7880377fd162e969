//! The minimum of a smooth convex function: limited-memory BFGS with a backtracking line search.
//!
//! **Source** Nocedal and Wright, "Numerical optimization", 2nd edition, 2006, algorithms 7.4, 7.5 and 3.1. The optimiser of smartcore 0.7 panics where rounding ends its line
//! search.

use crate::base::dot::dot;
use std::collections::VecDeque;

/// Pairs of differences that approximate the Hessian matrix.
const MEMORY: usize = 10;
/// Most iterations.
const ITERATIONS: usize = 300;
/// The largest component of the gradient at which the minimum counts as reached, relative to that at the start.
const TOLERANCE: f64 = 1e-5;
/// The share of the decrease that the gradient promises which a step must give (Armijo's condition).
const DECREASE: f64 = 1e-4;
/// Most halvings of a step; a shorter one changes no digit.
const HALVINGS: usize = 40;

/// Moves `x` to the minimum of `f`, which writes its gradient into the second argument and returns its value.
pub(super) fn minimise(x: &mut [f64], mut f: impl FnMut(&[f64], &mut [f64]) -> f64) {
    let mut gradient = vec![0.0; x.len()];
    let mut value = f(x, &mut gradient);
    let largest = |gradient: &[f64]| gradient.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
    let enough = TOLERANCE * largest(&gradient);
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::with_capacity(MEMORY);
    let (mut next, mut next_gradient) = (x.to_vec(), gradient.clone());
    for _ in 0..ITERATIONS {
        if largest(&gradient) <= enough {
            return;
        }
        let mut direction = direction(&gradient, &pairs);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            // Rounding spoilt the approximation: begin again with the gradient.
            pairs.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        let mut step = if pairs.is_empty() { 1.0 / largest(&gradient).max(1.0) } else { 1.0 };
        let mut found = None;
        for _ in 0..HALVINGS {
            next.iter_mut().zip(x.iter()).zip(&direction).for_each(|((to, from), d)| *to = from + step * d);
            let reached = f(&next, &mut next_gradient);
            if reached <= value + DECREASE * step * slope {
                found = Some(reached);
                break;
            }
            step *= 0.5;
        }
        let Some(reached) = found else { return };
        let moved: Vec<f64> = next.iter().zip(x.iter()).map(|(to, from)| to - from).collect();
        let turned: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(to, from)| to - from).collect();
        // The approximation stays positive definite.
        if dot(&moved, &turned) > f64::EPSILON * dot(&turned, &turned) {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back((moved, turned));
        }
        x.copy_from_slice(&next);
        gradient.copy_from_slice(&next_gradient);
        value = reached;
    }
}

/// Minus the approximation of the inverse Hessian matrix times the gradient (the two-loop recursion).
fn direction(gradient: &[f64], pairs: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let add = |to: &mut [f64], factor: f64, from: &[f64]| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
    };
    let mut q = gradient.to_vec();
    let mut factors = Vec::with_capacity(pairs.len());
    for (moved, turned) in pairs.iter().rev() {
        let factor = dot(moved, &q) / dot(moved, turned);
        add(&mut q, -factor, turned);
        factors.push(factor);
    }
    if let Some((moved, turned)) = pairs.back() {
        let scale = dot(moved, turned) / dot(turned, turned);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((moved, turned), factor) in pairs.iter().zip(factors.iter().rev()) {
        let correction = dot(turned, &q) / dot(moved, turned);
        add(&mut q, factor - correction, moved);
    }
    q.iter_mut().for_each(|q| *q = -*q);
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_function_of_bad_condition_has_its_minimum() {
        // Sum of (10^i) (x_i - i)^2, turned by adding neighbours.
        let mut x = vec![0.0; 5];
        minimise(&mut x, |x, gradient| {
            gradient.fill(0.0);
            let mut value = 0.0;
            for i in 0..x.len() {
                let before = if i > 0 { x[i - 1] } else { 0.0 };
                let (weight, error) = (10f64.powi(i as i32), x[i] + before - i as f64);
                value += weight * error * error;
                gradient[i] += 2.0 * weight * error;
                if i > 0 {
                    gradient[i - 1] += 2.0 * weight * error;
                }
            }
            value
        });
        for (x, expected) in x.iter().zip([0.0, 1.0, 1.0, 2.0, 2.0]) {
            approx::assert_abs_diff_eq!(*x, expected, epsilon = 0.05);
        }
    }

    #[test]
    fn a_function_without_slope_is_left_at_once() {
        let mut x = vec![3.0];
        minimise(&mut x, |_, gradient| {
            gradient[0] = 0.0;
            1.0
        });
        assert_eq!(x, [3.0]);
    }
}
