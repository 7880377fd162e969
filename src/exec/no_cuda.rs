//! The types of `cuda` in a build without that feature. They have no values, so that no other module depends on the feature.

use super::error::DeviceError;
use super::measured::{Cost, Tally};
use super::update::{Rates, Update};
use crate::base::rng::Key;
use crate::graph::{NodeId, Plan};
use std::sync::Arc;

/// A GPU; a value of this type does not exist.
#[derive(Debug)]
pub enum Gpu {}

/// An executor on a GPU; a value of this type does not exist.
pub enum Cuda {}

#[allow(missing_docs, reason = "as in `cuda`")]
impl Gpu {
    pub fn count() -> Result<usize, DeviceError> {
        Err(DeviceError::NotBuilt)
    }

    pub fn open(_index: usize) -> Result<Arc<Gpu>, DeviceError> {
        Err(DeviceError::NotBuilt)
    }

    pub fn index(&self) -> usize {
        match *self {}
    }

    pub fn name(&self) -> &str {
        match *self {}
    }

    pub fn capability(&self) -> (u32, u32) {
        match *self {}
    }

    pub fn driver(&self) -> i32 {
        match *self {}
    }

    pub fn memory(&self) -> Result<(usize, usize), DeviceError> {
        match *self {}
    }

    pub fn load_all(&self) -> Result<usize, DeviceError> {
        match *self {}
    }
}

#[allow(missing_docs, reason = "as in `cuda`")]
impl Cuda {
    pub fn new(_plan: Arc<Plan>, gpu: Arc<Gpu>) -> Result<Cuda, DeviceError> {
        match *gpu {}
    }

    pub fn for_training(_plan: Arc<Plan>, gpu: Arc<Gpu>, _update: Update<'_>) -> Result<Cuda, DeviceError> {
        match *gpu {}
    }

    pub fn add_batch_size(&mut self, _plan: Arc<Plan>) -> Result<(), DeviceError> {
        match *self {}
    }

    pub fn has_batch_size(&self, _n: usize) -> bool {
        match *self {}
    }

    pub fn plan(&self) -> &Plan {
        match *self {}
    }

    pub fn prepare(&mut self, _params: &[f32], _state: &[f32]) -> Result<(), DeviceError> {
        match *self {}
    }

    pub fn set_moments(&mut self, _m: &[f32], _v: &[f32]) -> Result<(), DeviceError> {
        match *self {}
    }

    pub fn set_average(&mut self, _params: &[f32], _state: &[f32]) -> Result<(), DeviceError> {
        match *self {}
    }

    pub fn download_average(&self, _params: &mut [f32], _state: &mut [f32]) -> Result<(), DeviceError> {
        match *self {}
    }

    pub fn download(
        &self,
        _params: &mut [f32],
        _state: &mut [f32],
        _moments: [&mut [f32]; 2],
    ) -> Result<(), DeviceError> {
        match *self {}
    }

    pub fn state(&self, _state: &mut [f32]) -> Result<(), DeviceError> {
        match *self {}
    }

    pub fn run(&mut self, _inputs: &[&[f32]], _draw: Key) -> Result<(), DeviceError> {
        match *self {}
    }

    pub fn submit(&mut self, _input: &[f32], _labels: &[f32], _draw: Key, _rates: Rates) -> Result<(), DeviceError> {
        match *self {}
    }

    pub fn upload_clips<'r>(
        &mut self,
        _rows: impl ExactSizeIterator<Item = &'r [i16]>,
        _scale: f32,
    ) -> Result<bool, DeviceError> {
        match *self {}
    }

    pub fn submit_clips<'r>(
        &mut self,
        _clips: (&[u32], impl Fn(u32) -> &'r [i16]),
        _labels: &[f32],
        _draw: Key,
        _rates: Rates,
    ) -> Result<(), DeviceError> {
        match *self {}
    }

    pub fn queue_is_full(&self) -> bool {
        match *self {}
    }

    pub fn wait(&mut self) -> Result<Vec<Tally>, DeviceError> {
        match *self {}
    }

    pub fn measure(&mut self, _runs: usize) -> Result<Vec<(Cost, f64)>, DeviceError> {
        match *self {}
    }

    pub fn measure_step(&mut self, _runs: usize) -> Result<f64, DeviceError> {
        match *self {}
    }

    pub fn loss(&self) -> f64 {
        match *self {}
    }

    pub fn target_of(&self, _sample: usize) -> &[f32] {
        match *self {}
    }

    pub fn activation(&self, _node: NodeId) -> Result<Option<Vec<f32>>, DeviceError> {
        match *self {}
    }

    pub fn gradient(&self, _node: NodeId) -> Result<Option<Vec<f32>>, DeviceError> {
        match *self {}
    }

    pub fn parameter_gradients(&self) -> Result<Vec<f32>, DeviceError> {
        match *self {}
    }
}
