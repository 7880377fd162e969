//! The activations of a layer as features of clips, for other programs and other classifiers.

use super::error::TrainError;
use super::predictor::Predictor;
use crate::base::nearest::nearest;
use crate::base::{Shape, name::display};
use crate::data::{Batches, Dataset, Split};
use crate::graph::NodeId;
use crate::nn::Network;
use std::sync::Arc;

/// The name of what the last dense layers see: the output of the last block, after pooling over time if the network has it.
const FEATURES: &str = "features";

/// A layer whose activations are features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureLayer {
    /// Its name, as `stapes models` lists it.
    pub name: String,
    /// Its node.
    pub node: NodeId,
    /// Rows and channels of its output for a clip.
    pub shape: Shape,
}

impl FeatureLayer {
    /// The layer of this name; `features` is the input of the head.
    ///
    /// # Errors
    /// There is none; the error names the layers.
    pub fn find(network: &Network, name: &str) -> Result<FeatureLayer, TrainError> {
        let graph = &network.graph;
        // What follows the logits is the loss.
        let layers = || graph.ids().take_while(|&id| id <= network.logits).filter(|&id| graph.node(id).op.is_some());
        let found = match name {
            FEATURES => Some(network.features),
            _ => layers().find(|&id| graph.node(id).name == name),
        };
        let Some(node) = found else {
            let names: Vec<&str> = layers().map(|id| graph.node(id).name.as_str()).chain([FEATURES]).collect();
            let meant = nearest(name, names.iter().copied());
            return Err(TrainError::NoSuchLayer {
                name: display(name),
                network: network.spec.name.clone(),
                hint: meant.map_or(String::new(), |meant| format!(" (did you mean `{meant}`?)")),
                layers: names.join(", "),
            });
        };
        Ok(FeatureLayer { name: graph.node(node).name.clone(), node, shape: graph.shape(node) })
    }
}

/// Computes the activations of a layer for the clips of a split, or for all, in the order of their numbers, and hands them to `take` batch by batch: the numbers of the
/// clips, and `[n, l, c]`. The predictor was built to keep the layer ([`super::PredictorBuilder::keep`]).
///
/// # Errors
/// There are no such clips, the predictor does not keep the layer, the GPU fails, or `take` fails.
pub fn features<E: From<TrainError>>(
    predictor: &mut Predictor,
    layer: &FeatureLayer,
    data: &Arc<Dataset>,
    split: Option<Split>,
    mut take: impl FnMut(&[u32], &[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let mut batches = Batches::eval(data.clone(), split, predictor.batch()).map_err(TrainError::from)?;
    while let Some(batch) = batches.next_batch() {
        predictor.run(&batch.inputs)?;
        let values = predictor.activation(layer.node)?;
        let values = values.ok_or_else(|| TrainError::NotKept { layer: layer.name.clone() })?;
        take(&batch.clips, &values[..batch.clips.len() * layer.shape.size()])?;
    }
    Ok(())
}
