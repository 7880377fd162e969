//! Which computations overlapping windows share.
//!
//! A recogniser that listens runs the network on a window of the last second every few milliseconds. Computed one by one, windows that overlap by 98 % repeat 98 % of the work. Here the
//! network is cut at a layer, the **cut**. What lies before it is the **trunk**, what lies after it the **head**:
//!
//! - The trunk is computed once for every **hop** on a **segment**, the samples from one window's start on, much shorter than a window. Rows of the trunk's output whose receptive fields lie
//!   within the segment are those of every window that contains them: they are **shared**.
//! - With padded convolutions, the first and last rows of a window depend on the zeros around it, and are shared with no other window. A segment is computed with the same zeros at both ends,
//!   so that its first rows are the first rows of the window that begins with it, and its last rows are the last rows of the window that ends with it. Therefore no row is approximated: the
//!   logits are those of the network on the window by itself, up to the rounding of other block positions in the convolutions.
//! - The head is computed once for every window.
//!
//! For both ends to meet, a hop is a multiple of the trunk's stride, and the lengths of window and segment differ by a multiple of the hop. [`Sharing::plan`] takes the cut, the hop near the one that is
//! wanted and the shortest segment for which a second of sound costs the fewest MACs.

use super::error::ListenError;
use super::part::{Part, trunk_graph};
use crate::graph::NodeId;
use crate::nn::{Network, ReceptiveField};

/// How far the hop may be from the one that is wanted, as a share of it.
const TOLERANCE: f64 = 0.1;

/// Which computations overlapping windows share, and at what cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Sharing {
    /// The last layer of the trunk; the network's input if nothing is shared.
    pub cut: NodeId,
    /// Samples (frames) from the start of a window to the start of the next.
    pub hop: usize,
    /// Samples of a window: the network's input.
    pub window: usize,
    /// Samples of a segment.
    pub segment: usize,
    /// Samples from one row of the trunk's output to the next.
    pub stride: usize,
    /// Rows at the start of a window that are not shared.
    pub first_rows: usize,
    /// Rows at the end of a window that are not shared.
    pub last_rows: usize,
    /// MACs of the trunk on a segment.
    pub trunk_macs: u64,
    /// MACs of the head on a window.
    pub head_macs: u64,
}

impl Sharing {
    /// The cheapest way to compute windows of `network` about every `hop` samples.
    ///
    /// # Errors
    /// The hop is 0 or longer than a window.
    pub fn plan(network: &Network, hop: usize) -> Result<Sharing, ListenError> {
        let alone = Sharing::none(network, hop)?;
        let mut best = alone.clone();
        for cut in cuts(network) {
            let Some(field) = network.receptive_fields(cut) else { break };
            let Ok(stride) = usize::try_from(field.stride) else { break };
            let (least, most) = (hop as f64 * (1.0 - TOLERANCE), hop as f64 * (1.0 + TOLERANCE));
            let hops = (least / stride as f64).ceil().max(1.0) as usize..=(most / stride as f64) as usize;
            for hop in hops.map(|rows| rows * stride) {
                if let Some(sharing) = Sharing::at(network, cut, field, hop)
                    && sharing.macs_per_second(1) < best.macs_per_second(1)
                {
                    best = sharing;
                }
            }
        }
        Ok(best)
    }

    /// Every window by itself.
    ///
    /// # Errors
    /// The hop is 0 or longer than a window.
    pub fn none(network: &Network, hop: usize) -> Result<Sharing, ListenError> {
        let window = network.graph.shape(network.audio).l;
        if hop == 0 || hop > window {
            return Err(ListenError::Hop { hop, window });
        }
        // Segments that end where windows end.
        let segment = hop + window % hop;
        let macs = Part::head_macs(network, network.audio);
        let (trunk_macs, head_macs) = (0, macs);
        Ok(Sharing {
            cut: network.audio,
            hop,
            window,
            segment,
            stride: 1,
            first_rows: 0,
            last_rows: 0,
            trunk_macs,
            head_macs,
        })
    }

    /// The shortest segment for this cut and hop; none if it is not shorter than a window.
    fn at(network: &Network, cut: NodeId, field: ReceptiveField, hop: usize) -> Option<Sharing> {
        let (window, stride) = (network.graph.shape(network.audio).l, field.stride as usize);
        let rows = network.graph.shape(cut).l;
        let first_rows = (0..rows).take_while(|&r| first_sample(field, r) < 0).count();
        let last_rows = (0..rows).rev().take_while(|&r| first_sample(field, r) + field.span > window as i128).count();
        let mut segment = hop + window % hop;
        // Beside the rows at both ends it has at least those of a hop, which are new in the window that ends with it.
        while segment < window {
            // Removing whole strides of samples removes as many rows, whatever the lengths in between round to.
            let fewer = (window - segment) / stride;
            if fewer + first_rows + last_rows + hop / stride <= rows
                && let Ok((graph, _)) = trunk_graph(network, cut, segment)
            {
                debug_assert_eq!((window - segment) % stride, 0);
                let (trunk_macs, head_macs) = (graph.macs(), Part::head_macs(network, cut));
                return Some(Sharing {
                    cut,
                    hop,
                    window,
                    segment,
                    stride,
                    first_rows,
                    last_rows,
                    trunk_macs,
                    head_macs,
                });
            }
            segment += hop;
        }
        None
    }

    /// MACs of a second of sound at this sample rate (with 1: of a sample).
    pub fn macs_per_second(&self, rate_hz: u32) -> f64 {
        (self.trunk_macs + self.head_macs) as f64 * f64::from(rate_hz) / self.hop as f64
    }

    /// Rows of the trunk's output in a hop.
    pub(super) fn hop_rows(&self) -> usize {
        self.hop / self.stride
    }

    /// Hops from the segment with which a window begins to the segment with which it ends.
    pub(super) fn hops_to_last(&self) -> usize {
        (self.window - self.segment) / self.hop
    }
}

/// The first sample of the receptive field of row `row`, before the clip if negative.
fn first_sample(field: ReceptiveField, row: usize) -> i128 {
    row as i128 * field.stride - field.before
}

/// The layers after which the network is computed from their output alone, whose rows each depend on a stretch of the input. The head begins at the features at the latest: it may have weights
/// for each row.
fn cuts(network: &Network) -> impl Iterator<Item = NodeId> {
    let graph = &network.graph;
    let needed = graph.ancestors(network.logits);
    let is_cut = move |cut: &NodeId| {
        needed[cut.index()]
            && graph
                .ids()
                .skip(cut.index() + 1)
                .take(network.logits.index() - cut.index())
                .all(|id| !needed[id.index()] || graph.node(id).inputs.iter().all(|input| input >= cut))
    };
    graph.ids().skip(1).take(network.features.index().saturating_sub(1)).filter(is_cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{self, Variant};

    fn network(name: &str, variant: Variant) -> Network {
        Network::build(&nn::find(name).unwrap().spec(variant), 12).unwrap()
    }

    #[test]
    fn a_small_network_costs_less_than_a_sixth() {
        let network = network("custom32-8", Variant::DoBn);
        let (shared, alone) = (Sharing::plan(&network, 320).unwrap(), Sharing::none(&network, 320).unwrap());
        assert!((288..=352).contains(&shared.hop), "{shared:?}");
        assert!(shared.macs_per_second(16_000) * 6.0 < alone.macs_per_second(16_000), "{shared:?} {alone:?}");
        assert_eq!((shared.window - shared.segment) % shared.hop, 0);
    }

    #[test]
    fn rows_that_are_not_shared_are_counted_as_by_hand() {
        // After four pools the stride is 81. Only the first row, whose receptive field begins 80 samples early, sees the padding before the window, and only the last the one after it.
        let network = network("custom32-8", Variant::Do);
        let pool4 = network.blocks[3];
        let sharing = Sharing::at(&network, pool4, network.receptive_fields(pool4).unwrap(), 324).unwrap();
        assert_eq!((sharing.stride, sharing.first_rows, sharing.last_rows), (81, 1, 1));
        assert_eq!(sharing.segment, 772); // 448 samples have three rows beside those at the ends, and a hop has four
    }

    #[test]
    fn a_hop_of_nothing_and_one_beyond_the_window_are_refused() {
        let network = network("custom32-8", Variant::Do);
        for hop in [0, 16_001] {
            assert!(Sharing::plan(&network, hop).unwrap_err().to_string().contains(&hop.to_string()));
        }
        assert!(Sharing::plan(&network, 16_000).is_ok());
    }
}
