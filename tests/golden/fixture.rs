//! Shared by the golden tests: reading the files, orders of elements, comparison, and Adam in double precision.

use safetensors::{Dtype, SafeTensors};
use stapes::base::aligned::Aligned;
use stapes::ops::op::Layout;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A tensor in PyTorch's order.
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// The tensors of a file by name, and its metadata.
pub struct TensorFile {
    pub tensors: BTreeMap<String, Tensor>,
    pub metadata: BTreeMap<String, String>,
}

/// The path of the fixture `name`.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The little-endian numbers of `N` bytes each in `bytes`.
fn numbers<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| of(chunk)).collect()
}

impl TensorFile {
    /// Reads `fixtures/golden/NAME`.
    pub fn read(name: &str) -> TensorFile {
        let bytes = std::fs::read(path("golden").join(name)).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors.iter().map(|(name, view)| {
            let values = match view.dtype() {
                Dtype::F32 => numbers(view.data(), |b| f64::from(f32::from_le_bytes(b))),
                Dtype::F64 => numbers(view.data(), f64::from_le_bytes),
                Dtype::I64 => numbers(view.data(), |b| i64::from_le_bytes(b) as f64),
                other => panic!("{name} is stored as {other:?}"),
            };
            (name.to_string(), Tensor { shape: view.shape().to_vec(), values })
        });
        TensorFile { tensors: tensors.collect(), metadata }
    }
}

/// Converts an activation `[n, c, l]` to `[n, l, c]`; a tensor of fewer axes is returned unchanged.
pub fn channels_last(t: &Tensor) -> Vec<f64> {
    let &[n, c, l] = &t.shape[..] else { return t.values.clone() };
    let at = |s: usize, r: usize, j: usize| t.values[(s * c + j) * l + r];
    (0..n).flat_map(|s| (0..l).flat_map(move |r| (0..c).map(move |j| at(s, r, j)))).collect()
}

/// Converts a parameter, or its gradient, from the order of the file to that of the arena.
pub fn arena_order(layout: Layout, file: &[f64]) -> Vec<f64> {
    let mut memory = vec![f64::NAN; file.len()];
    match layout {
        Layout::Vector { .. } => memory.copy_from_slice(file),
        Layout::Kernel { k, c_in, c_out } => {
            for (at, &value) in file.iter().enumerate() {
                let (o, i, t) = (at / (c_in * k), at / k % c_in, at % k);
                memory[(t * c_in + i) * c_out + o] = value;
            }
        }
        Layout::Dense { l, c, out } => {
            for (at, &value) in file.iter().enumerate() {
                let (o, j, r) = (at / (c * l), at / l % c, at % l);
                memory[(r * c + j) * out + o] = value;
            }
        }
        Layout::Features { .. } => unreachable!("PyTorch's batch norm has one value for each channel"),
    }
    memory
}

/// Converts to single precision.
pub fn narrow(values: &[f64]) -> Aligned {
    let mut all = Aligned::zeros(values.len());
    all.iter_mut().zip(values).for_each(|(to, &from)| *to = from as f32);
    all
}

/// Converts to double precision.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// The largest difference, relative to the largest expected value; infinity for NaN and for different lengths.
pub fn difference(got: &[f64], expected: &[f64]) -> f64 {
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |most, v| most.max(v.abs()));
    let worst = got.iter().zip(expected).fold(0.0, |worst: f64, (a, b)| {
        let d = (a - b).abs();
        if d.is_nan() { f64::INFINITY } else { worst.max(d) }
    });
    if got.len() == expected.len() { worst / largest } else { f64::INFINITY }
}

/// The Euclidean norm.
pub fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Adam in double precision: algorithm 1 of arXiv 1412.6980; `eps` is added after the bias correction.
#[derive(Clone)]
pub struct ReferenceAdam {
    pub lr: f64,
    pub betas: (f64, f64),
    pub eps: f64,
    pub m: Vec<f64>,
    pub v: Vec<f64>,
    t: i32,
}

impl ReferenceAdam {
    pub fn new(len: usize, lr: f64, betas: (f64, f64), eps: f64) -> ReferenceAdam {
        ReferenceAdam { lr, betas, eps, m: vec![0.0; len], v: vec![0.0; len], t: 0 }
    }

    pub fn step(&mut self, w: &mut [f64], gradient: &[f64]) {
        self.t += 1;
        let (b1, b2) = self.betas;
        for (i, &g) in gradient.iter().enumerate() {
            self.m[i] = b1 * self.m[i] + (1.0 - b1) * g;
            self.v[i] = b2 * self.v[i] + (1.0 - b2) * g * g;
            let (m, v) = (self.m[i] / (1.0 - b1.powi(self.t)), self.v[i] / (1.0 - b2.powi(self.t)));
            w[i] -= self.lr * m / (v.sqrt() + self.eps);
        }
    }
}
