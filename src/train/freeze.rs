//! The layers that `freeze` names, and short lists of layers.

use super::error::TrainError;
use crate::base::name::display;
use crate::base::nearest::nearest;
use crate::graph::{Node, NodeId};
use crate::nn::Network;

/// What `freeze` is for all layers but those of the head.
pub const ALL_BUT_HEAD: &str = "all-but-head";

/// The nodes that `text` names: `all-but-head` for everything before the head, or names of layers separated by commas, as `conv1,conv2`.
///
/// The name of a convolution includes its batch norm. The head, the table `head` of a network file, begins after the last block and its
/// average: dense layers, and batch norm over the features. Spaces around names and empty names are left out; an empty text names nothing.
/// The nodes are in the order of the graph, each once. They are the argument of
/// [`TrainerBuilder::frozen`](super::TrainerBuilder::frozen).
///
/// # Errors
/// The network has no layer with weights of such a name.
///
/// ```
/// use stapes::nn::{self, Network, Variant};
/// use stapes::train::parse_freeze;
///
/// let network = Network::build(&nn::find("custom32-8")?.spec(Variant::Bn), 4)?;
/// let names = |text| -> Result<Vec<&str>, stapes::train::TrainError> {
///     Ok(parse_freeze(text, &network)?.into_iter().map(|id| &network.graph.node(id).name[..]).collect())
/// };
/// assert_eq!(names("conv1, conv2")?, ["conv1", "bn1", "conv2", "bn2"]);
/// assert!(!names("all-but-head")?.contains(&"fc1"));
/// assert!(names("cnov1").unwrap_err().to_string().contains("did you mean `conv1`?"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn parse_freeze(text: &str, network: &Network) -> Result<Vec<NodeId>, TrainError> {
    let graph = &network.graph;
    let layers = || graph.ids().filter(|&id| has_weights(graph.node(id)));
    if text.trim() == ALL_BUT_HEAD {
        return Ok(layers().filter(|&id| id <= network.features).collect());
    }
    let mut nodes = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let Some(id) = layers().find(|&id| graph.node(id).name == name) else {
            return Err(unknown(name, network));
        };
        let norm = |&other: &NodeId| {
            let node = graph.node(other);
            node.inputs == [id] && node.op.as_ref().is_some_and(|op| op.name() == "batch_norm")
        };
        nodes.push(id);
        nodes.extend(graph.ids().filter(norm));
    }
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

/// Whether a node has parameters or state.
pub(super) fn has_weights(node: &Node) -> bool {
    !node.spec.params.is_empty() || !node.spec.state.is_empty()
}

fn unknown(name: &str, network: &Network) -> TrainError {
    let layers: Vec<&str> =
        network.graph.nodes().iter().filter(|node| has_weights(node)).map(|node| node.name.as_str()).collect();
    let meant = nearest(name, layers.iter().copied().chain([ALL_BUT_HEAD]));
    TrainError::UnknownLayer {
        name: display(name),
        network: network.spec.name.clone(),
        hint: meant.map_or(String::new(), |meant| format!(" (did you mean `{meant}`?)")),
        layers: grouped(layers),
    }
}

/// A list of names in which consecutive numbers are a range: `conv1-conv3, bn1-bn3, fc1`.
pub(super) fn grouped<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    // The stem of each range, its first and its last number; no numbers for a name that ends in none.
    let mut ranges: Vec<(&str, Option<(usize, usize)>)> = Vec::new();
    for name in names {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = name[stem.len()..].parse().ok().filter(|number: &usize| number.to_string() == name[stem.len()..]);
        let Some(number) = number else {
            ranges.push((name, None));
            continue;
        };
        let next = |(other, range): &&mut (&str, Option<(usize, usize)>)| {
            *other == stem && range.is_some_and(|(_, last)| last.checked_add(1) == Some(number))
        };
        match ranges.iter_mut().find(next) {
            Some((_, Some((_, last)))) => *last = number,
            _ => ranges.push((stem, Some((number, number)))),
        }
    }
    let shown = ranges.into_iter().map(|(stem, range)| match range {
        None => stem.into(),
        Some((first, last)) if first == last => format!("{stem}{first}"),
        Some((first, last)) => format!("{stem}{first}-{stem}{last}"),
    });
    shown.collect::<Vec<String>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{self, NetworkSpec, Variant};

    fn names<'n>(text: &str, network: &'n Network) -> Vec<&'n str> {
        parse_freeze(text, network).unwrap().into_iter().map(|id| &network.graph.node(id).name[..]).collect()
    }

    fn network(variant: Variant) -> Network {
        let spec = NetworkSpec::parse(
            "name = \"n\"\nblock = [{ conv = 4, kernel = 3 }, { conv = 6, kernel = 3, norm = \"none\", activation = \"none\" }]\n\
             input = { length = 40, channels = 1, sample_rate = 8000 }\n\
             head = { dense = [8], batch_norm = true, pool = \"average\" }",
            "test",
        );
        let mut spec = spec.unwrap();
        spec.batch_norm = variant != Variant::Do;
        Network::build(&spec, 3).unwrap()
    }

    #[test]
    fn a_convolution_includes_its_batch_norm_and_a_layer_is_named_once() {
        let network = network(Variant::Bn);
        assert_eq!(names("conv1", &network), ["conv1", "bn1"]);
        assert_eq!(names(" conv2 ,bn1,, conv1,conv1", &network), ["conv1", "bn1", "conv2"]);
        assert_eq!(names("fc1", &network), ["fc1"]);
        assert_eq!(names("", &network), [""; 0]);
    }

    #[test]
    fn the_two_convolutions_of_a_separable_block_are_layers_of_their_own() {
        let text = "name = 'n'\nbatch_norm = true\ninput = { length = 40, channels = 1, sample_rate = 8000 }\n\
                    block = [{ conv = 4, kernel = 3 }, { conv = 4, kernel = 3, separable = true, residual = true }]";
        let network = Network::build(&NetworkSpec::parse(text, "test").unwrap(), 3).unwrap();
        assert_eq!(names("depthwise2", &network), ["depthwise2", "depthwise_bn2"]);
        assert_eq!(names("conv2", &network), ["conv2", "bn2"]);
        let all = ["conv1", "bn1", "depthwise2", "depthwise_bn2", "conv2", "bn2"];
        assert_eq!(names("all-but-head", &network), all);
    }

    #[test]
    fn the_head_begins_after_the_last_block() {
        assert_eq!(names("all-but-head", &network(Variant::Bn)), ["conv1", "bn1", "conv2"]);
        assert_eq!(names(" all-but-head ", &network(Variant::Do)), ["conv1", "conv2"]);
        let study = Network::build(&nn::find("custom32-8").unwrap().spec(Variant::DoBn), 3).unwrap();
        let frozen = names("all-but-head", &study);
        assert_eq!((frozen[0], frozen[frozen.len() - 1], frozen.len()), ("conv1", "bn8", 16));
    }

    #[test]
    fn an_unknown_layer_is_named_with_those_there_are() {
        let network = network(Variant::Bn);
        let told = |text| parse_freeze(text, &network).unwrap_err().to_string();
        assert_eq!(
            told("conv1,covn2"),
            "`freeze`: the network `n` has no layer `covn2` with weights (did you mean `conv2`?); its layers are conv1-conv2, bn1, \
             bn_features, fc1-fc2: name some of them, separated by commas, or give all-but-head"
        );
        // A layer without weights cannot learn anyway.
        assert!(told("relu1").contains("no layer `relu1` with weights"));
        assert!(told("all-but-heads").contains("did you mean `all-but-head`?"));
        assert!(told("x\u{1b}[2Jy").contains(r"no layer `x\x1b[2Jy`"));
    }

    #[test]
    fn ranges_are_of_consecutive_numbers_of_one_stem() {
        let of = |names: &str| grouped(names.split_whitespace());
        assert_eq!(of("conv1 bn1 conv2 bn2 conv4 fc1"), "conv1-conv2, bn1-bn2, conv4, fc1");
        assert_eq!(of("bn_features a01 a2 2 3"), "bn_features, a01, a2, 2-3");
        assert_eq!(of("conv2 conv1 conv99999999999999999999"), "conv2, conv1, conv99999999999999999999");
        assert_eq!(of(""), "");
    }
}
