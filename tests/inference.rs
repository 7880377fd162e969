//! Recognition: norms folded into the weights and threads that share a clip give what the ops one by one give.

use stapes::base::rng::{Key, Stream};
use stapes::exec::Cpu;
use stapes::graph::{Plan, PlanOptions, Work};
use stapes::nn::{Network, NetworkSpec};
use stapes::ops::ConvChoice;
use stapes::simd::Isa;
use stapes::train::Weights;
use std::sync::Arc;

/// Blocks long enough to be shared, of every window, one without pool, one too short.
const BLOCKS: &str = r#"
    { conv = 17, kernel = 5, pool = 3 },
    { conv = 32, kernel = 5, pool = 2 },
    { conv = 20, kernel = 3 },
    { conv = 33, kernel = 9, pool = 4, pool_ceil = true, padding = "valid" },
    { conv = 8, kernel = 5, pool = 3 },
    { conv = 40, kernel = 5, pool = 3 },
"#;

/// Blocks with strides: of one input channel and of more, of fewer taps than the stride, and of a stride that is not fused.
const STRIDED: &str = r#"
    { conv = 17, kernel = 27, stride = 2, pool = 3 },
    { conv = 33, kernel = 9, stride = 3, pool = 4, pool_ceil = true, padding = "valid" },
    { conv = 20, kernel = 3, stride = 4 },
    { conv = 9, kernel = 21, stride = 18, padding = [20, 20] },
"#;

fn network(blocks: &str, batch_norm: bool) -> Network {
    let text = format!(
        r#"
        name = "blocks"
        batch_norm = {batch_norm}
        input = {{ length = 4000, channels = 1, sample_rate = 16000 }}
        head = {{ dropout = 0.5 }}
        block = [{blocks}]"#
    );
    Network::build(&NetworkSpec::parse(&text, "test").unwrap(), 7).unwrap()
}

/// Every list of blocks, without norm and with batch norm.
fn networks() -> impl Iterator<Item = Network> {
    [BLOCKS, STRIDED].into_iter().flat_map(|blocks| [false, true].map(|norm| network(blocks, norm)))
}

/// Weights and running statistics that are anything: scales of both signs, variances above zero.
fn weights(network: &Network) -> Weights {
    let key = Key::new(5, Stream::Case);
    let mut weights = Weights::zeros(&network.graph);
    weights.params.iter_mut().enumerate().for_each(|(i, w)| *w = 0.3 * key.normal(i as u64) as f32);
    weights.state.iter_mut().enumerate().for_each(|(i, s)| *s = 0.5 + key.with(1).uniform(i as u64) as f32);
    weights
}

fn logits(network: &Network, n: usize, conv: ConvChoice, threads: usize, isa: Isa) -> Vec<f32> {
    let plan =
        Plan::new(&network.graph, &PlanOptions { conv, ..PlanOptions::new(n, Work::Infer(network.logits)) }).unwrap();
    let mut weights = weights(network);
    let key = Key::new(9, Stream::Case);
    let audio: Vec<f32> = (0..n * 4000).map(|i| key.normal(i as u64) as f32).collect();
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
        let mut cpu = Cpu::new(Arc::new(plan), isa).unwrap();
        cpu.prepare(&weights.params, &weights.state);
        cpu.run(&weights.params, &mut weights.state, &[&audio], Key::new(0, Stream::Dropout));
        cpu.activation(network.logits).unwrap()
    })
}

#[test]
fn folded_blocks_meet_the_ops_one_by_one() {
    for network in networks() {
        let expected = logits(&network, 2, ConvChoice::Direct, 1, Isa::Scalar);
        let size = expected.iter().map(|y| y * y).sum::<f32>().sqrt();
        assert!(size > 0.1, "the logits are not all near zero");
        for isa in Isa::all() {
            for conv in [ConvChoice::Fast, ConvChoice::Auto] {
                let got = logits(&network, 2, conv, 2, isa);
                let error = got.iter().zip(&expected).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt() / size;
                assert!(error < 1e-5, "{isa:?} {conv}: relative rms error {error:.1e}");
            }
        }
    }
}

#[test]
fn threads_that_share_a_clip_change_nothing() {
    for network in networks() {
        let one = logits(&network, 1, ConvChoice::Auto, 1, Isa::best());
        for threads in [2, 3, 5] {
            assert_eq!(one, logits(&network, 1, ConvChoice::Auto, threads, Isa::best()), "{threads} threads");
        }
        let many = logits(&network, 5, ConvChoice::Auto, 2, Isa::best());
        assert_eq!(one, many[..7], "one clip alone and among others");
    }
}

#[test]
fn a_stride_is_fused_where_there_are_kernels() {
    let network = network(STRIDED, true);
    let names = |work: Work| {
        let plan = Plan::new(&network.graph, &PlanOptions::new(2, work)).unwrap();
        let names = plan.nodes.iter().map(|node| node.name.clone()).filter(|name| name.starts_with("conv"));
        names.collect::<Vec<String>>()
    };
    assert_eq!(
        names(Work::Infer(network.logits)),
        ["conv1+bn1+relu1+pool1", "conv2+bn2+relu2+pool2", "conv3+bn3+relu3", "conv4"]
    );
    assert_eq!(names(Work::Train(network.loss)), ["conv1+bn1+relu1+pool1", "conv2", "conv3", "conv4"]);
}
