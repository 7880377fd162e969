//! stapes trains and runs small 1-D convolutional networks on raw audio, with kernels of its own for AVX2, AVX-512 and NVIDIA GPUs.
//!
//! The crate is a program (feature `cli`) and a library. There are two ways to use the library.
//!
//! **A graph of operations and arrays in memory.** A [`graph::Graph`] is built from [`ops`], or from operations of your own
//! ([`ops::Op`]); a [`train::Trainer`] trains it, and a [`train::Predictor`] runs it:
//!
//! ```
//! use stapes::prelude::*;
//!
//! // Shapes are those of one sample: length by channels.
//! let mut graph = Graph::new();
//! let audio = graph.input("audio", Shape::new(60, 1))?;
//! let labels = graph.input("labels", Shape::new(1, 1))?; // class numbers
//! let h = graph.add("conv1", Conv1d::new(8, 5), &[audio])?; // 8 channels, 5 taps
//! let h = graph.add("relu1", Relu, &[h])?;
//! let h = graph.add("pool1", MaxPool1d::new(3), &[h])?;
//! let logits = graph.add("fc1", Linear { out: 2, bias: true }, &[h])?;
//! let loss = graph.add("loss", SoftmaxCrossEntropy::default(), &[logits, labels])?;
//! let model = Model::new(graph, logits, loss)?;
//!
//! // Two classes: a slow and a fast wave.
//! let wave = |class: usize| (0..60).map(move |t| (t as f32 * [0.2, 1.1][class]).sin());
//! let inputs: Vec<f32> = (0..8).flat_map(|i| wave(i % 2)).collect(); // [n, length, channels]
//! let targets: Vec<f32> = (0..8).map(|i| (i % 2) as f32).collect();
//!
//! let mut trainer = Trainer::builder(model.clone()).batch(8).seed(1).build()?;
//! let first = trainer.step(&inputs, &targets)?;
//! for _ in 0..20 {
//!     trainer.step(&inputs, &targets)?;
//! }
//! assert!(trainer.step(&inputs, &targets)?.loss < first.loss);
//!
//! let mut predictor = Predictor::builder(model, trainer.weights().clone()).build()?;
//! let samples: Vec<f32> = wave(1).collect();
//! assert_eq!(predictor.predict(&samples)?[0].class, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Networks and recordings**, as the program uses them: [`nn::NetworkSpec`] describes a network in TOML, `data::Dataset` reads recordings,
//! and `train::Session` runs a training and keeps its folder (feature `audio`); [`train::Bundle`] loads the result. A
//! [`nn::Network`] is a graph too, and `Trainer` and `Predictor` take it as it is.
//!
//! The `examples` folder has a program for each task:
//! - `embed_recogniser` loads trained weights once and recognises arrays of samples as they arrive.
//! - `train_on_arrays` trains a network on arrays in memory and recognises new arrays with it.
//! - `train_words` trains, evaluates and uses a network for words, with recordings (feature `audio`).
//! - `train_on_npz` trains on signals of several channels from a file of arrays (feature `audio`).
//! - `own_operation` defines an operation outside the library and trains a network that contains it.
//! - `recognise_stream` recognises words in a stream of sound with [`Recogniser`] (feature `listen`).
//! - `read_gradients` reads every activation and gradient of a step.
//! - `lower_precision` trains with factors rounded as on the tensor cores of a GPU (feature `audio`).
//!
//! `data::read_clip` decodes a sound file for [`train::Predictor::predict`] (feature `audio`).
//!
//! # How it works
//! A graph is lowered to a [`graph::Plan`] for one batch size and purpose: a list of steps, backward passes included, and an offset for
//! every buffer. An executor ([`exec::Cpu`]; with the feature `cuda` also a GPU) allocates the memory of the plan and runs the steps.
//! Building can fail; a step on the CPU allocates nothing and cannot fail. Results do not depend on the number of threads.
//!
//! Modules have levels and import from lower levels only: [`base`]; [`simd`] and `data`; [`ops`]; [`graph`]; [`exec`]; [`nn`] and [`optim`];
//! [`train`]; `cli`. `ARCHITECTURE.md` in the repository describes them.
//!
//! # Features
//! - `cli` (default): the program. A library needs none of its dependencies: use `default-features = false`.
//! - `audio` (part of `cli`): reading recordings, and training runs on them: `data`, `train::Session`.
//! - `listen` (part of `audio`): words in a stream of samples of any rate, [`listen`].
//! - `classify` (default): other classifiers on the activations of a layer, `train::classify`.
//! - `explain` (default): what a network has learned, [`explain`].
//! - `export` (default): trained networks as files for other programs, [`export`].
//! - `cuda` (default): NVIDIA GPUs. The driver is looked for at run time, so a machine without a GPU needs nothing.
//! - `mic`: microphones in `stapes listen` and `stapes record`. On Linux it needs the headers of ALSA.

// The documentation links to items of all features.
#![cfg_attr(
    not(all(feature = "cli", feature = "cuda", feature = "explain", feature = "export")),
    allow(rustdoc::broken_intra_doc_links)
)]

pub mod base;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "audio")]
pub mod data;
pub mod exec;
#[cfg(feature = "explain")]
pub mod explain;
#[cfg(feature = "export")]
pub mod export;
pub mod figure;
pub mod graph;
#[cfg(feature = "listen")]
pub mod listen;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod simd;
#[cfg(feature = "audio")]
pub mod study;
pub mod train;

#[cfg(feature = "listen")]
pub use listen::Recogniser;

/// The types that most programs need: `use stapes::prelude::*;`.
pub mod prelude {
    pub use crate::base::{FULL_SCALE, Shape};
    pub use crate::exec::Device;
    pub use crate::graph::{Graph, GraphError, Keep, NodeId};
    pub use crate::nn::{Initialisation, Network, NetworkSpec, Objective};
    pub use crate::ops::{
        Add, AvgPool, BatchNorm, Conv1d, ConvChoice, DepthwiseConv1d, Dropout, Linear, MaxPool1d, Op, Over, Padding,
        Relu, ShapeError, SoftmaxCrossEntropy,
    };
    pub use crate::optim::{AdamSettings, Schedule, ScheduleKind};
    pub use crate::train::{
        Bundle, Model, Prediction, Predictor, Step, TrainError, Trainer, Weights, Which, load_weights, save_weights,
    };
}
