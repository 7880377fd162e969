//! What a decoder gives: values as the file has them.

/// The values of a file as they are coded there, channels interleaved.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    /// 16-bit files stay exact.
    I16(Vec<i16>),
    /// Everything else, full scale 1.
    F32(Vec<f32>),
}

impl Values {
    pub(super) fn len(&self) -> usize {
        match self {
            Values::I16(v) => v.len(),
            Values::F32(v) => v.len(),
        }
    }
}

/// A decoded file before it is brought to a [`Format`](super::clip::Format).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pcm {
    pub(super) values: Values,
    pub(super) channels: u32,
    pub(super) rate_hz: u32,
}
