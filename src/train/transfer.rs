//! Weights of one network as the start of another.

use super::bundle::Bundle;
use super::error::TrainError;
use super::freeze::{grouped, has_weights};
use super::weights::{Weights, file_shape};
use crate::base::Name;
use crate::base::name::display_path;
use crate::graph::{Graph, Node, NodeId};
use crate::nn::Network;
use crate::ops::op::{Layout, TensorSpec};
use std::fmt;
use std::path::{Path, PathBuf};

/// The origin of the weights of a layer after [`transfer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerOrigin {
    /// The layer of the same name, parameters and running statistics.
    Copied,
    /// The initial weights, which were left as they were.
    Initialised {
        /// Why nothing was copied.
        reason: NewLayer,
    },
}

/// Why the weights of a layer are not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewLayer {
    /// The other network has no layer of this name.
    Missing,
    /// It is the last layer, and the other network has other classes, or the same ones in another order.
    Classes {
        /// The number of classes of the other network.
        from: usize,
        /// The number of classes of this one.
        into: usize,
    },
    /// It is a layer of the head and has other shapes in the other network.
    Shapes {
        /// The shapes in the other network, in the order of a weight file.
        from: String,
        /// The shapes in this network.
        into: String,
    },
}

/// Which layers [`transfer`] has copied. As text it is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The weight file that the weights are from.
    pub file: PathBuf,
    /// The folder of its run, if a run was opened.
    pub run: Option<PathBuf>,
    /// The layers that have weights, in the order of the network, each with the origin of its weights.
    pub layers: Vec<(String, LayerOrigin)>,
    /// The layers of the other network that this one does not have.
    pub unused: Vec<String>,
    /// The sample rates in Hz of the other network and of this one, if they differ: then the filters that were learned have other
    /// frequencies here.
    pub sample_rates: Option<(u32, u32)>,
}

impl Transfer {
    /// The names of the layers that were copied.
    pub fn copied(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().filter(|(_, origin)| *origin == LayerOrigin::Copied).map(|(name, _)| name.as_str())
    }
}

/// Copies the weights of `from` to `weights`, which are initial weights of `into`, wherever both networks have a layer of the same name and
/// shapes: `conv1`, `bn1`, .., `fc1`. Batch norm is copied with its running statistics.
///
/// A layer of the head (after the last block) whose shapes differ keeps its initial weights, and so does the last dense layer if the
/// classes differ: `classes` are those of `into`. Strides, dilation, padding and pooling have no weights and are not compared.
///
/// # Errors
/// Before the head a layer of the same name has other shapes; no layer matches; or `weights` are those of another network. Then
/// `weights` stay as they were.
pub fn transfer(
    from: &Bundle,
    into: &Network,
    classes: &[Name],
    weights: &mut Weights,
) -> Result<Transfer, TrainError> {
    weights.check_len(&into.graph)?;
    let (source, target) = (&from.network.graph, &into.graph);
    let other_network = |reason| TrainError::OtherNetwork { path: from.file.clone(), reason };
    let mut layers = Vec::new();
    let mut pairs = Vec::new();
    for (id, node) in with_weights(target) {
        let origin = match source.find(&node.name).map(|id| source.node(id)).filter(|node| has_weights(node)) {
            None => LayerOrigin::Initialised { reason: NewLayer::Missing },
            Some(other) if is_last(&from.network, other) && is_last(into, node) && from.classes != classes => {
                LayerOrigin::Initialised { reason: difference((&from.network, other), (into, node)) }
            }
            Some(other) if tensors(other).eq(tensors(node)) => {
                pairs.push((other, node));
                LayerOrigin::Copied
            }
            Some(other) if id > into.features => {
                LayerOrigin::Initialised { reason: difference((&from.network, other), (into, node)) }
            }
            Some(other) => {
                return Err(other_network(format!(
                    "the layer `{}` has {} there, and {} in the network `{}`; take a network with the same convolutions",
                    node.name,
                    shapes(other),
                    shapes(node),
                    into.spec.name
                )));
            }
        };
        layers.push((node.name.clone(), origin));
    }
    if pairs.is_empty() {
        let [theirs, ours] = [source, target].map(|graph| grouped(with_weights(graph).map(|(_, node)| &node.name[..])));
        return Err(other_network(format!(
            "of its layers ({theirs}) none has the name and the shapes of one in the network `{}` ({ours}); take a network \
             with the same convolutions",
            into.spec.name
        )));
    }
    for (other, node) in pairs {
        weights.params[node.params.range()].copy_from_slice(&from.weights.params[other.params.range()]);
        weights.state[node.state.range()].copy_from_slice(&from.weights.state[other.state.range()]);
    }
    let [theirs, ours] = [&from.network, into].map(|network| network.spec.input.sample_rate);
    let unused = with_weights(source).filter(|(_, node)| target.find(&node.name).is_none());
    Ok(Transfer {
        file: from.file.clone(),
        run: from.folder.as_ref().map(|folder| folder.path().into()),
        layers,
        unused: unused.map(|(_, node)| node.name.clone()).collect(),
        sample_rates: (theirs != ours).then_some((theirs, ours)),
    })
}

fn with_weights(graph: &Graph) -> impl Iterator<Item = (NodeId, &Node)> {
    graph.ids().map(|id| (id, graph.node(id))).filter(|(_, node)| has_weights(node))
}

/// The tensors of a node as far as they must be the same for a copy.
fn tensors(node: &Node) -> impl Iterator<Item = (&'static str, Layout)> {
    node.spec.params.iter().chain(&node.spec.state).map(|tensor| (tensor.suffix, tensor.layout))
}

/// Whether a layer is the one that computes the logits.
fn is_last(network: &Network, node: &Node) -> bool {
    network.graph.node(network.logits).name == node.name
}

/// Why a layer of the head is not copied.
fn difference((theirs, other): (&Network, &Node), (ours, node): (&Network, &Node)) -> NewLayer {
    let inputs = |node: &Node| match node.spec.params[..] {
        [TensorSpec { layout: Layout::Dense { l, c, .. }, .. }, ..] => Some((node.spec.params.len(), l, c)),
        _ => None,
    };
    if is_last(theirs, other) && is_last(ours, node) && inputs(other) == inputs(node) {
        return NewLayer::Classes { from: theirs.classes, into: ours.classes };
    }
    NewLayer::Shapes { from: shapes(other), into: shapes(node) }
}

/// The parameters of a node with their shapes in a weight file: `weight [32, 1, 5], bias [32]`.
fn shapes(node: &Node) -> String {
    let shown = |tensor: &TensorSpec| format!("{} {:?}", tensor.suffix, file_shape(tensor.layout));
    node.spec.params.iter().map(shown).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from ", grouped(self.copied()))?;
        let name =
            |path: &Path| path.file_name().map_or_else(|| display_path(path), |name| display_path(name.as_ref()));
        match &self.run {
            Some(run) => write!(f, "{} ({})", display_path(run), name(&self.file))?,
            None => f.write_str(&display_path(&self.file))?,
        }
        for (layer, origin) in &self.layers {
            let LayerOrigin::Initialised { reason } = origin else { continue };
            match reason {
                NewLayer::Missing => write!(f, ", {layer} new")?,
                NewLayer::Classes { from, into } if from == into => write!(f, ", {layer} new (other classes)")?,
                NewLayer::Classes { from, into } => write!(f, ", {layer} new ({from} -> {into} classes)")?,
                NewLayer::Shapes { from, into } => write!(f, ", {layer} new ({from} -> {into})")?,
            }
        }
        match &self.unused[..] {
            [] => {}
            unused => write!(f, "; not used: {}", grouped(unused.iter().map(String::as_str)))?,
        }
        match self.sample_rates {
            None => Ok(()),
            Some((from, into)) => write!(f, "; trained on clips of {from} Hz, and this network takes {into} Hz"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Initialisation, NetworkSpec};
    use std::collections::HashMap;
    use std::sync::Arc;

    const BLOCKS: &str = "block = [{ conv = 4, kernel = 3, pool = 2 }, { conv = 6, kernel = 3 }]";

    fn network(classes: usize, text: &str) -> Arc<Network> {
        let text = format!("name = \"n\"\ninput = {{ length = 40, channels = 1, sample_rate = 8000 }}\n{text}");
        Arc::new(Network::build(&NetworkSpec::parse(&text, "test").unwrap(), classes).unwrap())
    }

    fn names(classes: usize) -> Vec<Name> {
        (0..classes).map(|i| format!("c{i}")[..].into()).collect()
    }

    /// A network with trained weights: initial ones, and running statistics that no new layer has.
    fn bundle(network: Arc<Network>) -> Bundle {
        let mut weights = Weights::initial(&network.graph, Initialisation::default(), 7);
        (0..).zip(weights.state.iter_mut()).for_each(|(i, value)| *value += 0.01 * i as f32);
        let classes = names(network.classes);
        Bundle {
            network,
            weights,
            classes,
            standardisation: None,
            file: "runs/x/best.safetensors".into(),
            folder: None,
            #[cfg(feature = "audio")]
            config: None,
        }
    }

    /// Transfers to initial weights of `into`. Returns the weights before and after.
    fn transferred(from: &Bundle, into: &Network) -> Result<(Transfer, [Weights; 2]), String> {
        let before = Weights::initial(&into.graph, Initialisation::default(), 1);
        let mut weights = before.clone();
        let result = transfer(from, into, &names(into.classes), &mut weights);
        if result.is_err() {
            assert_eq!((&weights.params[..], &weights.state[..]), (&before.params[..], &before.state[..]));
        }
        Ok((result.map_err(|error| error.to_string())?, [before, weights]))
    }

    /// Each tensor of a network by its name.
    fn by_name(graph: &Graph, weights: &Weights) -> HashMap<String, Vec<f32>> {
        let arenas = [(graph.parameters(), &weights.params), (graph.states(), &weights.state)];
        let all = arenas.into_iter().flat_map(|(tensors, arena)| {
            tensors.into_iter().map(|tensor| (tensor.name, arena[tensor.offset..][..tensor.len].to_vec()))
        });
        all.collect()
    }

    #[test]
    fn layers_of_one_name_and_shape_are_copied_and_a_head_with_other_classes_stays() {
        let from = bundle(network(12, &format!("batch_norm = true\n{BLOCKS}")));
        let into = network(4, &format!("batch_norm = true\n{BLOCKS}"));
        let (transfer, [before, after]) = transferred(&from, &into).unwrap();
        assert_eq!(transfer.copied().collect::<Vec<_>>(), ["conv1", "bn1", "conv2", "bn2"]);
        let source = by_name(&from.network.graph, &from.weights);
        let before = by_name(&into.graph, &before);
        for (name, values) in by_name(&into.graph, &after) {
            let expected = if name.starts_with("fc1") { &before } else { &source };
            assert_eq!(values, expected[&name], "{name}");
        }
        assert_eq!(
            transfer.to_string(),
            "conv1-conv2, bn1-bn2 from runs/x/best.safetensors, fc1 new (12 -> 4 classes)"
        );
    }

    #[test]
    fn as_many_classes_are_copied_too_and_offsets_may_differ() {
        let from = bundle(network(3, BLOCKS));
        // With a layer in between, every later layer is elsewhere in the arena.
        let into =
            network(3, "block = [{ conv = 4, kernel = 3, pool = 2, norm = \"batch\" }, { conv = 6, kernel = 3 }]");
        let (transfer, [_, after]) = transferred(&from, &into).unwrap();
        let (source, after) = (by_name(&from.network.graph, &from.weights), by_name(&into.graph, &after));
        assert!(source.iter().all(|(name, values)| after[name] == *values));
        assert_eq!(transfer.to_string(), "conv1-conv2, fc1 from runs/x/best.safetensors, bn1 new");
    }

    #[test]
    fn as_many_other_classes_get_a_new_last_layer() {
        let from = bundle(network(3, BLOCKS));
        let mut other: Vec<Name> = from.classes.clone();
        other.swap(0, 1);
        let before = Weights::initial(&from.network.graph, Initialisation::default(), 1);
        let mut weights = before.clone();
        let transfer = transfer(&from, &from.network, &other, &mut weights).unwrap();
        assert_eq!(transfer.to_string(), "conv1-conv2 from runs/x/best.safetensors, fc1 new (other classes)");
        let [before, after] = [before, weights].map(|weights| by_name(&from.network.graph, &weights));
        assert_eq!((&after["fc1.weight"], &after["fc1.bias"]), (&before["fc1.weight"], &before["fc1.bias"]));
    }

    #[test]
    fn another_head_and_layers_that_are_not_used_are_told() {
        let from = bundle(network(5, &format!("{BLOCKS}\nhead = {{ dense = [8] }}")));
        let into = network(5, "block = [{ conv = 4, kernel = 3, pool = 2 }]");
        let (transfer, _) = transferred(&from, &into).unwrap();
        assert_eq!(
            transfer.to_string(),
            "conv1 from runs/x/best.safetensors, fc1 new (weight [8, 120], bias [8] -> weight [5, 80], bias [5]); \
             not used: conv2, fc2"
        );
        let origin = LayerOrigin::Initialised { reason: NewLayer::Missing };
        let back = transferred(&bundle(into), &from.network).unwrap().0;
        assert!(back.layers.contains(&("conv2".into(), origin.clone())));
        assert!(back.layers.contains(&("fc2".into(), origin)));
    }

    #[test]
    fn a_convolution_of_other_shapes_and_a_network_with_nothing_in_common_are_refused() {
        let from = bundle(network(3, BLOCKS));
        let refused = |text: &str| transferred(&from, &network(3, text)).err().unwrap();
        assert_eq!(
            refused("block = [{ conv = 4, kernel = 3, pool = 2 }, { conv = 8, kernel = 3 }]"),
            "runs/x/best.safetensors holds the weights of another network: the layer `conv2` has weight [6, 4, 3], bias [6] there, \
             and weight [8, 4, 3], bias [8] in the network `n`; take a network with the same convolutions"
        );
        assert!(
            refused(&format!("bias = false\n{BLOCKS}"))
                .contains("has weight [4, 1, 3], bias [4] there, and weight [4, 1, 3] in")
        );

        // A network with other names throughout.
        let mut renamed = Graph::new();
        for node in from.network.graph.nodes() {
            let name = format!("my_{}", node.name);
            match &node.op {
                Some(op) => renamed.add_shared(&name, op.clone(), &node.inputs),
                None => renamed.input(&name, node.spec.y),
            }
            .unwrap();
        }
        let mut other = (*network(3, BLOCKS)).clone();
        other.graph = renamed;
        assert_eq!(
            transferred(&from, &other).err().unwrap(),
            "runs/x/best.safetensors holds the weights of another network: of its layers (conv1-conv2, fc1) none has the name and the \
             shapes of one in the network `n` (my_conv1-my_conv2, my_fc1); take a network with the same convolutions"
        );
    }

    #[test]
    fn another_sample_rate_is_told() {
        let from = bundle(network(3, BLOCKS));
        let mut into = (*from.network).clone();
        into.spec.input.sample_rate = 16000;
        let told = transferred(&from, &into).unwrap().0.to_string();
        assert!(told.ends_with("; trained on clips of 8000 Hz, and this network takes 16000 Hz"), "{told}");
    }

    #[test]
    fn weights_of_another_network_are_refused() {
        let from = bundle(network(3, BLOCKS));
        let error = transfer(&from, &from.network, &from.classes, &mut bundle(network(4, BLOCKS)).weights).unwrap_err();
        assert!(matches!(error, TrainError::WrongLength { .. }), "{error}");
    }
}
