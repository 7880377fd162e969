//! The parameters, the state and the gradients of an operation as lists of tensors.
//!
//! All parameters of a graph are in one array, the parameter arena, so that an optimiser and a checkpoint need not know them. An operation sees its own
//! tensors only, each as a slice: a fused operation those of all operations that it replaces.

use super::TensorSpec;
use std::ops::{Index, IndexMut, Range};

/// Where the tensors of an operation are in an arena: in ascending order, none overlaps another, and there may be gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorRanges {
    start: usize,
    /// Each counts from `start`.
    each: Vec<Range<usize>>,
}

impl TensorRanges {
    /// Those of the tensors of one operation, which follow one another from `start` on.
    pub fn new(start: usize, tensors: &[TensorSpec]) -> TensorRanges {
        let mut end = 0_usize;
        let each = tensors.iter().map(|tensor| {
            let begin = end;
            end = end.saturating_add(tensor.len());
            begin..end
        });
        TensorRanges { start, each: each.collect() }
    }

    /// Those of several operations, in ascending order, as one list.
    pub fn joined<'a>(all: impl IntoIterator<Item = &'a TensorRanges>) -> TensorRanges {
        let mut all = all.into_iter().filter(|ranges| !ranges.is_empty());
        let Some(mut joined) = all.next().cloned() else { return TensorRanges::default() };
        for ranges in all {
            let apart = ranges.start - joined.start;
            joined.each.extend(ranges.each.iter().map(|range| range.start + apart..range.end + apart));
        }
        joined
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// The number of tensors.
    pub fn count(&self) -> usize {
        self.each.len()
    }

    /// From the first number of the first tensor to the last of the last one, with the gaps between them.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start.saturating_add(self.each.last().map_or(0, |last| last.end))
    }

    /// Where each tensor begins in the arena.
    pub fn starts(&self) -> impl Iterator<Item = usize> {
        self.each.iter().map(|range| self.start + range.start)
    }

    /// The tensors in `arena`.
    pub fn of<'a, T>(&'a self, arena: &'a [T]) -> Tensors<'a, T> {
        Tensors { numbers: &arena[self.range()], each: &self.each }
    }

    /// The tensors in `arena`, to be changed.
    pub fn of_mut<'a, T>(&'a self, arena: &'a mut [T]) -> TensorsMut<'a, T> {
        TensorsMut { numbers: &mut arena[self.range()], each: &self.each }
    }

    /// The tensors in `own`, which is [`TensorRanges::range`] of an arena; no tensors if it is empty.
    pub fn within<'a, T>(&'a self, own: &'a mut [T]) -> TensorsMut<'a, T> {
        let each = if own.is_empty() { &[] } else { &self.each[..] };
        TensorsMut { numbers: own, each }
    }
}

/// The tensors of an operation, in the order of its [`Spec`](super::Spec). `tensors[i]` is the slice of tensor number `i`.
#[derive(Clone, Copy, Debug)]
pub struct Tensors<'a, T = f32> {
    numbers: &'a [T],
    each: &'a [Range<usize>],
}

impl<'a, T> Tensors<'a, T> {
    /// No tensors.
    pub const NONE: Tensors<'a, T> = Tensors { numbers: &[], each: &[] };

    /// The number of tensors.
    pub fn count(&self) -> usize {
        self.each.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Tensor number `i`; empty if there is none.
    pub fn get(&self, i: usize) -> &'a [T] {
        self.each.get(i).map_or(&[], |range| &self.numbers[range.clone()])
    }

    /// The first `N` tensors; empty slices in place of those that there are not.
    pub fn each<const N: usize>(&self) -> [&'a [T]; N] {
        std::array::from_fn(|i| self.get(i))
    }

    /// The tensors whose numbers are in `part`.
    pub fn part(&self, part: Range<usize>) -> Tensors<'a, T> {
        Tensors { numbers: self.numbers, each: &self.each[part] }
    }
}

impl<T> Index<usize> for Tensors<'_, T> {
    type Output = [T];

    fn index(&self, i: usize) -> &[T] {
        &self.numbers[self.each[i].clone()]
    }
}

/// As [`Tensors`], to be changed.
#[derive(Debug)]
pub struct TensorsMut<'a, T = f32> {
    numbers: &'a mut [T],
    each: &'a [Range<usize>],
}

impl<'a, T> TensorsMut<'a, T> {
    /// No tensors.
    pub fn none() -> TensorsMut<'a, T> {
        TensorsMut { numbers: &mut [], each: &[] }
    }

    /// The number of tensors.
    pub fn count(&self) -> usize {
        self.each.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// The tensors, to be read.
    pub fn shared(&self) -> Tensors<'_, T> {
        Tensors { numbers: self.numbers, each: self.each }
    }

    /// The first `N` tensors at a time; empty slices in place of those that there are not.
    pub fn each<const N: usize>(&mut self) -> [&mut [T]; N] {
        let (mut rest, mut at) = (&mut self.numbers[..], 0);
        std::array::from_fn(|i| {
            let Some(range) = self.each.get(i) else { return &mut [][..] };
            let (own, after) = std::mem::take(&mut rest)[range.start - at..].split_at_mut(range.len());
            (rest, at) = (after, range.end);
            own
        })
    }

    /// All tensors in pieces of at most `len` elements: the number of the tensor, the index in the tensor of the first element, the piece.
    pub fn pieces(self, len: usize) -> impl Iterator<Item = (usize, usize, &'a mut [T])> {
        let (mut rest, mut at, len) = (self.numbers, 0, len.max(1));
        self.each.iter().enumerate().flat_map(move |(tensor, range)| {
            let (own, after) = std::mem::take(&mut rest)[range.start - at..].split_at_mut(range.len());
            (rest, at) = (after, range.end);
            own.chunks_mut(len).enumerate().map(move |(number, piece)| (tensor, number * len, piece))
        })
    }

    /// The tensors whose numbers are in `part`.
    pub fn part(&mut self, part: Range<usize>) -> TensorsMut<'_, T> {
        TensorsMut { numbers: self.numbers, each: &self.each[part] }
    }
}

impl<T> Index<usize> for TensorsMut<'_, T> {
    type Output = [T];

    fn index(&self, i: usize) -> &[T] {
        &self.numbers[self.each[i].clone()]
    }
}

impl<T> IndexMut<usize> for TensorsMut<'_, T> {
    fn index_mut(&mut self, i: usize) -> &mut [T] {
        &mut self.numbers[self.each[i].clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Layout, Role};
    use super::*;

    fn ranges(start: usize, lengths: &[usize]) -> TensorRanges {
        let tensor = |&c| TensorSpec { suffix: "weight", layout: Layout::Vector { c }, role: Role::Scale };
        TensorRanges::new(start, &lengths.iter().map(tensor).collect::<Vec<_>>())
    }

    #[test]
    fn a_list_has_the_tensors_of_several_operations_without_the_gaps() {
        let arena: Vec<usize> = (0..40).collect();
        let (first, second) = (ranges(2, &[3, 1]), ranges(16, &[2, 2]));
        let both = TensorRanges::joined([&first, &TensorRanges::default(), &second]);
        assert_eq!(
            (both.range(), both.count(), both.starts().nth(2), both.starts().nth(4)),
            (2..20, 4, Some(16), None)
        );
        let tensors = both.of(&arena);
        assert_eq!(tensors.each::<5>(), [&[2, 3, 4][..], &[5], &[16, 17], &[18, 19], &[]]);
        assert_eq!((&tensors[2], tensors.part(2..4).get(1), tensors.get(9)), (&[16, 17][..], &[18, 19][..], &[][..]));
    }

    #[test]
    fn tensors_are_changed_side_by_side() {
        let both = TensorRanges::joined([&ranges(1, &[1, 2]), &ranges(8, &[1])]);
        let mut arena = vec![0; 10];
        let mut tensors = both.of_mut(&mut arena);
        let [a, b, c, none] = tensors.each();
        (a[0], b[1], c[0]) = (1, 2, 3);
        assert!(none.is_empty());
        tensors.part(1..3)[1][0] += 10;
        assert_eq!((tensors.count(), &tensors[2], tensors.shared().get(1)), (3, &[13][..], &[0, 2][..]));
        assert_eq!(arena, [0, 1, 0, 2, 0, 0, 0, 0, 13, 0]);
        let pieces: Vec<_> =
            both.of_mut(&mut arena).pieces(1).map(|(tensor, from, piece)| (tensor, from, piece[0])).collect();
        assert_eq!(pieces, [(0, 0, 1), (1, 0, 0), (1, 1, 2), (2, 0, 13)]);
        assert!(both.within::<i32>(&mut []).is_empty());
        assert!(TensorRanges::joined([]).is_empty());
    }
}
