//! What stands for a microphone in a program that was built without the feature `mic`.

use anyhow::{Result, bail};

/// A microphone, which this program cannot open.
pub enum Microphone {}

impl Microphone {
    pub fn open(_: Option<&str>, instead: &str) -> Result<Microphone> {
        bail!(
            "this program was built without microphones; build it again with `cargo install --locked --path . --features mic` (on Linux this needs libasound2-dev and pkg-config), or pipe the sound of another program: {instead}"
        )
    }

    pub fn name(&self) -> &str {
        match *self {}
    }

    pub fn describe(&self) -> String {
        match *self {}
    }

    pub fn rate_hz(&self) -> u32 {
        match *self {}
    }

    pub fn samples(&self) -> u64 {
        match *self {}
    }

    pub fn missing(&self) -> Option<String> {
        match *self {}
    }

    pub fn read(&mut self, _: &mut Vec<f32>) -> Result<()> {
        match *self {}
    }
}
