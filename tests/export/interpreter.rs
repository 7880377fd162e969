//! Executes an ONNX model of stapes in plain loops, channels first, in double precision: the operators by their definitions in ONNX.

use stapes::export::onnx::{Attribute, Model, Node, Tensor};
use std::collections::HashMap;

/// Numbers with their shape.
#[derive(Clone)]
struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Array {
    fn of(tensor: &Tensor) -> Array {
        let values = match tensor.data_type {
            Tensor::FLOAT => {
                tensor.raw_data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            Tensor::INT64 => {
                tensor.raw_data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
            }
            other => panic!("tensors of type {other} are not part of an export"),
        };
        let shape: Vec<usize> = tensor.dims.iter().map(|&size| size as usize).collect();
        let array = Array { shape, values };
        assert_eq!(array.shape.iter().product::<usize>(), array.values.len(), "{}", tensor.name);
        array
    }

    /// `f` of each number and the number of a broadcast array at its channel.
    fn with(&self, other: &Array, f: impl Fn(f64, f64) -> f64) -> Array {
        let values = match other.shape == self.shape {
            true => self.values.iter().zip(&other.values).map(|(&a, &b)| f(a, b)).collect(),
            // `[1, c, 1]`
            false => {
                let (c, l) = (self.shape[1], self.shape[2]);
                assert_eq!(other.shape, [1, c, 1]);
                (0..self.values.len()).map(|i| f(self.values[i], other.values[i / l % c])).collect()
            }
        };
        Array { shape: self.shape.clone(), values }
    }
}

fn attribute<'a>(node: &'a Node, name: &str) -> &'a Attribute {
    node.attribute.iter().find(|own| own.name == name).unwrap_or_else(|| panic!("{} has no {name}", node.name))
}

fn ints<const N: usize>(node: &Node, name: &str) -> [usize; N] {
    let attribute = attribute(node, name);
    assert_eq!(attribute.kind, Attribute::INTS);
    let values: Vec<usize> = attribute.ints.iter().map(|&value| value as usize).collect();
    values.try_into().unwrap()
}

/// The output of a model for `x`, `[n, c, l]`.
pub fn run(model: &Model, x: &[f32]) -> Vec<f64> {
    let graph = model.graph.as_ref().unwrap();
    let mut values: HashMap<&str, Array> = HashMap::new();
    for tensor in &graph.initializer {
        assert!(values.insert(&tensor.name, Array::of(tensor)).is_none(), "{} is there twice", tensor.name);
    }
    let [input] = &graph.input[..] else { panic!("one input") };
    let shape = input.kind.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
    let [n, c, l] = &shape.dim[..] else { panic!("three dimensions") };
    assert_eq!(n.dim_param.as_deref(), Some("n"));
    let [c, l] = [c, l].map(|dim| dim.dim_value.unwrap() as usize);
    let shape = vec![x.len() / (c * l), c, l];
    values.insert(&input.name, Array { shape, values: x.iter().map(|&x| x.into()).collect() });
    for node in &graph.node {
        let inputs: Vec<&Array> = node.input.iter().map(|name| &values[name.as_str()]).collect();
        let output = compute(node, &inputs);
        assert!(values.insert(&node.output[0], output).is_none(), "{} is there twice", node.output[0]);
    }
    let [output] = &graph.output[..] else { panic!("one output") };
    values.remove(output.name.as_str()).unwrap().values
}

fn compute(node: &Node, inputs: &[&Array]) -> Array {
    let x = inputs[0];
    match node.op_type.as_str() {
        "Conv" => conv(node, inputs),
        "MaxPool" => max_pool(node, x),
        "Relu" => Array { values: x.values.iter().map(|&x| x.max(0.0)).collect(), ..x.clone() },
        "Add" => x.with(inputs[1], |a, b| a + b),
        "Sub" => x.with(inputs[1], |a, b| a - b),
        "Div" => x.with(inputs[1], |a, b| a / b),
        "GlobalAveragePool" => {
            let (n, c, l) = (x.shape[0], x.shape[1], x.shape[2]);
            let values = x.values.chunks(l).map(|row| row.iter().sum::<f64>() / l as f64).collect();
            Array { shape: vec![n, c, 1], values }
        }
        "Flatten" => {
            assert_eq!(attribute(node, "axis").i, Some(1));
            let n = x.shape[0];
            Array { shape: vec![n, x.values.len() / n], values: x.values.clone() }
        }
        "Reshape" => {
            let [zero, c, l] = inputs[1].values[..] else { panic!("three dimensions") };
            assert_eq!(zero, 0.0);
            Array { shape: vec![x.shape[0], c as usize, l as usize], values: x.values.clone() }
        }
        "Gemm" => gemm(node, inputs),
        "BatchNormalization" => {
            let epsilon = f64::from(attribute(node, "epsilon").f.unwrap());
            let l = x.shape.get(2).copied().unwrap_or(1);
            let of = |which: usize, i: usize| inputs[which].values[i / l % x.shape[1]];
            let one = |(i, &x): (usize, &f64)| (x - of(3, i)) / (of(4, i) + epsilon).sqrt() * of(1, i) + of(2, i);
            Array { shape: x.shape.clone(), values: x.values.iter().enumerate().map(one).collect() }
        }
        "Softmax" => {
            let rows = x.values.chunks(x.shape[1]).flat_map(|row| {
                let sum: f64 = row.iter().map(|z| z.exp()).sum();
                row.iter().map(move |z| z.exp() / sum)
            });
            Array { shape: x.shape.clone(), values: rows.collect() }
        }
        other => panic!("the operator {other} is not part of an export"),
    }
}

fn conv(node: &Node, inputs: &[&Array]) -> Array {
    let (x, w) = (inputs[0], inputs[1]);
    let (n, c_in, l) = (x.shape[0], x.shape[1], x.shape[2]);
    let (c_out, per_group, k) = (w.shape[0], w.shape[1], w.shape[2]);
    let groups = attribute(node, "group").i.unwrap() as usize;
    assert_eq!((groups * per_group, ints(node, "kernel_shape")), (c_in, [k]));
    let ([stride], [dilation], [before, after]) = (ints(node, "strides"), ints(node, "dilations"), ints(node, "pads"));
    let l_out = (l + before + after - dilation * (k - 1) - 1) / stride + 1;
    let mut values = Vec::with_capacity(n * c_out * l_out);
    for sample in 0..n {
        for o in 0..c_out {
            let first = o / (c_out / groups) * per_group;
            for r in 0..l_out {
                let mut sum = inputs.get(2).map_or(0.0, |bias| bias.values[o]);
                for t in 0..k {
                    let Some(row) = (r * stride + t * dilation).checked_sub(before).filter(|&row| row < l) else {
                        continue;
                    };
                    for i in 0..per_group {
                        sum += w.values[(o * per_group + i) * k + t] * x.values[(sample * c_in + first + i) * l + row];
                    }
                }
                values.push(sum);
            }
        }
    }
    Array { shape: vec![n, c_out, l_out], values }
}

fn max_pool(node: &Node, x: &Array) -> Array {
    let ([k], [stride], [before, after]) = (ints(node, "kernel_shape"), ints(node, "strides"), ints(node, "pads"));
    assert!(before == 0 && after < k && node.attribute.iter().all(|own| own.name != "ceil_mode"));
    let l = x.shape[2];
    let l_out = (l + after - k) / stride + 1;
    let window =
        |row: &[f64], r: usize| row[r * stride..l.min(r * stride + k)].iter().copied().fold(f64::MIN, f64::max);
    let values = x.values.chunks(l).flat_map(|row| (0..l_out).map(move |r| window(row, r))).collect();
    Array { shape: vec![x.shape[0], x.shape[1], l_out], values }
}

fn gemm(node: &Node, inputs: &[&Array]) -> Array {
    assert_eq!(attribute(node, "transB").i, Some(1));
    let (x, w) = (inputs[0], inputs[1]);
    let (features, out) = (x.shape[1], w.shape[0]);
    assert_eq!(w.shape[1], features);
    let values = x.values.chunks(features).flat_map(|row| {
        (0..out).map(move |o| {
            let bias = inputs.get(2).map_or(0.0, |bias| bias.values[o]);
            bias + row.iter().zip(&w.values[o * features..]).map(|(x, w)| x * w).sum::<f64>()
        })
    });
    Array { shape: vec![x.shape[0], out], values: values.collect() }
}
