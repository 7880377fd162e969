//! The shape of the part of a tensor that belongs to one clip of a batch.

use std::fmt;

/// Rows by channels of one clip, channels last: element `(row, channel)` has the index `row * c + channel`.
/// The batch axis `n` is not included: a tensor of a batch `[n, l, c]` consists of `n` such blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Length: the number of rows, which are audio samples in the first layer.
    pub l: usize,
    /// The number of channels.
    pub c: usize,
}

impl Shape {
    /// A shape of `l` rows of `c` channels.
    pub const fn new(l: usize, c: usize) -> Shape {
        Shape { l, c }
    }

    /// The number of elements, `l * c`.
    pub const fn size(self) -> usize {
        self.l * self.c
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.l, self.c)
    }
}
