//! The kernels of batch norm.
//!
//! The inner loops run over a *wide* row: as many rows side by side as make whole vectors, and some [`WIDTH`] numbers, so
//! that the loop's own cost vanishes and few channels fill the lanes too. What is kept a channel is repeated along it
//! (`repeat`), sums are folded back in the end (`fold`). A last, shorter wide row holds whole rows; loops stop where it does.

use crate::base::Shape;
use crate::simd::{Kernel, Simd};

/// Numbers of a wide row, at least.
const WIDTH: usize = 256;

/// Numbers of a block, about: its sums are taken before they join the total. 16 KB, half an L1 cache.
const BLOCK: usize = 4096;

/// Numbers in a wide row of `l` rows of `c` channels: a multiple of 16 where there are rows enough.
fn width(l: usize, c: usize) -> usize {
    // The rows that make a multiple of 16: 16 for odd `c`, 8 for twice an odd number, ..
    let rows = 16 >> c.trailing_zeros().min(4);
    c * rows.max(WIDTH.div_ceil(c).next_multiple_of(rows)).min(l)
}

/// Numbers of a block of wide rows: whole ones, four at least.
fn block_len(width: usize) -> usize {
    width * (BLOCK / width).max(4)
}

/// Scratch of the hungriest kernel: four wide rows, and two rows that [`super::BatchNormInference`] takes beside three.
pub(super) fn scratch_len(view: Shape) -> usize {
    4 * width(view.l, view.c) + 2 * view.c
}

/// Repeats the first `c` numbers along the row.
#[inline(always)]
fn repeat(row: &mut [f32], c: usize) {
    let (first, others) = row.split_at_mut(c);
    others.chunks_exact_mut(c).for_each(|other| other.copy_from_slice(first));
}

/// Adds the others to the first `c` numbers.
#[inline(always)]
fn fold(row: &mut [f32], c: usize) {
    let (first, others) = row.split_at_mut(c);
    for other in others.chunks_exact(c) {
        for (first, &other) in first.iter_mut().zip(other) {
            *first += other;
        }
    }
}

/// The four wide rows of `four`.
#[inline(always)]
fn rows(four: &[f32], width: usize) -> [&[f32]; 4] {
    std::array::from_fn(|r| &four[r * width..][..width])
}

/// Adds the wide rows of `x` to `sums`, four at a time.
#[inline(always)]
fn add_rows(x: &[f32], sums: &mut [f32]) {
    let mut fours = x.chunks_exact(4 * sums.len());
    for four in &mut fours {
        let [a, b, c, d] = rows(four, sums.len());
        for ((sum, (a, b)), (c, d)) in sums.iter_mut().zip(a.iter().zip(b)).zip(c.iter().zip(d)) {
            *sum += (a + b) + (c + d);
        }
    }
    for row in fours.remainder().chunks(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

/// Adds the squares around `center` of the wide rows of `x` to `sums`, four at a time.
#[inline(always)]
fn add_squares(x: &[f32], center: &[f32], sums: &mut [f32]) {
    let mut fours = x.chunks_exact(4 * sums.len());
    for four in &mut fours {
        let [a, b, c, d] = rows(four, sums.len());
        let fours = a.iter().zip(b).zip(c.iter().zip(d));
        for ((sum, m), ((a, b), (c, d))) in sums.iter_mut().zip(center).zip(fours) {
            let [a, b, c, d] = [a - m, b - m, c - m, d - m];
            *sum += (a * a + b * b) + (c * c + d * d);
        }
    }
    for row in fours.remainder().chunks(sums.len()) {
        for ((sum, m), x) in sums.iter_mut().zip(center).zip(row) {
            *sum += (x - m) * (x - m);
        }
    }
}

/// Mean and sum of squares around it of every channel of one sample.
pub(super) struct Statistics<'a> {
    pub x: &'a [f32],
    pub l: usize,
    pub mean: &'a mut [f32],
    pub m2: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl Kernel for Statistics<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Statistics { x, l, mean, m2, scratch } = self;
        let c = mean.len();
        let width = width(l, c);
        let (sums, scratch) = scratch.split_at_mut(width);
        let center = &mut scratch[..width];
        let mut seen = 0;
        mean.fill(0.0);
        m2.fill(0.0);
        for block in x.chunks(block_len(width)) {
            let rows = block.len() / c;
            sums.fill(0.0);
            add_rows(block, sums);
            fold(sums, c);
            for (center, &sum) in center.iter_mut().zip(&sums[..c]) {
                *center = sum / rows as f32;
            }
            repeat(center, c);
            sums.fill(0.0);
            add_squares(block, center, sums);
            fold(sums, c);
            // Chan's formula: the block joins those before it.
            let share = rows as f32 / (seen + rows) as f32;
            for j in 0..c {
                let delta = center[j] - mean[j];
                mean[j] += delta * share;
                m2[j] += sums[j] + delta * delta * seen as f32 * share;
            }
            seen += rows;
        }
    }
}

/// `y = (x - mean) * inv_std * weight + bias`.
pub(super) struct Affine<'a> {
    pub x: &'a [f32],
    pub l: usize,
    pub mean: &'a [f32],
    pub inv_std: &'a [f32],
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub y: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl Kernel for Affine<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let c = self.mean.len();
        let width = width(self.l, c);
        let (mean, scratch) = self.scratch.split_at_mut(width);
        let (scale, scratch) = scratch.split_at_mut(width);
        let shift = &mut scratch[..width];
        for j in 0..c {
            mean[j] = self.mean[j];
            scale[j] = self.inv_std[j] * self.weight[j];
            shift[j] = self.bias[j];
        }
        for row in [&mut *mean, &mut *scale, &mut *shift] {
            repeat(row, c);
        }
        for (y, x) in self.y.chunks_mut(width).zip(self.x.chunks(width)) {
            let channels = mean.iter().zip(&*scale).zip(&*shift);
            for ((y, x), ((mean, scale), shift)) in y.iter_mut().zip(x).zip(channels) {
                *y = (x - mean) * scale + shift;
            }
        }
    }
}

/// Sums of `dy` and of `dy * (x - mean)` of every channel of one sample.
pub(super) struct GradientSums<'a> {
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub l: usize,
    pub mean: &'a [f32],
    pub dy_sum: &'a mut [f32],
    pub product_sum: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl Kernel for GradientSums<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let c = self.mean.len();
        let width = width(self.l, c);
        let (mean, scratch) = self.scratch.split_at_mut(width);
        let (sums, scratch) = scratch.split_at_mut(width);
        let products = &mut scratch[..width];
        mean[..c].copy_from_slice(self.mean);
        repeat(mean, c);
        self.dy_sum.fill(0.0);
        self.product_sum.fill(0.0);
        let block = block_len(width);
        for (x, dy) in self.x.chunks(block).zip(self.dy.chunks(block)) {
            sums.fill(0.0);
            products.fill(0.0);
            for (x, dy) in x.chunks(width).zip(dy.chunks(width)) {
                let channels = sums.iter_mut().zip(&mut *products).zip(&*mean);
                for (((sum, product), mean), (x, dy)) in channels.zip(x.iter().zip(dy)) {
                    *sum += dy;
                    *product += dy * (x - mean);
                }
            }
            fold(sums, c);
            fold(products, c);
            for j in 0..c {
                self.dy_sum[j] += sums[j];
                self.product_sum[j] += products[j];
            }
        }
    }
}

/// `dx = weight * inv_std * (dy - a - (x - mean) * b)`, where `batch_saved` holds `[mean, inv_std, a, b]`.
pub(super) struct InputGradient<'a> {
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub l: usize,
    pub weight: &'a [f32],
    pub batch_saved: &'a [f32],
    pub dx: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl Kernel for InputGradient<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let c = self.weight.len();
        let width = width(self.l, c);
        let (mean, scratch) = self.scratch.split_at_mut(width);
        let (scale, scratch) = scratch.split_at_mut(width);
        let (a, scratch) = scratch.split_at_mut(width);
        let b = &mut scratch[..width];
        for j in 0..c {
            mean[j] = self.batch_saved[j];
            scale[j] = self.weight[j] * self.batch_saved[c + j];
            a[j] = self.batch_saved[2 * c + j];
            b[j] = self.batch_saved[3 * c + j];
        }
        for row in [&mut *mean, &mut *scale, &mut *a, &mut *b] {
            repeat(row, c);
        }
        let inputs = self.x.chunks(width).zip(self.dy.chunks(width));
        for (dx, (x, dy)) in self.dx.chunks_mut(width).zip(inputs) {
            let channels = mean.iter().zip(&*scale).zip(a.iter().zip(&*b));
            for ((dx, (x, dy)), ((mean, scale), (a, b))) in dx.iter_mut().zip(x.iter().zip(dy)).zip(channels) {
                *dx = scale * ((dy - a) - (x - mean) * b);
            }
        }
    }
}
