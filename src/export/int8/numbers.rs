//! The numbers between the stages of [`super::IntegerExecutor`].

use std::borrow::Cow;

/// Numbers of a layer.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    /// From 0 to 255.
    Bytes(Vec<u8>),
    /// Of 16 bits.
    Words(Vec<i16>),
}

/// A number of one of the two sizes.
pub(super) trait Number: Copy + Into<i32> {
    /// `value`, which is in the range of the type.
    fn of(value: i32) -> Self;
}

impl Number for u8 {
    #[inline(always)]
    fn of(value: i32) -> u8 {
        value as u8
    }
}

impl Number for i16 {
    #[inline(always)]
    fn of(value: i32) -> i16 {
        value as i16
    }
}

impl Numbers {
    /// `len` times `value`, which is in the range of the type.
    pub(super) fn repeated(bytes: bool, value: i32, len: usize) -> Numbers {
        match bytes {
            true => Numbers::Bytes(vec![value as u8; len]),
            false => Numbers::Words(vec![value as i16; len]),
        }
    }

    /// `len` numbers from `from` on, as words.
    pub(super) fn words(&self, from: usize, len: usize) -> Cow<'_, [i16]> {
        match self {
            Numbers::Bytes(x) => x[from..][..len].iter().map(|&x| i16::from(x)).collect(),
            Numbers::Words(x) => Cow::Borrowed(&x[from..][..len]),
        }
    }
}
