//! stapes trains and runs small networks that hear words in the raw waveform.
//!
//! The way down is one: a network is recorded as a [`graph::Graph`] of [`ops`], the graph is lowered to a
//! [`graph::Plan`] (steps, buffers, order), and [`exec::Cpu`] runs the plan. The backward pass follows from the graph. A
//! plan has all its memory before the first step; a step allocates nothing and cannot fail.
//!
//! Two ways in:
//! - **Networks that hear words**: [`nn::NetworkSpec`] (TOML), [`data::Dataset`] (recordings), [`train::Session`] (a run
//!   with its folder) or [`train::Trainer`] (step by step), [`train::Recogniser`] (evaluation, prediction).
//!   `examples/train_words.rs` shows them.
//! - **Networks of your own ops**, as here; `examples/define_network.rs` has more of it.
//!
//! ```
//! use stapes::base::{Shape, rng::{Key, Stream}};
//! use stapes::exec::Cpu;
//! use stapes::graph::{Graph, Keep, Plan, PlanOptions, Work};
//! use stapes::nn::{Initialisation, initialise};
//! use stapes::ops::{Conv1d, Linear, MaxPool1d, Relu, SoftmaxCrossEntropy};
//! use stapes::simd::Isa;
//! use stapes::train::{Weights, gradcheck::check_graph};
//!
//! // The network: shapes are of one sample, length by channels.
//! let mut g = Graph::new();
//! let audio = g.input("audio", Shape::new(60, 1))?;
//! let label = g.input("label", Shape::new(1, 1))?;
//! let h = g.add("conv1", Conv1d::new(8, 5), &[audio])?; // 8 channels, 5 taps
//! let relu = g.add("relu1", Relu, &[h])?;
//! let h = g.add("pool1", MaxPool1d::new(3), &[relu])?;
//! let logits = g.add("fc", Linear { out: 2, bias: true }, &[h])?;
//! let loss = g.add("loss", SoftmaxCrossEntropy, &[logits, label])?;
//!
//! // A plan for batches of 4 that keeps every activation and every gradient, and one run of it.
//! let noise = Key::new(1, Stream::Case);
//! let sound: Vec<f32> = (0..4 * 60).map(|i| noise.normal(i) as f32).collect();
//! let labels = vec![0.0, 1.0, 0.0, 1.0];
//! let mut weights = Weights::zeros(&g);
//! initialise(&g, Initialisation::HeNormal, 1, &mut weights.params, &mut weights.state);
//! let plan = Plan::new(&g, &PlanOptions::new(4, Work::Train(loss)).keep(Keep::Everything))?;
//! let mut cpu = Cpu::new(plan.into(), Isa::best());
//! cpu.prepare(&weights.params, &weights.state);
//! cpu.run(&weights.params, &mut weights.state, &[&sound, &labels], noise);
//!
//! assert!(cpu.loss() > 0.0);
//! assert_eq!(cpu.activation(relu).unwrap().len(), 4 * 60 * 8); // [n, l, c]
//! assert_eq!(cpu.gradient(logits).unwrap().len(), 4 * 2);
//! assert_eq!(cpu.parameter_gradients().len(), g.params_len());
//!
//! // The gradients against central differences, in double precision, at 10 places a tensor; labels stay as they are.
//! let wide = |numbers: &[f32]| numbers.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
//! let inputs = [wide(&sound), wide(&labels)];
//! for check in check_graph(&g, loss, 4, (&wide(&weights.params), &inputs, &[1]), 10) {
//!     assert!(check.error < 1e-5, "the gradient of {}", check.tensor);
//! }
//! # Ok::<(), stapes::graph::GraphError>(())
//! ```
//!
//! Rooms stand on floors, and import only from those below: [`base`]; [`simd`] and [`data`]; [`ops`]; [`graph`];
//! [`exec`]; [`nn`] and [`optim`]; [`train`]; [`cli`], which is the program. `ARCHITECTURE.md` in the repository says more.

// The documentation links to items of all features.
#![cfg_attr(not(all(feature = "cli", feature = "cuda")), allow(rustdoc::broken_intra_doc_links))]

pub mod base;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "audio")]
pub mod data;
pub mod exec;
pub mod graph;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod simd;
pub mod train;
