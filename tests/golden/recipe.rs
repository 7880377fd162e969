//! Ten training steps with all that a recipe adds to Adam: shares of classes as labels, label smoothing, clipping of the gradient,
//! weight decay, a schedule and a moving average. PyTorch's figures, plain loops in double precision, and the trainer agree.

use crate::fixture::{ReferenceAdam, TensorFile, arena_order, difference, narrow, widen};
use serde_json::Value;
use stapes::base::Shape;
use stapes::base::rng::{Key, Stream};
use stapes::exec::Reference;
use stapes::graph::{Graph, NodeId, Parameter};
use stapes::ops::{BatchNorm, Conv1d, Linear, Over, Padding, Relu, SoftmaxCrossEntropy};
use stapes::optim::{AdamSettings, Schedule, ScheduleKind};
use stapes::simd::Isa;
use stapes::train::{Model, Trainer, Weights};

/// Largest accepted difference of the trainer from PyTorch, relative to the largest value of a tensor.
const TOLERANCE_F32: f64 = 2e-6;
/// Of the loops in double precision: the rounding of ten steps.
const TOLERANCE_F64: f64 = 1e-12;

/// The fixture, and the network that it is about.
struct Recipe {
    file: TensorFile,
    settings: Value,
    model: Model,
    steps: usize,
    /// Samples in a step.
    n: usize,
}

/// What ten steps give. Tensors are in the order of the arenas.
#[derive(Default)]
struct Outcome {
    losses: Vec<f64>,
    norms: Vec<f64>,
    correct: Vec<f64>,
    params: Vec<f64>,
    state: Vec<f64>,
    average_params: Vec<f64>,
    average_state: Vec<f64>,
}

impl Recipe {
    fn read() -> Recipe {
        let file = TensorFile::read("recipe.safetensors");
        let settings: Value = serde_json::from_str(&file.metadata["settings"]).unwrap();
        let (x, labels) = (&file.tensors["x"].shape, &file.tensors["labels"].shape);
        let (length, classes) = (x[3], labels[2]);
        let channels = file.tensors["before.conv1.weight"].shape[0];
        let mut graph = Graph::new();
        let audio = graph.input("audio", Shape::new(length, 1)).unwrap();
        let labels = graph.input("labels", Shape::new(1, classes)).unwrap();
        let conv = Conv1d { c_out: channels, k: 5, stride: 1, dilation: 1, padding: Padding::Same, bias: false };
        let h = graph.add("conv1", conv, &[audio]).unwrap();
        let h = graph.add("bn1", BatchNorm::new(Over::Channels), &[h]).unwrap();
        let h = graph.add("relu1", Relu, &[h]).unwrap();
        let logits = graph.add("fc1", Linear { out: classes, bias: true }, &[h]).unwrap();
        let smoothing = settings["smoothing"].as_f64().unwrap() as f32;
        let loss = graph.add("loss", SoftmaxCrossEntropy { smoothing }, &[logits, labels]).unwrap();
        let model = Model::new(graph, logits, loss).unwrap();
        Recipe { steps: x[0], n: x[1], file, settings, model }
    }

    fn setting(&self, name: &str) -> f64 {
        self.settings[name].as_f64().unwrap()
    }

    /// Inputs and labels of a step.
    fn batch(&self, step: usize) -> [&[f64]; 2] {
        ["x", "labels"].map(|name| {
            let all = &self.file.tensors[name].values;
            let len = all.len() / self.steps;
            &all[step * len..][..len]
        })
    }

    /// The tensors `KIND.NAME` of the fixture in the order of the arenas of parameters and of state; gaps are 0.
    fn arenas(&self, kind: &str) -> [Vec<f64>; 2] {
        let graph = self.model.graph();
        let filled = |len: usize, parameters: Vec<Parameter>| {
            let mut arena = vec![0.0; len];
            for p in parameters {
                let values = &self.file.tensors[&format!("{kind}.{}", p.name)].values;
                arena[p.offset..][..p.len].copy_from_slice(&arena_order(p.layout, values));
            }
            arena
        };
        [filled(graph.params_len(), graph.parameters()), filled(graph.state_len(), graph.states())]
    }

    /// PyTorch's figures.
    fn expected(&self) -> Outcome {
        let list = |name: &str| self.file.tensors[name].values.clone();
        let [params, state] = self.arenas("after");
        let [average_params, average_state] = self.arenas("average");
        let (losses, norms, correct) = (list("losses"), list("norms"), list("correct"));
        Outcome { losses, norms, correct, params, state, average_params, average_state }
    }

    /// The rate of a step by the formulas, written again.
    fn rate(&self, step: usize) -> f64 {
        let (peak, end, last) = (self.setting("peak"), self.setting("end"), (self.steps - 1) as f64);
        let warm = self.setting("warmup") * self.steps as f64;
        let (rising, since) = ((step + 1) as f64 / warm, step as f64 - (warm - 1.0));
        let cosine = (std::f64::consts::PI * since / (last - (warm - 1.0))).cos();
        if rising < 1.0 { peak * rising } else { peak * (end + (1.0 - end) * (1.0 + cosine) / 2.0) }
    }

    /// The steps in plain loops in double precision, with the gradients of the references.
    fn by_loops(&self) -> Outcome {
        let graph = self.model.graph();
        let [mut params, mut state] = self.arenas("before");
        let [mut average_params, mut average_state] = [params.clone(), state.clone()];
        let mut adam = ReferenceAdam::new(params.len(), 0.0, (0.9, 0.999), 1e-8);
        let mut outcome = Outcome::default();
        for step in 0..self.steps {
            let inputs = self.batch(step).map(<[f64]>::to_vec);
            let draw = Key::new(1, Stream::Dropout);
            let mut run = Reference::forward(graph, self.n, &params, &mut state, &inputs, draw);
            run.backward(&params, self.model.loss());
            outcome.losses.push(run.loss(self.model.loss()));
            let norm = run.parameter_gradients.iter().map(|g| g * g).sum::<f64>().sqrt();
            outcome.norms.push(norm);
            let clip = (self.setting("clip_norm") / (norm + 1e-6)).min(1.0);
            let gradient: Vec<f64> = run.parameter_gradients.iter().map(|g| clip * g).collect();
            adam.lr = self.rate(step);
            for p in graph.parameters().iter().filter(|p| ["conv1.weight", "fc1.weight"].contains(&p.name.as_str())) {
                let factor = 1.0 - adam.lr * self.setting("weight_decay");
                params[p.offset..][..p.len].iter_mut().for_each(|w| *w *= factor);
            }
            adam.step(&mut params, &gradient);
            let decay = f64::min(self.setting("average"), (1 + step) as f64 / (10 + step) as f64);
            let average = |average: &mut [f64], now: &[f64]| {
                average.iter_mut().zip(now).for_each(|(a, w)| *a = decay * *a + (1.0 - decay) * w);
            };
            average(&mut average_params, &params);
            average(&mut average_state, &state);
            outcome.correct.push(self.correct(&run.activations, &inputs[1]));
        }
        Outcome { params, state, average_params, average_state, ..outcome }
    }

    fn correct(&self, activations: &[Vec<f64>], labels: &[f64]) -> f64 {
        let classes = self.model.classes();
        let node: NodeId = self.model.logits();
        let best = |shares: &[f64]| (0..classes).rev().max_by(|&a, &b| shares[a].total_cmp(&shares[b])).unwrap();
        let pairs = activations[node.index()].chunks_exact(classes).zip(labels.chunks_exact(classes));
        pairs.filter(|(logits, label)| best(logits) == best(label)).count() as f64
    }

    fn by_trainer(&self, isa: Isa, threads: usize) -> Outcome {
        let setting = |name: &str| self.setting(name) as f32;
        let schedule =
            Schedule { kind: ScheduleKind::Cosine, warmup: self.setting("warmup"), end: self.setting("end") };
        let adam = AdamSettings {
            weight_decay: setting("weight_decay"),
            clip_norm: setting("clip_norm"),
            ..AdamSettings::default()
        };
        let [params, state] = self.arenas("before").map(|values| narrow(&values));
        let weights = Weights { params, state };
        let train = || {
            let trainer = Trainer::builder(self.model.clone()).batch(self.n).adam(adam).weights(weights);
            let mut trainer = trainer.average(setting("average")).device(isa).build().unwrap();
            let mut outcome = Outcome::default();
            for step in 0..self.steps {
                let [inputs, labels] = self.batch(step).map(narrow);
                trainer.set_lr(schedule.rate(setting("peak"), step as u64, self.steps as u64));
                let done = trainer.step(&inputs, &labels).unwrap();
                outcome.losses.push(done.loss);
                outcome.correct.push(done.correct as f64);
                let gradient = trainer.gradients().unwrap();
                outcome.norms.push(widen(&gradient).iter().map(|g| g * g).sum::<f64>().sqrt());
            }
            let (weights, average) = (trainer.weights(), trainer.averaged().unwrap());
            let [params, state, average_params, average_state] =
                [&weights.params, &weights.state, &average.params, &average.state].map(|values| widen(values));
            Outcome { params, state, average_params, average_state, ..outcome }
        };
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(train)
    }
}

impl Outcome {
    fn figures(&self) -> [(&'static str, &[f64]); 7] {
        [
            ("losses", &self.losses),
            ("norms of the gradient", &self.norms),
            ("correct", &self.correct),
            ("parameters", &self.params),
            ("state", &self.state),
            ("average of the parameters", &self.average_params),
            ("average of the state", &self.average_state),
        ]
    }

    /// The largest difference of any figure.
    fn differs(&self, expected: &Outcome) -> (f64, &'static str) {
        let pairs = self.figures().into_iter().zip(expected.figures());
        let differences = pairs.map(|((name, got), (_, expected))| (difference(got, expected), name));
        differences.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
    }
}

#[test]
fn the_schedule_has_pytorchs_rates() {
    let recipe = Recipe::read();
    let expected = &recipe.file.tensors["rates"].values;
    let (warmup, end) = (recipe.setting("warmup"), recipe.setting("end"));
    let schedule = Schedule { kind: ScheduleKind::Cosine, warmup, end };
    for (step, &expected) in expected.iter().enumerate() {
        let rate = schedule.rate(recipe.setting("peak") as f32, step as u64, recipe.steps as u64);
        approx::assert_relative_eq!(f64::from(rate), expected, max_relative = 1e-7);
        approx::assert_relative_eq!(recipe.rate(step), expected, max_relative = 1e-12);
    }
}

#[test]
fn loops_in_double_precision_take_pytorchs_steps() {
    let recipe = Recipe::read();
    let (d, figure) = recipe.by_loops().differs(&recipe.expected());
    println!("largest relative difference {d:.1e}, of the {figure}");
    assert!(d < TOLERANCE_F64, "the {figure} differ by {d:.1e}");
}

#[test]
fn the_trainer_takes_pytorchs_steps_on_any_number_of_threads() {
    let recipe = Recipe::read();
    let expected = recipe.expected();
    let clip = recipe.setting("clip_norm");
    let clipped = expected.norms.iter().filter(|&&norm| norm > clip).count();
    assert!((1..recipe.steps).contains(&clipped), "some steps are clipped, and some are not");
    for isa in Isa::all() {
        let outcome = recipe.by_trainer(isa, 1);
        let (d, figure) = outcome.differs(&expected);
        println!("{}: largest relative difference {d:.1e}, of the {figure}", isa.name());
        assert!(d < TOLERANCE_F32, "{}: the {figure} differ by {d:.1e}", isa.name());
        for threads in [2, 3, 8] {
            for ((name, one), (_, more)) in outcome.figures().into_iter().zip(recipe.by_trainer(isa, threads).figures())
            {
                assert!(one == more, "{}: the {name} depend on the threads: 1 and {threads}", isa.name());
            }
        }
    }
}
