//! The study's networks against its own table, and networks that users write: those that can be, and those that cannot.

use serde_json::Value;
use stapes::base::Shape;
use stapes::graph::{Plan, PlanOptions, Work};
use stapes::nn::{self, Block, Counting, Family, Head, Input, Network, NetworkSpec, Reason, Rule, Variant};
use stapes::ops::Padding;
use std::path::Path;

const COUNTINGS: [(Counting, &str); 3] =
    [(Counting::Plain, "plain"), (Counting::Bn, "bn"), (Counting::BnFlat, "bn+flat")];

fn table() -> Vec<Value> {
    let text = std::fs::read_to_string("fixtures/networks.json").unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    json["networks"].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

#[test]
fn every_network_of_the_study_is_here_with_what_was_printed() {
    let table = table();
    assert_eq!(table.len(), 77);
    let names: Vec<&str> = table.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(nn::all().map(|s| s.name).collect::<Vec<_>>(), names);
    for (study, row) in nn::all().zip(&table) {
        assert_eq!(study.table(), row["table"], "{}", study.name);
        assert_eq!(study.dropout, row["dropout"].as_f64().unwrap(), "{}", study.name);
        let printed = study.printed.map(|(_, params)| params);
        assert_eq!(printed, row["printed_params"].as_u64(), "{}", study.name);
        for variant in Variant::ALL {
            let accuracy = row["accuracy"].get(variant.name()).and_then(Value::as_f64);
            assert_eq!(study.accuracy(variant), accuracy, "{} {variant}", study.name);
        }
    }
}

#[test]
fn every_printed_count_is_met_under_its_rule() {
    let mut printed = 0;
    for (study, row) in nn::all().zip(table()) {
        let spec = study.spec(Variant::Do);
        for (rule, name) in COUNTINGS {
            let params = nn::count_params(&spec, nn::STUDY_CLASSES, rule).unwrap();
            assert_eq!(Some(params), row["params"][name].as_u64(), "{} {name}", study.name);
            if row["printed_rule"] == name {
                printed += 1;
                assert_eq!(Some(params), row["printed_params"].as_u64(), "{}", study.name);
                assert_eq!(study.printed, Some((rule, params)), "{}", study.name);
            }
        }
    }
    assert_eq!(printed, 71);
}

#[test]
fn all_231_variants_have_the_shapes_and_the_arithmetic_of_the_table() {
    let mut built = 0;
    for (study, row) in nn::all().zip(table()) {
        for variant in Variant::ALL {
            let at = format!("{} {variant}", study.name);
            let network = Network::build(&study.spec(variant), nn::STUDY_CLASSES).unwrap();
            let (graph, has) = (&network.graph, |name: &str| network.graph.find(name).is_some());
            let channels: Vec<usize> = network.blocks.iter().map(|&b| graph.shape(b).c).collect();
            assert_eq!(channels, numbers(&row["channels"]), "{at}");
            let lengths: Vec<usize> = network.blocks.iter().map(|&b| graph.shape(b).l).collect();
            assert_eq!(lengths, numbers(&row["lengths_after_each_conv"]), "{at}");
            assert_eq!(graph.shape(network.features).size() as u64, row["features"], "{at}");
            assert_eq!(graph.shape(network.logits), Shape::new(1, 16), "{at}");
            let multiplies = |op: &str| matches!(op, "conv1d" | "linear");
            let macs: u64 = network.describe().iter().filter(|r| multiplies(r.op)).map(|r| r.macs).sum();
            assert_eq!(macs, row["forward_macs"], "{at}");
            assert!(network.macs() == macs || variant != Variant::Do, "{at}");

            assert_eq!(has("dropout"), variant != Variant::Bn, "{at}");
            let normed = (1..=channels.len()).filter(|i| has(&format!("bn{i}"))).count();
            assert_eq!(normed, if variant == Variant::Do { 0 } else { channels.len() }, "{at}");
            let flat = variant != Variant::Do && row["printed_rule"] == "bn+flat";
            assert_eq!(has("bn_features"), flat, "{at}");
            let rule = match (variant, flat) {
                (Variant::Do, _) => "plain",
                (_, false) => "bn",
                (_, true) => "bn+flat",
            };
            assert_eq!(network.params(), row["params"][rule], "{at}");
            built += 1;
        }
    }
    assert_eq!(built, 231);
}

#[test]
fn parameters_have_the_names_that_pytorch_gives() {
    let names = |graph: &stapes::graph::Graph| {
        let all = graph.parameters().into_iter().chain(graph.states());
        all.map(|p| p.name).collect::<Vec<_>>()
    };
    let network = Network::build(&nn::find("baseline").unwrap().spec(Variant::DoBn), 16).unwrap();
    let names = names(&network.graph);
    for name in ["conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"] {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
    for name in ["conv5.weight", "fc1.weight", "fc1.bias", "fc2.weight", "fc3.weight", "fc3.bias"] {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
    assert_eq!(names.len(), 5 * 6 + 3 * 2);
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let error = nn::find("custm32-8").unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no network `custm32-8`, did you mean `custom32-8`; `stapes models` lists them, \
         and a network of your own is a .toml file"
    );
    let error = nn::find("transformer").unwrap_err();
    assert!(matches!(error.reason, Reason::UnknownNetwork { nearest: None, .. }), "{error}");
    assert!("dobn".parse::<Variant>().unwrap_err().contains("did you mean `do+bn`?"));
    assert_eq!(nn::resolve("vgg64-16", Some(Variant::Bn)).unwrap(), nn::find("vgg64-16").unwrap().spec(Variant::Bn));
}

#[test]
fn recommended_networks_keep_their_limits_and_have_all_variants() {
    let largest = |name: &str| if name == "recommended-s" { 95_000 } else { 500_000 };
    for spec in nn::recommended() {
        assert!(nn::is_built_in(&spec.name) && nn::find(&spec.name).is_err(), "{}", spec.name);
        assert_eq!(spec, nn::resolve(&spec.name, None).unwrap());
        assert!(spec.batch_norm && spec.head.dropout > 0.0);
        let network = Network::build(&spec, 16).unwrap();
        assert!(network.params() <= largest(&spec.name), "{}: {}", spec.name, network.params());
        for variant in [Variant::Do, Variant::Bn, Variant::DoBn] {
            let spec = nn::built_in(&spec.name, Some(variant)).unwrap();
            assert_eq!((spec.batch_norm, spec.head.dropout > 0.0), (variant != Variant::Do, variant != Variant::Bn));
            Network::build(&spec, 2).unwrap();
        }
    }
    let error = nn::resolve("recomended-s", None).unwrap_err().to_string();
    assert!(error.contains("did you mean `recommended-s`"), "{error}");
}

fn fixture(name: &str) -> Network {
    let spec = nn::resolve(&format!("fixtures/specs/{name}.toml"), None).unwrap();
    Network::build(&spec, spec.classes.unwrap_or(16)).unwrap()
}

#[test]
fn networks_of_users_build() {
    let dilated = fixture("dilated");
    let shapes: Vec<Shape> = dilated.blocks.iter().map(|&b| dilated.graph.shape(b)).collect();
    let [a, b] = [Shape::new(500, 48), Shape::new(500, 64)];
    assert_eq!(shapes, [Shape::new(1000, 32), a, a, b, b]);
    assert_eq!(dilated.graph.shape(dilated.features), Shape::new(1, 64));
    assert!(["bn4", "relu5", "conv1.bias"].iter().all(|n| dilated.graph.find(n).is_none()));
    let weights = (9 + 48 * 5) * 32 + 48 * 5 * 48 + 48 * 5 * 64 + 64 * 64;
    let norms = 2 * (32 + 48 + 48 + 64);
    assert_eq!(dilated.params(), weights + norms + 64 * 16 + 16);

    let brain = fixture("brain");
    assert_eq!(brain.graph.shape(brain.audio), Shape::new(1000, 8));
    assert_eq!(brain.graph.shape(brain.features), Shape::new(5, 48));
    assert_eq!(brain.graph.shape(brain.logits), Shape::new(1, 4));
    assert!(brain.graph.find("fc1_relu").is_some() && brain.graph.find("bn_features").is_some());
    assert_eq!(brain.describe()[1].receptive_ms, 20.0);

    let overlapping = fixture("overlapping");
    let lengths: Vec<usize> = overlapping.blocks.iter().map(|&b| overlapping.graph.shape(b).l).collect();
    assert_eq!(lengths, [1328, 661, 81]);
}

#[test]
fn pools_behind_all_but_the_first_keep_the_count() {
    let late = fixture("late_pools");
    let usual = Network::build(&nn::find("custom32-8").unwrap().spec(Variant::Do), 16).unwrap();
    assert_eq!(late.params(), usual.params());
    let ratio = late.macs() as f64 / usual.macs() as f64;
    assert!((2.5..3.5).contains(&ratio), "{ratio}");
}

#[test]
fn a_spec_survives_its_own_text() {
    let mut specs: Vec<NetworkSpec> =
        nn::all().flat_map(|study| Variant::ALL.map(|variant| study.spec(variant))).collect();
    for name in ["dilated", "brain", "late_pools", "overlapping", "separable"] {
        specs.push(NetworkSpec::load(Path::new(&format!("fixtures/specs/{name}.toml"))).unwrap());
    }
    for spec in specs {
        let text = spec.to_toml();
        assert_eq!(NetworkSpec::parse(&text, "x.toml").unwrap(), spec, "{text}");
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<NetworkSpec>(&json).unwrap(), spec, "{json}");
    }
}

#[test]
fn separable_and_residual_blocks_have_their_layers_shapes_and_counts() {
    let network = fixture("separable");
    let graph = &network.graph;
    let shapes: Vec<Shape> = network.blocks.iter().map(|&b| graph.shape(b)).collect();
    let expected = [(1778, 32), (592, 64), (197, 64), (99, 96), (99, 96)].map(|(l, c)| Shape::new(l, c));
    assert_eq!(shapes, expected);
    let rows = network.describe();
    let of = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
    let block = |n: usize| rows.iter().filter(move |row| row.name.ends_with(char::from_digit(n as u32, 10).unwrap()));
    let names = |n: usize| block(n).map(|row| (&row.name[..], row.op)).collect::<Vec<_>>();
    let begin = [("depthwise3", "depthwise_conv1d"), ("depthwise_bn3", "batch_norm"), ("depthwise_relu3", "relu")];
    let end = [("conv3", "conv1d"), ("bn3", "batch_norm"), ("add3", "add"), ("relu3", "relu"), ("pool3", "max_pool1d")];
    assert_eq!(names(3), [&begin[..], &end[..]].concat());
    assert_eq!(names(5), [("conv5", "conv1d"), ("bn5", "batch_norm"), ("add5", "add")]);
    // Weights, biases, scales and shifts of both convolutions.
    let params = |n: usize| block(n).map(|row| row.params).sum::<u64>();
    assert_eq!(params(2), 9 * 32 + 32 + 2 * 32 + 32 * 64 + 64 + 2 * 64);
    assert_eq!(params(3), 9 * 64 + 64 + 2 * 64 + 64 * 64 + 64 + 2 * 64);
    assert_eq!((of("depthwise3").macs, of("conv3").macs), (592 * 9 * 64, 592 * 64 * 64));
    assert_eq!((of("depthwise4").macs, of("conv4").macs), (99 * 9 * 64, 99 * 64 * 96));
    assert_eq!(network.macs(), rows.iter().map(|row| row.macs).sum::<u64>());
    // The sizes of windows times the samples from one row to the next: 27 and a pool of 3 by 3, then 9 and a pool of 3 by 9, ..
    let reach = |name: &str| (of(name).receptive_samples, of(name).jump_samples);
    assert_eq!(reach("pool1"), (27 + 2 * 3, Some(9)));
    assert_eq!(reach("conv2"), (33 + 8 * 9, Some(9)));
    assert_eq!(reach("conv3"), (105 + 2 * 9 + 8 * 27, Some(27)));
    assert_eq!(reach("conv3"), reach("add3"));
    assert_eq!(reach("depthwise4"), (339 + 2 * 27 + 16 * 81, Some(162)));
    let summary = network.summary(None);
    assert_eq!((summary.convolutions, summary.layers), (8, 9));
    // The tensors of a depthwise convolution are those of PyTorch's grouped convolution.
    let named: Vec<String> = graph.parameters().into_iter().map(|p| p.name).collect();
    for name in ["depthwise3.weight", "depthwise3.bias", "depthwise_bn3.weight", "conv3.weight", "bn3.bias"] {
        assert!(named.iter().any(|n| n == name), "{name}");
    }
    // Pointwise convolutions are fused with what follows them; before an addition they are not.
    let plan = Plan::new(graph, &PlanOptions::new(4, Work::Train(network.loss))).unwrap();
    let planned: Vec<&str> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
    assert!(planned.contains(&"conv2+bn2+relu2+pool2") && planned.contains(&"conv3"), "{planned:?}");
}

#[test]
fn files_without_the_new_keys_are_written_as_before() {
    let text = nn::resolve("fixtures/specs/dilated.toml", None).unwrap().to_toml();
    assert!(!text.contains("separable") && !text.contains("residual"), "{text}");
}

#[test]
fn variants_of_users_networks_set_norm_and_dropout() {
    let mut spec = NetworkSpec::load(Path::new("fixtures/specs/dilated.toml")).unwrap();
    spec.set_variant(Variant::Bn);
    assert!(spec.batch_norm && spec.head.dropout == 0.0 && spec.block[3].norm.is_some());
    spec.set_variant(Variant::Do);
    assert!(!spec.batch_norm && spec.head.dropout == 0.5 && spec.block[3].norm.is_none());
}

#[test]
fn classes_of_network_and_data_must_agree() {
    let spec = NetworkSpec::load(Path::new("fixtures/specs/brain.toml")).unwrap();
    let error = Network::build(&spec, 5).unwrap_err();
    assert_eq!(
        error.to_string(),
        "network `brain`: the network has `classes = 4`, but 5 classes are given; give as many classes as the network has, or change `classes`"
    );
    for classes in [0, 1, usize::MAX] {
        assert_eq!(
            &*Network::build(&NetworkSpec { classes: None, ..spec.clone() }, classes).unwrap_err().key,
            "classes"
        );
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = nn::resolve("no/such.toml", None).unwrap_err().to_string();
    assert!(error.starts_with("no/such.toml: the file cannot be read (No such file"), "{error}");
    let error = nn::resolve("fixtures/clips/", None).unwrap_err().to_string();
    assert!(error.starts_with("fixtures/clips/: the file cannot be read ("), "{error}");
    let mut text = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::io::Write::write_all(&mut text, b"RIFF\xff\xff\xff\xffWAVE").unwrap();
    let error = NetworkSpec::load(text.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("the file cannot be read (it is not text: byte 4 is not UTF-8); check the path"),
        "{error}"
    );
}

/// A valid rule, which replaces `CUSTOM` in the files below.
const CUSTOM: &str = "blocks = { rule = 'custom', start = 32, depth = 8 }";

/// What follows the name on line 1, and what is said of it: texts that are not a network's.
#[rustfmt::skip]
const UNREADABLE: &[(&str, &str)] = &[
    ("name = 'b'", "line 2: this is not TOML: duplicate key"),
    ("input = { lenght = 8000 }\nCUSTOM", "line 2: unknown key `lenght`; did you mean `length`?"),
    ("\nblocks = { rule = 'custom', start = 32, depth = 8, kernl = 3 }", "line 3: unknown key `kernl`; did you mean `kernel`?"),
    ("[blocks]\nrule = 'custom'\nstart = 32\ndepht = 8", "line 5: unknown key `depht`; did you mean `depth`?"),
    ("dropuot = 0.5\nCUSTOM", "line 2: unknown key `dropuot`; did you mean `head.dropout`?"),
    ("CUSTOM\nwavelets = 3", "line 3: unknown key `wavelets`; known here: name, classes, batch_norm, bias, input, blocks, head, block"),
    ("\n\n[wavelets]\na = 3", "line 4: unknown key `wavelets`; known here: name, classes, batch_norm, bias, input, blocks, head, block"),
    ("blocks = { rule = 'steap', start = 32, depth = 8 }", "line 2: unknown value `steap`; did you mean `steep`?"),
    ("blocks = { rule = 'resnet', start = 32, depth = 8 }", "line 2: unknown value `resnet`; known here: custom, steep, shrink, steepshrink, vgg, baseline"),
    ("blocks = { rule = 'custom', depth = 8 }", "line 2: the key `start` is missing; add it"),
    ("blocks = { rule = 'custom', start = 'many', depth = 8 }", "line 2: `start` is 'many', not a whole number of 0 or more"),
    ("blocks = { rule = 'custom', start = -1, depth = 8 }", "line 2: `start` is -1, not a whole number of 0 or more"),
    ("blocks = { rule = 'custom', start = 1.5, depth = 8 }", "line 2: `start` is 1.5, not a whole number of 0 or more"),
    ("blocks = { rule = 'custom', start = 99999999999999999999999, depth = 8 }", "line 2: `start` is 99999999999999999999999, which is too large"),
    ("blocks = 5", "line 2: `blocks` is 5, not a table"),
    ("[[block]]\nconv = 8\nkernel = 5\nCUSTOM", "line 5: unknown key `blocks`; known here: conv, kernel, stride, dilation, padding, norm, activation, separable, residual, pool, pool_stride, pool_ceil"),
    ("input = { sample_rate = 99999999999 }\nCUSTOM", "line 2: `sample_rate` is 99999999999, which is too large"),
    ("CUSTOM\nhead = { dropout = 'half' }", "line 3: `dropout` is 'half', not a number"),
    ("CUSTOM\nhead = { dense = 64 }", "line 3: `dense` is 64, not a list"),
    ("CUSTOM\nhead = { pool = 'max' }", "line 3: unknown value `max`; known here: flatten, average"),
    ("[[block]]\nconv = 8\nkernel = 5\n[[block]]\nconv = 8\nkernel = 5\npooling = 3", "line 8: unknown key `pooling`; known here: conv, kernel, stride, dilation, padding, norm, activation, separable, residual, pool, pool_stride, pool_ceil"),
    ("[[block]]\nconv = 8", "line 2: the key `kernel` is missing; add it"),
    ("[[block]]\nconv = 8\nkernel = 5\npadding = 'full'", "line 5: unknown value `full`; known here: same, valid"),
    ("[[block]]\nconv = 8\nkernel = 5\npadding = [1]", "line 5: `padding` is [1], not \"same\", \"valid\" or [before, after]"),
    ("[[block]]\nconv = 8\nkernel = 5\npadding = [1, 2, 3]", "line 5: `padding` is [1, 2, 3], not \"same\", \"valid\" or [before, after]"),
    ("[[block]]\nconv = 8\nkernel = 5\npadding = 2", "line 5: `padding` is 2, not \"same\", \"valid\" or [before, after]"),
    ("[[block]]\nconv = 8\nkernel = 5\nnorm = 'layer'", "line 5: unknown value `layer`; known here: batch, none"),
    ("[[block]]\nconv = 8\nkernel = 5\nseparable = 1", "line 5: `separable` is 1, not true or false"),
    ("[[block]]\nconv = 8\nkernel = 5\nresidul = true", "line 5: unknown key `residul`; did you mean `residual`?"),
    ("[[block]]\nconv = 8\nkernel = 5\nactivation = 'relo'", "line 5: unknown value `relo`; did you mean `relu`?"),
    ("'a`b`c`kernel`' = 3\nCUSTOM", "line 2: unknown key `a`; known here: c, , name, classes, batch_norm, bias, input, blocks, head, block"),
];

/// Descriptions that can be read, of networks that cannot be built.
#[rustfmt::skip]
const IMPOSSIBLE: &[(&str, &str)] = &[
    ("CUSTOM\n[[block]]\nconv = 8\nkernel = 5", "line 3: `blocks` and `[[block]]` both describe the convolutions; keep one of them"),
    ("input = { length = 0 }\nCUSTOM", "line 2: the input's `length` is 0; take between 1 and 16777216"),
    ("input = { channels = 0 }\nCUSTOM", "line 2: the input's `channels` is 0; take between 1 and 16777216"),
    ("input = { sample_rate = 0 }\nCUSTOM", "line 2: the input's `sample_rate` must be between 1 and 768000 Hz, got 0"),
    ("CUSTOM\nhead = { dropout = 1.0 }", "line 3: dropout must be at least 0 and below 1, got 1"),
    ("CUSTOM\nhead = { dropout = -0.1 }", "line 3: dropout must be at least 0 and below 1, got -0.1"),
    ("CUSTOM\nhead = { dropout = nan }", "line 3: dropout must be at least 0 and below 1, got NaN"),
    ("CUSTOM\nhead = { dense = [64, 0] }", "line 3: fc2 has 0 outputs; take between 1 and 16777216"),
    ("CUSTOM\nhead = { dense = [1000000, 1000000] }", "line 3: fc2 would have 1000000000000 weights; a network may have at most 2147483648, so make it smaller"),
    ("CUSTOM\nhead = { dense = [\n 64,\n 99999999999 ] }", "line 5: fc2 has 99999999999 outputs; take between 1 and 16777216"),
    ("CUSTOM\nclasses = 1", "line 3: a network needs at least two classes, got 1"),
    ("CUSTOM\nclasses = 100000000", "line 3: a network can have at most 16777216 classes, got 100000000"),
    ("blocks = { rule = 'custom', start = 0, depth = 8 }", "line 2: conv1 would have no channels with `start = 0`; take more channels or fewer convolutions"),
    ("blocks = { rule = 'custom', start = 32, depth = 0 }", "line 2: `depth` is 0; take between 1 and 1000 convolutions"),
    ("blocks = { rule = 'custom', start = 32, depth = 1000000000000 }", "line 2: `depth` is 1000000000000; take between 1 and 1000 convolutions"),
    ("blocks = { rule = 'shrink', start = 4, depth = 13 }", "line 2: conv13 would have no channels with `start = 4`; take more channels or fewer convolutions"),
    ("blocks = { rule = 'custom', start = 32, depth = 300, pool = 1 }", "line 2: conv237 would have too many channels; take fewer convolutions"),
    ("blocks = { rule = 'custom', start = 32, depth = 12 }", "line 2: pool9: a pooling window of 3 rows is longer than its input of 2 rows; remove a pool, take a smaller one, or take a longer input"),
    ("blocks = { rule = 'custom', start = 32, depth = 8, pool = 0 }", "line 2: pool1: `pool` is 0; take between 1 and 256"),
    ("blocks = { rule = 'custom', start = 32, depth = 8, kernel = 0 }", "line 2: conv1: `kernel` is 0; take between 1 and 16777216"),
    ("blocks = { rule = 'custom', start = 32, depth = 8, kernel = 20000 }", "line 2: conv1: a kernel that spans 20000 rows is longer than the input of 16000 samples; take a smaller kernel"),
    ("blocks = { rule = 'custom', start = 1000000, depth = 2 }", "line 2: conv2 would have 5000000000000 weights; a network may have at most 2147483648, so make it smaller"),
    ("blocks = { rule = 'custom', start = 18446744073709551615, depth = 2 }", "line 2: conv1 would have too many channels; take fewer convolutions"),
    ("blocks = { rule = 'custom', start = 9223372036854775807, depth = 2 }", "line 2: conv1 has 9223372036854775807 channels; take between 1 and 16777216"),
    ("input = { length = 1000 }\nblocks = { rule = 'baseline', start = 8, depth = 5 }", "line 3: conv4: a kernel that spans 25 rows has an input of only 8 rows, padding included; take a smaller kernel, padding = \"same\", less pooling or a longer input"),
    ("[[block]]\nconv = 8\nkernel = 5\nstride = 0", "line 5: conv1: `stride` is 0; take between 1 and 16777216"),
    ("[[block]]\nconv = 8\nkernel = 5\ndilation = 0", "line 5: conv1: `dilation` is 0; take between 1 and 16777216"),
    ("[[block]]\nconv = 8\nkernel = 5\n[[block]]\nconv = 0\nkernel = 5", "line 6: conv2 has 0 channels; take between 1 and 16777216"),
    ("[[block]]\nconv = 8\nkernel = 5\npool_stride = 2", "line 5: pool1: `pool_stride` needs `pool`; add it"),
    ("[[block]]\nconv = 8\nkernel = 5\npool = 2\npool_stride = 0", "line 6: pool1: `pool_stride` is 0; take between 1 and 16777216"),
    ("[[block]]\nconv = 8\nkernel = 5\npool = 20000", "line 5: pool1: `pool` is 20000; take between 1 and 256"),
    ("[[block]]\nconv = 8\nkernel = 16001", "line 4: conv1: a kernel that spans 16001 rows is longer than the input of 16000 samples; take a smaller kernel"),
    ("[[block]]\nconv = 8\nkernel = 100\ndilation = 200", "line 4: conv1: a kernel that spans 19801 rows is longer than the input of 16000 samples; take a smaller kernel"),
    ("[[block]]\nconv = 8\nkernel = 5\ndilation = 9223372036854775807", "line 5: conv1: `dilation` is 9223372036854775807; take between 1 and 16777216"),
    ("[[block]]\nconv = 8\nkernel = 5\npadding = [99999999, 0]", "line 5: conv1: `padding` is 99999999; take at most 16777216"),
    ("[[block]]\nconv = 8\nkernel = 5\npadding = 'valid'\npool = 4000\n[[block]]\nconv = 8\nkernel = 5\npadding = 'valid'", "line 6: pool1: `pool` is 4000; take between 1 and 256"),
    ("input = { length = 16777216, channels = 16777216 }\n[[block]]\nconv = 8\nkernel = 5", "line 2: layer `audio`: its output would need more than 17179869184 numbers; make the layer smaller"),
    ("input = { length = 16777216, channels = 128 }\n[[block]]\nconv = 16777216\nkernel = 16777216", "line 4: conv1 would have 36028797018963968 weights; a network may have at most 2147483648, so make it smaller"),
    ("input = { length = 16777216, channels = 1 }\n[[block]]\nconv = 2000\nkernel = 3", "line 4: layer `conv1`: its output would need more than 17179869184 numbers; make the layer smaller"),
    ("[[block]]\nconv = 16777216\nkernel = 1\nstride = 16777216\n[[block]]\nconv=16777216\nkernel=1", "line 7: conv2 would have 281474976710656 weights; a network may have at most 2147483648, so make it smaller"),
    ("[[block]]\nconv = 1\nkernel = 5\nstride = 2\nresidual = true", "line 6: conv1: `residual` needs stride 1, and `stride` is 2; leave it out, or remove `residual`"),
    ("[[block]]\nconv = 8\nkernel = 5\n[[block]]\nconv = 9\nkernel = 3\nseparable = true\nresidual = true", "line 9: conv2: `residual` needs as many channels as the block's input has, which are 8, and `conv` is 9; take conv = 8, or remove `residual`"),
    ("[[block]]\nconv = 1\nkernel = 5\npadding = 'valid'\nresidual = true", "line 6: conv1: `residual` needs a result as long as the block's input of 16000 rows, and it has 15996; take padding = \"same\", or remove `residual`"),
    ("[[block]]\nconv = 1\nkernel = 5\npadding = [9, 9]\nresidual = true", "line 6: conv1: `residual` needs a result as long as the block's input of 16000 rows, and it has 16014; take padding = \"same\", or remove `residual`"),
    ("[[block]]\nconv = 8\nkernel = 0\nseparable = true", "line 4: conv1: `kernel` is 0; take between 1 and 16777216"),
    ("[[block]]\nconv = 8\nkernel = 16001\nseparable = true", "line 4: conv1: a kernel that spans 16001 rows is longer than the input of 16000 samples; take a smaller kernel"),
    ("input = { length = 100000, channels = 100000 }\n[[block]]\nconv = 8\nkernel = 99999\nseparable = true", "line 5: depthwise1 would have 9999900000 weights; a network may have at most 2147483648, so make it smaller"),
    ("block = []", "the network has no convolutions; add `blocks = { rule = .. }` or one `[[block]]` for each convolution"),
];

#[test]
fn bad_specs_are_refused_in_a_sentence_with_the_line() {
    for (body, sentence) in UNREADABLE.iter().chain(IMPOSSIBLE) {
        let text = format!("name = 'net'\n{}\n", body.replace("CUSTOM", CUSTOM));
        let error = NetworkSpec::parse(&text, "net.toml").unwrap_err().to_string();
        let expected = match sentence.starts_with("line ") {
            true => format!("net.toml, {sentence}"),
            false => format!("net.toml: {sentence}"),
        };
        assert_eq!(error, expected, "{text}");
    }
}

#[test]
fn bad_names_and_broken_texts_are_refused_too() {
    let refused = |text: &str| NetworkSpec::parse(&text.replace("CUSTOM", CUSTOM), "net.toml").unwrap_err().to_string();
    assert_eq!(refused(""), "net.toml: the key `name` is missing; add it");
    assert_eq!(refused("CUSTOM"), "net.toml: the key `name` is missing; add it");
    let sentence = "`name` must have 1 to 64 letters, digits, `-`, `_`, `+` or `.`, and not begin with a dot";
    for name in ["", ".", "../x", "a/b", "a b", "x\\u0000", &"x".repeat(65)] {
        assert_eq!(refused(&format!("CUSTOM\nname = \"{name}\"")), format!("net.toml, line 2: {sentence}"));
    }
    assert_eq!(
        refused("name = net"),
        "net.toml, line 1: this is not TOML: invalid float, expected `nan` (strings need quotes)"
    );
    assert!(refused("RIFF....WAVE").starts_with("net.toml, line 1: this is not TOML: "));
}

#[test]
fn numbers_beyond_all_bounds_are_refused_from_rust_too() {
    let huge = usize::MAX;
    let block = |change: fn(&mut Block)| {
        let mut block = Block::new(8, 5);
        change(&mut block);
        NetworkSpec { block: vec![block], ..NetworkSpec::default() }
    };
    let rule =
        |start, depth| NetworkSpec { blocks: Some(Rule::new(Family::Steep, start, depth)), ..NetworkSpec::default() };
    let good = rule(8, 3);
    let specs = [
        rule(huge, 1),
        rule(8, huge),
        block(|b| b.conv = usize::MAX),
        block(|b| b.kernel = usize::MAX),
        block(|b| b.stride = usize::MAX),
        block(|b| b.dilation = usize::MAX),
        block(|b| b.padding = Padding::Explicit(usize::MAX, usize::MAX)),
        block(|b| b.pool = Some(usize::MAX)),
        block(|b| (b.pool, b.pool_stride) = (Some(2), Some(usize::MAX))),
        block(|b| (b.pool, b.pool_ceil) = (Some(usize::MAX), true)),
        block(|b| (b.kernel, b.separable) = (usize::MAX, true)),
        block(|b| (b.dilation, b.separable, b.residual) = (usize::MAX, true, true)),
        block(|b| (b.stride, b.residual) = (usize::MAX, true)),
        NetworkSpec { block: vec![Block::new(8, 5); 100_000], ..NetworkSpec::default() },
        NetworkSpec { input: Input { length: huge, ..Input::default() }, ..good.clone() },
        NetworkSpec { input: Input { channels: huge, ..Input::default() }, ..good.clone() },
        NetworkSpec { head: Head { dense: vec![huge], ..Head::default() }, ..good.clone() },
        NetworkSpec { head: Head { dense: vec![1; 100_000], ..Head::default() }, ..good.clone() },
        NetworkSpec { classes: Some(huge), ..good.clone() },
    ];
    for spec in specs {
        assert!(spec.check().is_err(), "{:?} {:?} {:?}", spec.input, spec.head.dense.len(), spec.blocks);
    }
    good.check().unwrap();
}
