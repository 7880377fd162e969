//! The numbers of a network: parameters and state, and their order in a file.

use super::error::TrainError;
use crate::base::aligned::Aligned;
use crate::graph::{Graph, Parameter};
use crate::nn::{Initialisation, initialise};
use crate::ops::op::Layout;

/// The parameter and state arenas of one network.
#[derive(Clone)]
pub struct Weights {
    /// Trained numbers.
    pub params: Aligned,
    /// Kept but untrained numbers: batch norm's running statistics.
    pub state: Aligned,
}

impl Weights {
    /// The weights, if they have as many numbers as `graph` requires.
    pub(crate) fn check(self, graph: &Graph) -> Result<Weights, TrainError> {
        self.check_len(graph)?;
        Ok(self)
    }

    pub(crate) fn check_len(&self, graph: &Graph) -> Result<(), TrainError> {
        let lens = [
            ("the parameters", graph.params_len(), self.params.len()),
            ("the running statistics", graph.state_len(), self.state.len()),
        ];
        match lens.into_iter().find(|(_, expected, got)| expected != got) {
            Some((what, expected, got)) => Err(TrainError::WrongLength { what, expected, got }),
            None => Ok(()),
        }
    }

    /// New weights for `graph`, drawn with this seed.
    pub fn initial(graph: &Graph, init: Initialisation, seed: u64) -> Weights {
        let mut weights = Weights::zeros(graph);
        initialise(graph, init, seed, &mut weights.params, &mut weights.state);
        weights
    }

    /// Zeros for `graph`.
    pub fn zeros(graph: &Graph) -> Weights {
        Weights { params: Aligned::zeros(graph.params_len()), state: Aligned::zeros(graph.state_len()) }
    }
}

/// The shape of a tensor in a file: PyTorch's.
pub fn file_shape(layout: Layout) -> Vec<usize> {
    match layout {
        Layout::Kernel { k, c_in, c_out } => vec![c_out, c_in, k],
        Layout::Dense { l, c, out } => vec![out, c * l],
        Layout::Vector { c } => vec![c],
        Layout::Features { l, c } => vec![c * l],
    }
}

/// For each place in a file, in order, the place of the same number in memory.
fn file_order(layout: Layout) -> Box<dyn Iterator<Item = usize>> {
    match layout {
        Layout::Vector { c } => Box::new(0..c),
        Layout::Features { l, c } => Box::new((0..c).flat_map(move |c_at| (0..l).map(move |l_at| l_at * c + c_at))),
        Layout::Kernel { k, c_in, c_out } => Box::new(
            (0..c_out).flat_map(move |o| (0..c_in).flat_map(move |i| (0..k).map(move |t| (t * c_in + i) * c_out + o))),
        ),
        Layout::Dense { l, c, out } => Box::new(
            (0..out)
                .flat_map(move |o| (0..c).flat_map(move |c_at| (0..l).map(move |l_at| (l_at * c + c_at) * out + o))),
        ),
    }
}

/// A tensor of an arena in a file's order.
pub fn to_file_order(parameter: &Parameter, arena: &[f32]) -> Vec<f32> {
    let memory = &arena[parameter.offset..][..parameter.len];
    file_order(parameter.layout).map(|at| memory[at]).collect()
}

/// Writes a tensor in a file's order to its place in an arena.
pub fn from_file_order(parameter: &Parameter, file: impl Iterator<Item = f32>, arena: &mut [f32]) {
    let memory = &mut arena[parameter.offset..][..parameter.len];
    for (at, value) in file_order(parameter.layout).zip(file) {
        memory[at] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::op::Role;

    #[test]
    fn every_layout_goes_to_a_file_and_back() {
        let layouts = [
            Layout::Kernel { k: 5, c_in: 3, c_out: 4 },
            Layout::Dense { l: 7, c: 3, out: 2 },
            Layout::Vector { c: 9 },
            Layout::Features { l: 4, c: 3 },
        ];
        for layout in layouts {
            let len = file_shape(layout).iter().product();
            let p = Parameter { name: "w".into(), offset: 2, len, layout, role: Role::Scale };
            let arena: Vec<f32> = (0..len + 2).map(|i| i as f32).collect();
            let file = to_file_order(&p, &arena);
            let mut back = vec![0.0; len + 2];
            from_file_order(&p, file.into_iter(), &mut back);
            assert_eq!(arena[2..], back[2..], "{layout:?}");
        }
    }

    #[test]
    fn a_kernel_is_in_pytorchs_order() {
        let layout = Layout::Kernel { k: 2, c_in: 1, c_out: 3 };
        let p = Parameter { name: "w".into(), offset: 0, len: 6, layout, role: Role::Scale };
        // Memory: tap 0 of outputs 0, 1, 2, then tap 1.
        assert_eq!(to_file_order(&p, &[0.0, 1.0, 2.0, 10.0, 11.0, 12.0]), [0.0, 10.0, 1.0, 11.0, 2.0, 12.0]);
    }
}
