//! The shape of one sample's tensor.

use std::fmt;

/// Rows by channels of one sample, channels last: element `(row, channel)` stands at `row * c + channel`.
/// The batch axis `n` is not part of it: a tensor of a batch is `n` such samples one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Length: rows, or audio samples in the first layer.
    pub l: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// A shape of `l` rows of `c` channels.
    pub const fn new(l: usize, c: usize) -> Shape {
        Shape { l, c }
    }

    /// How many numbers one sample holds.
    pub const fn size(self) -> usize {
        self.l * self.c
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.l, self.c)
    }
}
