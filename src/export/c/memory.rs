//! The static memory of the C code: where the rows and sums of each stage are.

use super::schedule;
use crate::export::stages::{Form, Kernel, Stages};

/// Output channels that a convolution computes at once.
pub(super) const GROUP: usize = 4;

/// Where something begins in the memory of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// In the rows of the type of the input of the network: of 16 bits, in a network in integers.
    Wide(usize),
    /// In the other rows.
    Rows(usize),
}

/// The memory of a stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct StageMemory {
    /// The window; none for a mean or a dense layer.
    pub window: Option<Location>,
    /// Where its sums begin.
    pub sums: usize,
    /// Rows that wait to be added, and where.
    pub queue: Option<(usize, Location)>,
}

/// All static memory, in numbers of each kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub wide: usize,
    pub rows: usize,
    pub sums: usize,
    /// Where in the rows the output of a stage is on its way to the next one.
    pub next_row: usize,
    /// The same in the rows of 16 bits.
    pub next_wide_row: usize,
    pub stages: Vec<StageMemory>,
}

impl Memory {
    /// The memory of these stages; `wide` says of the input and of the output of each stage whether its rows are of the type of the input. None if a row would
    /// be added before it is there.
    pub fn new(stages: &Stages, wide: &[bool]) -> Option<Memory> {
        let queues = schedule::queues(stages)?;
        let forms = || stages.stages.iter().map(|stage| &stage.form);
        let channels = |of: &Form| of.output.c.next_multiple_of(GROUP);
        let of_wide = forms().zip(&wide[1..]).filter(|(_, wide)| **wide);
        let mut memory = Memory {
            // The sums of a row on its way to a pool, or of a stage without one.
            sums: forms().map(channels).max().unwrap_or(0),
            rows: forms().map(|form| form.output.c).max().unwrap_or(0),
            wide: of_wide.map(|(form, _)| form.output.c).max().unwrap_or(0),
            ..Memory::default()
        };
        for (i, (form, queue)) in forms().zip(queues).enumerate() {
            let window = (form.span() > 0).then(|| memory.place(wide[i], form.span() * form.input.c));
            let own_sums = form.pool.k > 1 || matches!(form.kernel, Kernel::Mean | Kernel::Dense);
            let sums = if own_sums { memory.sums } else { 0 };
            memory.sums += if own_sums { channels(form) } else { 0 };
            let queue = form.residual.map(|source| (queue, memory.place(wide[source], queue * form.output.c)));
            memory.stages.push(StageMemory { window, sums, queue });
        }
        Some(memory)
    }

    /// Memory for so many numbers.
    fn place(&mut self, wide: bool, numbers: usize) -> Location {
        let (total, location): (&mut usize, fn(usize) -> Location) = match wide {
            true => (&mut self.wide, Location::Wide),
            false => (&mut self.rows, Location::Rows),
        };
        let at = *total;
        *total += numbers;
        location(at)
    }
}
