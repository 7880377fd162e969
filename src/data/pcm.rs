//! The output of a decoder: values as they are stored in the file.

/// The values of a file, channels interleaved.
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

/// A decoded file before it is converted to a [`Format`](super::clip::Format).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pcm {
    pub(super) values: Values,
    pub(super) channels: u32,
    pub(super) rate_hz: u32,
}
