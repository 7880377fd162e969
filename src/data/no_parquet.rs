//! In place of `parquet_files/` in builds without the feature `parquet`: the same functions, which find no such data set.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::Path;

use crate::base::sha1::Sha1;

use super::clip::{Clip, Format};
use super::error::{ClipFault, DataError};
use super::prepare::{Sink, Stop};
use super::source::Wanted;
use super::table::Table;

/// There is none.
#[derive(Debug)]
pub(super) struct ParquetSet(Infallible);

impl ParquetSet {
    pub(super) fn table(&self) -> &Table {
        match self.0 {}
    }

    pub(super) fn hash(&self, _: &mut Sha1) {
        match self.0 {}
    }
}

pub(super) fn survey(path: &Path) -> Result<ParquetSet, DataError> {
    Err(DataError::WithoutParquet { path: path.into() })
}

pub(super) fn read(set: &ParquetSet, _: &Wanted<'_>, _: Sink<'_>) -> Result<(), Stop> {
    match set.0 {}
}

/// Decodes the sound in each row of a Parquet file, which needs the feature `parquet`.
///
/// # Errors
/// Always, in a build without it.
pub fn read_parquet_clips(
    path: &Path,
    _: Format,
    _: &mut dyn FnMut(Result<Clip, ClipFault>) -> ControlFlow<()>,
) -> Result<(), DataError> {
    Err(DataError::WithoutParquet { path: path.into() })
}
