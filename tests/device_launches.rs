//! What the ops ask of a GPU against what the kernels' PTX offers, without a GPU: names, arguments, limits.
#![cfg(feature = "cuda")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stapes::base::Shape;
use stapes::exec::cuda::ptx::{Entry, Parameter, images};
use stapes::graph::{Graph, Keep, LaunchGroup, NodeId, Plan, PlanOptions, Work};
use stapes::nn::Network;
use stapes::ops::device::{Argument, Launch, Products};
use stapes::ops::{ALL, Add, Conv1d, WeightedSum, case::Case};

const PRODUCTS: [Products; 4] = [Products::Fma, Products::Split, Products::Tf32, Products::Bf16];
/// Dynamic shared memory that every chip gives a block: 64 KB where there are no matrix units, else 99 KB.
const SHARED: [u32; 2] = [64 << 10, 99 << 10];

fn entries() -> BTreeMap<&'static str, Vec<Parameter>> {
    let all = images().iter().flat_map(|image| image.entries());
    all.map(|Entry { name, parameters }| (name, parameters)).collect()
}

/// The launches of the case's op, in training and in inference.
fn launches(case: &Case, products: Products) -> Vec<Launch> {
    let mut graph = Graph::new();
    let inputs = case.inputs.iter().enumerate();
    let x: Vec<NodeId> = inputs.map(|(i, input)| graph.input(&format!("x{i}"), input.shape).unwrap()).collect();
    let y = graph.add_shared("op", case.op.clone(), &x).unwrap();
    let w = graph.input("w", graph.shape(y)).unwrap();
    let loss = graph.add("loss", WeightedSum, &[y, w]).unwrap();
    let train = PlanOptions::new(case.n, Work::Train(loss)).keep(Keep::Everything);
    let plans = [train, PlanOptions::new(case.n, Work::Infer(y))];
    plans.iter().flat_map(|options| of_plan(&Plan::new(&graph, &options.clone().device(products)).unwrap())).collect()
}

fn of_plan(plan: &Plan) -> Vec<Launch> {
    let passes = plan.nodes.iter().filter_map(|node| node.passes.as_ref());
    passes.flat_map(|p| [&p.prepare, &p.forward, &p.backward, &p.finish]).flatten().cloned().collect()
}

/// What is wrong with a launch, if anything.
fn fault(launch: &Launch, entries: &BTreeMap<&str, Vec<Parameter>>, products: Products) -> Option<String> {
    let Some(parameters) = entries.get(launch.kernel.as_str()) else {
        return Some("no PTX has it".into());
    };
    let kinds = launch.arguments.iter().map(|argument| match argument {
        Argument::At(..) | Argument::Null => Parameter::Address,
        Argument::Int(_) | Argument::Node => Parameter::Int,
        Argument::Float(_) => Parameter::Float,
    });
    let kinds: Vec<Parameter> = kinds.collect();
    if kinds != *parameters {
        return Some(format!("it takes {parameters:?} and is given {kinds:?}"));
    }
    let many = entries.get(format!("{}_many", launch.kernel).as_str());
    if launch.many && many != Some(&vec![Parameter::Address, Parameter::Int]) {
        return Some("it has no form for many".into());
    }
    let most = SHARED[usize::from(products != Products::Fma)];
    let [x, y, z] = launch.grid;
    match launch {
        _ if launch.shared_bytes > most => {
            Some(format!("{} bytes of shared memory, more than {most}", launch.shared_bytes))
        }
        _ if launch.many && (launch.shared_bytes > 0 || (y, z) != (1, 1)) => Some("many of them cannot be one".into()),
        _ if launch.block == 0 || launch.block > 1024 => Some(format!("{} threads", launch.block)),
        _ if x == 0 || x > i32::MAX as u32 || y == 0 || y > 65_535 || z == 0 || z > 65_535 => {
            Some(format!("a grid of {x} x {y} x {z}"))
        }
        _ => None,
    }
}

#[test]
fn every_launch_of_every_case_is_one_of_the_kernels() {
    let entries = entries();
    assert!(entries.len() > 20, "the PTX is read: {} kernels", entries.len());
    let mut wrong = BTreeSet::new();
    let mut seen = 0;
    for products in PRODUCTS {
        for case in ALL.iter().flat_map(|family| (family.cases)()) {
            for launch in launches(&case, products) {
                seen += 1;
                if let Some(fault) = fault(&launch, &entries, products) {
                    wrong.insert(format!("{} ({}): {fault}", launch.kernel, case.op.name()));
                }
            }
        }
    }
    assert!(seen > 1000, "{seen} launches");
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn built_in_networks_can_be_launched_in_large_batches() {
    let entries = entries();
    let of_study = [("custom32-8", None), ("custom128-9", Some("bn")), ("baseline", None), ("vgg64-16", None)];
    for (name, variant) in of_study.into_iter().chain([("recommended-s", None), ("recommended-m", None)]) {
        let spec = stapes::nn::resolve(name, variant.map(|v| v.parse().unwrap())).unwrap();
        let network = Arc::new(Network::build(&spec, 16).unwrap());
        for products in PRODUCTS {
            let options = PlanOptions::new(256, Work::Train(network.loss)).device(products);
            let plan = Plan::new(&network.graph, &options).unwrap();
            let all = of_plan(&plan);
            let faults: Vec<_> = all.iter().filter_map(|launch| fault(launch, &entries, products)).collect();
            assert!(faults.is_empty(), "{name}: {faults:?}");
            let flops: u64 = all.iter().map(|launch| launch.flops).sum();
            let asked: u64 = plan.rows().iter().map(|row| 2 * row.macs).sum::<u64>() * 256;
            let share = flops as f64 / asked as f64;
            assert!((0.95..1.2).contains(&share), "{name}: {flops} operations in launches, {asked} in the plan");
        }
    }
}

/// The kernels of a whole plan, as they are launched: of several launches of a kernel in a row, the form that does the work of many.
fn launched(network: &Network, n: usize, products: Products) -> BTreeSet<String> {
    let train = PlanOptions::new(n, Work::Train(network.loss)).device(products);
    let infer = PlanOptions::new(n, Work::Infer(network.logits)).device(products);
    let plans = [train, infer].map(|options| Plan::new(&network.graph, &options).unwrap());
    let all = plans.iter().flat_map(|plan| {
        let passes = [plan.preparing_launches(), plan.launches(), plan.finishing_launches()];
        passes.into_iter().flat_map(LaunchGroup::all).map(|group| group.kernel()).collect::<Vec<_>>()
    });
    all.collect()
}

/// A network that is too large for the cases of single ops: wide tiles of one and three taps, and a gradient that is the sum of two.
fn wide() -> (Graph, NodeId) {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(2000, 8)).unwrap();
    let first = graph.add("conv1", Conv1d::new(64, 1), &[x]).unwrap();
    let second = graph.add("conv2", Conv1d::new(64, 3), &[first]).unwrap();
    let third = graph.add("conv3", Conv1d::new(64, 1), &[first]).unwrap();
    let sum = graph.add("sum", Add, &[second, third]).unwrap();
    let w = graph.input("w", graph.shape(sum)).unwrap();
    let loss = graph.add("loss", WeightedSum, &[sum, w]).unwrap();
    (graph, loss)
}

/// Launched by the executor itself, at the beginning and the end of a step of training.
const OF_A_STEP: [&str; 7] = ["adam", "adamw", "average", "clip_scale", "clips_to_f32", "sum_of_squares", "tally"];

#[test]
fn every_kernel_is_launched_by_some_plan() {
    let mut kernels: BTreeSet<String> = OF_A_STEP.map(String::from).into();
    for products in PRODUCTS {
        let cases = ALL.iter().flat_map(|family| (family.cases)());
        kernels.extend(cases.flat_map(|case| launches(&case, products)).map(|launch| launch.kernel));
        let (graph, loss) = wide();
        let options = PlanOptions::new(64, Work::Train(loss)).device(products);
        let groups = LaunchGroup::all(Plan::new(&graph, &options).unwrap().launches());
        kernels.extend(groups.iter().map(LaunchGroup::kernel));
        for (name, variant) in [("custom32-8", None), ("custom32-8", Some("bn"))] {
            let spec = stapes::nn::resolve(name, variant.map(|v| v.parse().unwrap())).unwrap();
            kernels.extend(launched(&Network::build(&spec, 16).unwrap(), 32, products));
        }
    }
    let unused: Vec<&str> = entries().into_keys().filter(|&entry| !kernels.contains(entry)).collect();
    assert!(unused.is_empty(), "no plan launches {unused:?}");
    let executor = include_str!("../src/exec/cuda/launches.rs");
    for name in OF_A_STEP {
        assert!(executor.contains(&format!("\"{name}\"")), "the executor does not launch {name}");
    }
}
