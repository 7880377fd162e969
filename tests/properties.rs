//! What must hold of the kernels whatever the shape: linearity, adjointness, shifts, padding as zeros, monotony.

use proptest::prelude::*;
use stapes::base::{
    Shape,
    aligned::Aligned,
    rng::{Key, Stream},
};
use stapes::exec::Cpu;
use stapes::graph::{Graph, Keep, NodeId, Plan, PlanOptions, Work};
use stapes::ops::{AvgPool, Conv1d, DepthwiseConv1d, Linear, MaxPool1d, Op, Padding, WeightedSum};
use stapes::simd::Isa;
use std::sync::Arc;

/// An op on one shape, with `dy` as the weights of the loss, so that gradients are those of `dy`.
struct Single {
    cpu: Cpu,
    x: NodeId,
    y: NodeId,
    n: usize,
    shape: Shape,
    y_shape: Shape,
    params: usize,
}

/// What a run gives; gradients of the sum over the batch.
struct Passes {
    y: Vec<f32>,
    dx: Vec<f32>,
    dparams: Vec<f32>,
}

impl Single {
    /// None if the op cannot be applied to the shape.
    fn new(op: impl Op + 'static, n: usize, shape: Shape, isa: Isa) -> Option<Single> {
        let mut graph = Graph::new();
        let x = graph.input("x", shape).unwrap();
        let y = graph.add("op", op, &[x]).ok()?;
        let y_shape = graph.shape(y);
        let dy = graph.input("dy", y_shape).unwrap();
        let loss = graph.add("loss", WeightedSum, &[y, dy]).unwrap();
        let options = PlanOptions::new(n, Work::Train(loss)).keep(Keep::Everything);
        let cpu = Cpu::new(Arc::new(Plan::new(&graph, &options).unwrap()), isa).unwrap();
        let params = graph.parameters().iter().map(|p| p.len).sum();
        Some(Single { cpu, x, y, n, shape, y_shape, params })
    }

    fn x_len(&self) -> usize {
        self.n * self.shape.size()
    }

    fn y_len(&self) -> usize {
        self.n * self.y_shape.size()
    }

    fn run(&mut self, x: &[f32], params: &[f32], dy: &[f32]) -> Passes {
        let mut arena = Aligned::zeros(self.cpu.plan().params_len);
        arena[..params.len()].copy_from_slice(params);
        self.cpu.prepare(&arena, &[]);
        self.cpu.run(&arena, &mut [], &[x, dy], Key::new(1, Stream::Dropout));
        // The loss is a mean over the batch; the batches here are powers of two, so that nothing is rounded.
        let sum = |v: &[f32]| v.iter().map(|v| v * self.n as f32).collect::<Vec<f32>>();
        let mut dparams = sum(self.cpu.parameter_gradients());
        dparams.truncate(params.len());
        Passes { y: self.cpu.activation(self.y).unwrap(), dx: sum(&self.cpu.gradient(self.x).unwrap()), dparams }
    }

    fn forward(&mut self, x: &[f32], params: &[f32]) -> Vec<f32> {
        let dy = vec![0.0; self.y_len()];
        self.run(x, params, &dy).y
    }
}

fn noise(seed: u64, tag: u64, len: usize) -> Vec<f32> {
    let key = Key::new(seed, Stream::Case).with(tag);
    (0..len as u64).map(|i| key.normal(i) as f32).collect()
}

/// Inner product, and the sum of the terms' magnitudes, to which rounding is relative.
fn dot(a: &[f32], b: &[f32]) -> (f64, f64) {
    let terms = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
    terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()))
}

/// Largest rounding error of any sum here, relative to its terms' magnitudes: 2^-24 a term of the longest chain, 400.
const ROUNDING: f64 = 400.0 / (1 << 24) as f64;

fn assert_equal_products((a, a_size): (f64, f64), (b, b_size): (f64, f64)) {
    assert!((a - b).abs() <= ROUNDING * (a_size + b_size), "{a} and {b}, magnitudes {a_size} and {b_size}");
}

fn assert_close(got: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    assert_eq!(got.len(), expected.len());
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        let d = f64::from((a - b).abs());
        assert!(d <= ROUNDING * f64::from(largest), "[{i}]: {a} and {b}, the largest is {largest}");
    }
}

fn padding() -> impl Strategy<Value = Padding> {
    prop_oneof![
        Just(Padding::Same),
        Just(Padding::Valid),
        (0usize..6, 0usize..6).prop_map(|(before, after)| Padding::Explicit(before, after)),
    ]
}

fn isa() -> impl Strategy<Value = Isa> {
    proptest::sample::select(Isa::all())
}

/// Convolutions without bias: linear in the input and in the weights.
fn convolution() -> impl Strategy<Value = Conv1d> {
    let sizes = (1usize..40, 1usize..8, 1usize..5, 1usize..4);
    (sizes, padding()).prop_map(|((c_out, k, stride, dilation), padding)| Conv1d {
        c_out,
        k,
        stride,
        dilation,
        padding,
        bias: false,
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    (1usize..90, 1usize..20).prop_map(|(l, c)| Shape::new(l, c))
}

/// Batches are powers of two, see [`Single::run`].
fn batch() -> impl Strategy<Value = usize> {
    proptest::sample::select(vec![1usize, 2, 4])
}

/// Adjointness of an op that is linear in its input, and in its parameters if it has any: `<op(x), dy> = <x, dx>`, and
/// `= <params, dparams>`.
fn check_adjoint(mut op: Single, seed: u64) {
    let (x, dy) = (noise(seed, 1, op.x_len()), noise(seed, 2, op.y_len()));
    let params = noise(seed, 3, op.params);
    let passes = op.run(&x, &params, &dy);
    let forward = dot(&passes.y, &dy);
    assert_equal_products(forward, dot(&x, &passes.dx));
    if !params.is_empty() {
        assert_equal_products(forward, dot(&params, &passes.dparams));
    }
}

/// `op(a x1 + x2) = a op(x1) + op(x2)`.
fn check_linear(mut op: Single, seed: u64) {
    let (first, second) = (noise(seed, 1, op.x_len()), noise(seed, 2, op.x_len()));
    let params = noise(seed, 3, op.params);
    let mix = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| 0.5 * a + b).collect::<Vec<f32>>();
    let of_mix = op.forward(&mix(&first, &second), &params);
    let [a, b] = [first, second].map(|x| op.forward(&x, &params));
    assert_close(&of_mix, &mix(&a, &b));
}

/// Rows `range` of every sample.
fn rows(x: &[f32], shape: Shape, range: std::ops::Range<usize>) -> Vec<f32> {
    x.chunks_exact(shape.size()).flat_map(|x| &x[range.start * shape.c..range.end * shape.c]).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conv1d_is_linear_and_its_backward_is_its_adjoint(
        (op, shape, n, isa, seed) in (convolution(), shape(), batch(), isa(), any::<u64>())
    ) {
        if let Some(single) = Single::new(op, n, shape, isa) {
            check_adjoint(single, seed);
            check_linear(Single::new(op, n, shape, isa).unwrap(), seed);
        }
    }

    #[test]
    fn depthwise_conv1d_is_linear_its_backward_is_its_adjoint_and_padding_is_zeros(
        (op, shape, pads, n, isa, seed) in
            (convolution(), shape(), (0usize..9, 0usize..9), batch(), isa(), any::<u64>())
    ) {
        let Conv1d { k, stride, dilation, padding, bias, .. } = op;
        let depthwise = |padding| DepthwiseConv1d { k, stride, dilation, padding, bias };
        let of = |padding, shape| Single::new(depthwise(padding), n, shape, isa);
        if let Some(single) = of(padding, shape) {
            check_adjoint(single, seed);
            check_linear(of(padding, shape).unwrap(), seed);
        }
        let padded_shape = Shape::new(pads.0 + shape.l + pads.1, shape.c);
        if let Some(mut explicit) = of(Padding::Explicit(pads.0, pads.1), shape) {
            let mut valid = of(Padding::Valid, padded_shape).unwrap();
            let (x, params) = (noise(seed, 1, explicit.x_len()), noise(seed, 3, explicit.params));
            let dy = noise(seed, 2, explicit.y_len());
            let zeros = |rows: usize| vec![0.0; rows * shape.c];
            let padded: Vec<f32> =
                x.chunks_exact(shape.size()).flat_map(|x| [zeros(pads.0), x.to_vec(), zeros(pads.1)].concat()).collect();
            let (a, b) = (explicit.run(&x, &params, &dy), valid.run(&padded, &params, &dy));
            prop_assert_eq!(a.y, b.y);
            prop_assert_eq!(a.dx, rows(&b.dx, padded_shape, pads.0..pads.0 + shape.l));
            assert_close(&a.dparams, &b.dparams);
        }
    }

    /// Every output is one chain in the order of the taps, wherever its tile lies: the same bits.
    #[test]
    fn a_shifted_input_gives_shifted_outputs_bit_for_bit(
        (op, shape, shift, isa, seed) in (convolution(), shape(), 1usize..20, isa(), any::<u64>())
    ) {
        let op = Conv1d { padding: Padding::Valid, ..op };
        let long = Shape::new(shape.l + shift * op.stride, shape.c);
        if let Some(mut short) = Single::new(op, 2, shape, isa) {
            let mut whole = Single::new(op, 2, long, isa).unwrap();
            let (x, params) = (noise(seed, 1, whole.x_len()), noise(seed, 3, whole.params));
            let y = whole.forward(&x, &params);
            let tail = short.forward(&rows(&x, long, shift * op.stride..long.l), &params);
            prop_assert_eq!(rows(&y, whole.y_shape, shift..whole.y_shape.l), tail);
        }
    }

    #[test]
    fn padding_is_zeros_around_the_input(
        (op, shape, pads, isa, seed) in (convolution(), shape(), (0usize..9, 0usize..9), isa(), any::<u64>())
    ) {
        let padded_shape = Shape::new(pads.0 + shape.l + pads.1, shape.c);
        let explicit = Conv1d { padding: Padding::Explicit(pads.0, pads.1), ..op };
        let valid = Conv1d { padding: Padding::Valid, ..op };
        let both = (Single::new(explicit, 1, shape, isa), Single::new(valid, 1, padded_shape, isa));
        if let (Some(mut explicit), Some(mut valid)) = both {
            let (x, params) = (noise(seed, 1, explicit.x_len()), noise(seed, 3, explicit.params));
            let dy = noise(seed, 2, explicit.y_len());
            let zeros = |rows: usize| vec![0.0; rows * shape.c];
            let padded = [zeros(pads.0), x.clone(), zeros(pads.1)].concat();
            let (a, b) = (explicit.run(&x, &params, &dy), valid.run(&padded, &params, &dy));
            prop_assert_eq!(a.y, b.y);
            prop_assert_eq!(a.dx, rows(&b.dx, padded_shape, pads.0..pads.0 + shape.l));
            assert_close(&a.dparams, &b.dparams);
        } else {
            prop_assert!(Single::new(explicit, 1, shape, isa).is_none(), "one of the two is refused");
            prop_assert!(Single::new(valid, 1, padded_shape, isa).is_none(), "one of the two is refused");
        }
    }

    #[test]
    fn linear_and_avg_pool_are_linear_and_their_backwards_are_adjoint(
        (shape, out, n, isa, seed) in (shape(), 1usize..40, batch(), isa(), any::<u64>())
    ) {
        let shape = Shape::new(shape.l.min(20), shape.c);
        let dense = || Single::new(Linear { out, bias: false }, n, shape, isa).unwrap();
        check_adjoint(dense(), seed);
        check_linear(dense(), seed);
        check_adjoint(Single::new(AvgPool, n, shape, isa).unwrap(), seed);
        check_linear(Single::new(AvgPool, n, shape, isa).unwrap(), seed);
    }

    /// Larger inputs give no smaller outputs; doubling doubles; every output is a number of its window; gradients are
    /// passed on whole, and to the maxima: `<op(x), dy> = <x, dx>`.
    #[test]
    fn max_pool1d_chooses_from_its_windows(
        (shape, k, stride, ceil, isa, seed) in (shape(), 1usize..7, 1usize..7, any::<bool>(), isa(), any::<u64>())
    ) {
        let Some(mut op) = Single::new(MaxPool1d { k, stride, ceil }, 2, shape, isa) else {
            prop_assert!(k > shape.l);
            return Ok(());
        };
        let (x, dy) = (noise(seed, 1, op.x_len()), noise(seed, 2, op.y_len()));
        let passes = op.run(&x, &[], &dy);
        assert_equal_products(dot(&passes.y, &dy), dot(&x, &passes.dx));
        let total = |v: &[f32]| dot(v, &vec![1.0; v.len()]);
        assert_equal_products(total(&passes.dx), total(&dy));

        let doubled: Vec<f32> = op.forward(&x.iter().map(|v| 2.0 * v).collect::<Vec<_>>(), &[]);
        prop_assert_eq!(doubled, passes.y.iter().map(|v| 2.0 * v).collect::<Vec<_>>());
        let more: Vec<f32> = x.iter().zip(noise(seed, 4, x.len())).map(|(x, d)| x + d.abs()).collect();
        prop_assert!(op.forward(&more, &[]).iter().zip(&passes.y).all(|(more, less)| more >= less));
        for (at, &y) in passes.y.iter().enumerate() {
            let (sample, r, c) = (at / op.y_shape.size(), at / shape.c % op.y_shape.l, at % shape.c);
            let window = r * stride..(r * stride + k).min(shape.l);
            let of = |row: usize| x[sample * shape.size() + row * shape.c + c];
            prop_assert!(window.clone().any(|row| of(row) == y) && window.clone().all(|row| of(row) <= y));
        }
    }
}
