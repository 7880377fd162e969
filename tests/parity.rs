//! Every op on every case and instruction set against its reference in double precision: output, state, and the
//! gradients of inputs and parameters, with NaN in every buffer that a pass may not rely on.

use stapes::base::{
    Shape,
    aligned::Aligned,
    rng::{Key, Stream},
};
use stapes::exec::conformance::{conformance, noise, tensors};
use stapes::exec::{Cpu, Device, Errors, Reference, SingleOp};
use stapes::graph::{Graph, Keep, NodeId, Order, Plan, PlanOptions, Work};
use stapes::ops::case::{Case, Fill, Input};
use stapes::ops::conv_block::Norm;
use stapes::ops::device::Precision;
use stapes::ops::op::{
    Backward, BatchGradient, Forward, MAX_INPUTS, Merge, Pass, Phase, PlannedOp, ReferenceBackward, ReferenceForward,
    Spec, TensorRanges, TensorsMut,
};
use stapes::ops::{ALL, BatchNorm, Conv1d, ConvBlock, ConvChoice, MaxPool1d, Op, Over, Padding, WeightedSum};
use stapes::simd::Isa;
use std::sync::Arc;

/// What an op makes of a case: from its kernels or from its reference.
struct Results {
    y: Vec<f64>,
    state: Vec<f64>,
    dx: Vec<Vec<f64>>,
    dparams: Vec<f64>,
}

/// A case with all that its passes start from, rounded to `f32`.
struct Setting<'c> {
    case: &'c Case,
    spec: Spec,
    shapes: Vec<Shape>,
    x: Vec<Vec<f64>>,
    dy: Vec<f64>,
    params: Vec<f64>,
    state: Vec<f64>,
    /// The tensors in `params` and in `state`.
    own: [TensorRanges; 2],
    draw: Key,
}

impl<'c> Setting<'c> {
    fn new(case: &'c Case) -> Setting<'c> {
        let shapes: Vec<Shape> = case.inputs.iter().map(|input| input.shape).collect();
        let spec = case.op.spec(&shapes).unwrap();
        Setting {
            x: (0..shapes.len()).map(|i| case.input(i)).collect(),
            dy: noise(case.n * spec.y.size(), 1),
            params: tensors(&spec.params, 2),
            state: tensors(&spec.state, 3),
            own: [&spec.params, &spec.state].map(|tensors| TensorRanges::new(0, tensors)),
            // What `Cpu` makes of the key of a step for the node after the inputs.
            draw: step_key().with(shapes.len() as u64),
            case,
            spec,
            shapes,
        }
    }

    fn reference(&self) -> Results {
        let x: Vec<&[f64]> = self.x.iter().map(|x| &x[..]).collect();
        let (n, shapes, draw) = (self.case.n, &self.shapes[..], self.draw);
        let mut y = vec![0.0; self.dy.len()];
        let mut state = self.state.clone();
        let [own_params, own_state] = &self.own;
        let params = own_params.of(&self.params);
        self.case.op.reference_forward(&mut ReferenceForward {
            n,
            shapes,
            x: &x,
            params,
            state: own_state.of_mut(&mut state),
            draw,
            y: &mut y,
        });
        let mut dx: Vec<Vec<f64>> = self.x.iter().map(|x| vec![0.0; x.len()]).collect();
        let mut dparams = vec![0.0; self.params.len()];
        self.case.op.reference_backward(&mut ReferenceBackward {
            n,
            shapes,
            x: &x,
            params,
            state: own_state.of(&state),
            draw,
            dy: &self.dy,
            dx: &mut dx,
            dparams: own_params.of_mut(&mut dparams),
        });
        Results { y, state, dx, dparams }
    }

    /// Runs the kernels on buffers of their own; `in_place` as the contract says, where the op can.
    fn kernels(&self, isa: Isa, in_place: bool) -> Results {
        let mut run = KernelRun::new(self, isa, in_place);
        run.forward();
        run.backward();
        Results {
            y: widen(&run.y_kept),
            state: widen(&run.state),
            dx: run.dx.iter().map(|dx| widen(dx)).collect(),
            dparams: widen(&run.dparams),
        }
    }
}

fn step_key() -> Key {
    Key::new(3, Stream::Dropout).with(1)
}

fn narrow(values: &[f64]) -> Aligned {
    let mut all = Aligned::zeros(values.len());
    all.iter_mut().zip(values).for_each(|(to, &from)| *to = from as f32);
    all
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn poison(len: usize) -> Aligned {
    let mut all = Aligned::zeros(len);
    all.fill(f32::NAN);
    all
}

/// Sample `s` of `all`, where all samples are of one length.
fn of(all: &[f32], n: usize, s: usize) -> &[f32] {
    let len = all.len() / n;
    &all[s * len..][..len]
}

fn of_mut(all: &mut [f32], n: usize, s: usize) -> &mut [f32] {
    let len = all.len() / n;
    &mut all[s * len..][..len]
}

struct KernelRun<'s> {
    setting: &'s Setting<'s>,
    planned: Box<dyn PlannedOp>,
    isa: Isa,
    in_place: bool,
    x: Vec<Aligned>,
    y: Aligned,
    y_kept: Vec<f32>,
    dx: Vec<Aligned>,
    saved: Vec<Aligned>,
    params: Aligned,
    dparams: Aligned,
    state: Aligned,
    batch_saved: Aligned,
}

impl<'s> KernelRun<'s> {
    fn new(setting: &'s Setting<'s>, isa: Isa, in_place: bool) -> KernelRun<'s> {
        let spec = &setting.spec;
        let planned = setting.case.op.plan(&setting.shapes).unwrap();
        let params = narrow(&setting.params);
        let mut batch_saved = poison(spec.batch_saved);
        let [own_params, own_state] = &setting.own;
        planned.prepare(isa, own_params.of(&params), own_state.of(&narrow(&setting.state)), &mut batch_saved);
        KernelRun {
            setting,
            planned,
            isa,
            in_place,
            x: setting.x.iter().map(|x| narrow(x)).collect(),
            y: if in_place { narrow(&setting.x[0]) } else { poison(setting.dy.len()) },
            y_kept: Vec::new(),
            dx: setting.x.iter().map(|x| poison(x.len())).collect(),
            saved: (0..setting.case.n).map(|_| poison(spec.saved)).collect(),
            dparams: Aligned::zeros(params.len()),
            params,
            state: narrow(&setting.state),
            batch_saved,
        }
    }

    fn forward(&mut self) {
        let (spec, n) = (&self.setting.spec, self.setting.case.n);
        for (phase, kind) in spec.forward.iter().enumerate() {
            if *kind == Phase::Merge {
                self.merge(Pass::Forward);
                continue;
            }
            for sample in (0..n).rev() {
                let mut x: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
                self.x.iter().zip(&mut x).for_each(|(all, x)| *x = of(all, n, sample));
                if self.in_place {
                    x[0] = &[];
                }
                let last = phase + 1 == spec.forward.len();
                let y = if last || self.in_place { of_mut(&mut self.y, n, sample) } else { &mut [] };
                let mut b = Forward {
                    sample,
                    draw: self.setting.draw,
                    x,
                    y,
                    from: 0,
                    saved: &mut self.saved[sample],
                    scratch: &mut poison(spec.scratch),
                    params: self.setting.own[0].of(&self.params),
                    state: self.setting.own[1].of(&self.state),
                    batch_saved: &self.batch_saved,
                };
                self.planned.forward(self.isa, phase, &mut b);
            }
        }
        self.y_kept = self.y.to_vec();
    }

    fn backward(&mut self) {
        let (spec, n) = (&self.setting.spec, self.setting.case.n);
        let dy = narrow(&self.setting.dy);
        if self.in_place {
            self.dx[0] = dy.clone();
        }
        for (phase, kind) in spec.backward.iter().enumerate() {
            if *kind == Phase::Merge {
                self.merge(Pass::Backward);
                continue;
            }
            for sample in (0..n).rev() {
                let mut x: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
                if spec.reads_x {
                    self.x.iter().zip(&mut x).for_each(|(all, x)| *x = of(all, n, sample));
                }
                let dparams = self.setting.own[0].of_mut(&mut self.dparams);
                if *kind == Phase::Batch {
                    let (y, dy) = (of(&self.y, n, sample), of(&dy, n, sample));
                    for (tensor, from, gradient) in dparams.pieces(self.planned.gradient_piece()) {
                        self.planned.batch_gradient(self.isa, &mut BatchGradient { x, y, dy, tensor, from, gradient });
                    }
                    continue;
                }
                let last = phase + 1 == spec.backward.len();
                let mut dx: [&mut [f32]; MAX_INPUTS] = [&mut [], &mut []];
                for (all, dx) in self.dx.iter_mut().zip(&mut dx).filter(|_| last || self.in_place) {
                    *dx = of_mut(all, n, sample);
                }
                let mut b = Backward {
                    sample,
                    draw: self.setting.draw,
                    x,
                    y: if spec.reads_y { of(&self.y, n, sample) } else { &[] },
                    dy: if self.in_place { &[] } else { of(&dy, n, sample) },
                    dx,
                    dparams: if *kind == Phase::Groups { TensorsMut::none() } else { dparams },
                    saved: &mut self.saved[sample],
                    scratch: &mut poison(spec.scratch),
                    params: self.setting.own[0].of(&self.params),
                    batch_saved: &self.batch_saved,
                };
                self.planned.backward(self.isa, phase, &mut b);
            }
        }
        self.planned.reorder_gradients(self.setting.own[0].of_mut(&mut self.dparams), &mut poison(spec.scratch));
    }

    fn merge(&mut self, pass: Pass) {
        let saved = &self.saved;
        self.planned.merge(&mut Merge {
            pass,
            n: self.setting.case.n,
            saved: &|sample| &saved[sample][..],
            params: self.setting.own[0].of(&self.params),
            dparams: match pass {
                Pass::Backward => self.setting.own[0].of_mut(&mut self.dparams),
                Pass::Forward => TensorsMut::none(),
            },
            state: self.setting.own[1].of_mut(&mut self.state),
            batch_saved: &mut self.batch_saved,
        });
    }
}

/// Root mean square of an array below which errors count as if it were this large: results that cancel to nothing.
const FLOOR: f64 = 1e-3;

/// Says where `got` is farther from `expected` than `tolerance`, relative rms.
fn compare(what: &str, got: &[f64], expected: &[f64], tolerance: f64) -> Option<String> {
    assert_eq!(got.len(), expected.len(), "{what}");
    let both = || got.iter().zip(expected);
    let rms = |sum: f64| (sum / got.len().max(1) as f64).sqrt();
    let error = rms(both().map(|(g, e)| (g - e) * (g - e)).sum());
    let size = rms(expected.iter().map(|e| e * e).sum()).max(FLOOR);
    // A NaN fails the comparison.
    if error <= tolerance * size {
        return None;
    }
    let gap = |(g, e): (&f64, &f64)| if g.is_nan() { f64::INFINITY } else { (g - e).abs() };
    let worst = (0..got.len()).max_by(|&i, &j| gap((&got[i], &expected[i])).total_cmp(&gap((&got[j], &expected[j]))));
    let i = worst.unwrap_or(0);
    Some(format!(
        "{what}: relative rms error {:.2e} > {tolerance:.1e}; [{i}] is {}, not {}",
        error / size,
        got[i],
        expected[i]
    ))
}

fn differences(got: &Results, expected: &Results, case: &Case) -> Vec<String> {
    let tolerance = case.tolerance;
    let mut all = vec![
        compare("y", &got.y, &expected.y, tolerance),
        // Running statistics are rounded to f32 even where an output is exact.
        compare("state", &got.state, &expected.state, tolerance.max(1e-6)),
        compare("dparams", &got.dparams, &expected.dparams, tolerance),
    ];
    for (i, (got, expected)) in got.dx.iter().zip(&expected.dx).enumerate() {
        all.push(compare(&format!("dx[{i}]"), got, expected, tolerance));
    }
    all.into_iter().flatten().collect()
}

/// All families' cases, by name. Real layers take minutes without optimisation, so that one of each op is enough.
fn cases() -> Vec<(&'static str, Case)> {
    let mut all = Vec::new();
    for family in ALL {
        let (real, small): (Vec<Case>, Vec<Case>) = (family.cases)().into_iter().partition(|case| case.real);
        assert!(!small.is_empty(), "{} has no small case", family.name);
        all.extend(small.into_iter().chain(real.into_iter().take(1)).map(|case| (family.name, case)));
    }
    all
}

#[test]
fn kernels_meet_the_reference_on_every_instruction_set() {
    let mut wrong = Vec::new();
    let mut runs = 0;
    for (family, case) in cases() {
        let setting = Setting::new(&case);
        let expected = setting.reference();
        for isa in Isa::all() {
            let ways: &[bool] = if setting.spec.in_place { &[false, true] } else { &[false] };
            for &in_place in ways {
                let got = setting.kernels(isa, in_place);
                let place = if in_place { " in place" } else { "" };
                for difference in differences(&got, &expected, &case) {
                    wrong.push(format!("{family} {} {}{place}: {difference}", case.name, isa.name()));
                }
                runs += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {runs} runs:\n{}", wrong.len(), wrong.join("\n"));
}

/// A graph of the case's op and the sum of its output with weights that are an input, the last one.
fn graph_of(case: &Case) -> (Graph, NodeId, NodeId) {
    let mut graph = Graph::new();
    let inputs = case.inputs.iter().enumerate();
    let x: Vec<NodeId> = inputs.map(|(i, input)| graph.input(&format!("x{i}"), input.shape).unwrap()).collect();
    let y = graph.add_shared("op", case.op.clone(), &x).unwrap();
    let w = graph.input("w", graph.shape(y)).unwrap();
    let loss = graph.add("loss", WeightedSum, &[y, w]).unwrap();
    (graph, y, loss)
}

/// An arena of `len` numbers with the only node's tensors at its front.
fn arena(tensors: &[f64], len: usize) -> Vec<f64> {
    let mut all = tensors.to_vec();
    all.resize(len, 0.0);
    all
}

#[test]
fn the_executor_meets_the_reference_in_both_orders() {
    let mut wrong = Vec::new();
    for (family, case) in cases().into_iter().filter(|(_, case)| !case.real) {
        let setting = Setting::new(&case);
        let (graph, y, loss) = graph_of(&case);
        let mut inputs = setting.x.clone();
        inputs.push(setting.dy.clone());
        let params = arena(&setting.params, graph.params_len());
        let state = arena(&setting.state, graph.state_len());
        let mut end_state = state.clone();
        let mut reference = Reference::forward(&graph, case.n, &params, &mut end_state, &inputs, step_key());
        reference.backward(&params, loss);
        let fixed = |i: usize| case.inputs[i].fill.is_label();
        let expected = Results {
            y: reference.activations[y.index()].clone(),
            state: end_state,
            dx: (0..case.inputs.len()).map(|i| reference.gradients[i].clone()).collect(),
            dparams: reference.parameter_gradients.clone(),
        };
        let inputs: Vec<Aligned> = inputs.iter().map(|x| narrow(x)).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(|x| &x[..]).collect();
        let params = narrow(&params);
        for order in [Order::DepthFirst, Order::LayerByLayer] {
            let options = PlanOptions { order, ..PlanOptions::new(case.n, Work::Train(loss)) };
            let plan = Plan::new(&graph, &options.keep(Keep::Everything)).unwrap();
            let mut cpu = Cpu::new(Arc::new(plan), Isa::best()).unwrap();
            cpu.prepare(&params, &narrow(&state));
            let mut got_state = narrow(&state);
            // Twice: what a first run leaves in memory must not matter.
            for _ in 0..2 {
                got_state = narrow(&state);
                cpu.run(&params, &mut got_state, &inputs, step_key());
            }
            let node = |i: usize| graph.find(&format!("x{i}")).unwrap();
            let got = Results {
                y: widen(&cpu.activation(y).unwrap()),
                state: widen(&got_state),
                dx: (0..case.inputs.len()).map(|i| cpu.gradient(node(i)).map_or(Vec::new(), |dx| widen(&dx))).collect(),
                dparams: widen(cpu.parameter_gradients()),
            };
            assert!((0..case.inputs.len()).all(|i| fixed(i) || !got.dx[i].is_empty()), "{family} {}", case.name);
            for difference in differences(&got, &expected, &case) {
                wrong.push(format!("{family} {} {order:?}: {difference}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_op_conforms_on_the_processor_in_training_and_inference() {
    let mut wrong = Vec::new();
    for (family, case) in cases().into_iter().filter(|(_, case)| !case.real) {
        for compared in conformance(&case, &Device::Cpu(Isa::best()), Precision::F32).unwrap() {
            if !compared.agrees() {
                wrong.push(format!("{family} {}: {compared:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The convolutions that a sweep runs through: input channels, taps, rows of the pool's window, lengths.
struct Sweep {
    c_in: &'static [usize],
    k: &'static [usize],
    window: &'static [usize],
    l: &'static [usize],
    sets: Vec<Isa>,
}

impl Sweep {
    /// Runs every combination that its ops accept, fused as `fast` and `auto` choose and each op by itself, with a norm and without.
    /// Nothing may panic, and nothing may deviate from the reference; how many were run.
    fn run(&self) -> usize {
        let mut seen = 0;
        let blocks = self.c_in.iter().flat_map(|&c_in| self.k.iter().map(move |&k| (c_in, k)));
        let sizes = self.window.iter().flat_map(|&window| self.l.iter().map(move |&l| (window, l)));
        for ((c_in, k), (window, l)) in blocks.flat_map(|block| sizes.clone().map(move |size| (block, size))) {
            for (with_norm, choice) in [false, true].into_iter().flat_map(|norm| CHOICES.map(|choice| (norm, choice))) {
                for padding in [Padding::Same, Padding::Valid] {
                    let conv = Conv1d { padding, ..Conv1d::new(5, k) };
                    for op in ops_of(conv, with_norm, window, choice) {
                        let name = format!("{op:?} on {l} rows of {c_in} channels");
                        seen += usize::from(self.check(&name, &*op, Shape::new(l, c_in), with_norm));
                    }
                }
            }
        }
        seen
    }

    /// Whether `op` takes such an input; if so, on every instruction set it is near its reference.
    fn check(&self, name: &str, op: &dyn Op, shape: Shape, with_norm: bool) -> bool {
        let Ok(spec) = op.spec(&[shape]) else { return false };
        const SAMPLES: usize = 3;
        // What a norm makes of a few numbers hardly depends on them: the gradients are the rounding of zeros.
        let determined = !with_norm || SAMPLES * spec.y.l >= 12;
        let input = [Input { shape, fill: Fill::Normal }];
        for &isa in &self.sets {
            // Where two rows of a window are nearly equal, or an output is nearly zero, rounding may choose the other side than the
            // reference does, which moves a gradient. Of other numbers it does not.
            let errors = (0..4).map(|seed| SingleOp::new(op, &input, SAMPLES, isa, seed).unwrap().errors());
            let worst = |errors: Errors| {
                let Errors { forward, backward_data, backward_weight } = errors;
                forward.max(backward_data).max(backward_weight.unwrap_or(0.0))
            };
            let least = errors.map(worst).map_while(|error| (error > DEVIATION).then_some(error)).collect::<Vec<_>>();
            assert!(least.len() < 4 || !determined, "{name} on {isa:?}: errors {least:?}");
        }
        true
    }
}

/// Above the error of any transform and below that of a gradient in the wrong row.
const DEVIATION: f64 = 5e-5;

const CHOICES: [ConvChoice; 3] = [ConvChoice::Direct, ConvChoice::Fast, ConvChoice::Auto];

/// The fused op that the choice gives, or the ops one by one.
fn ops_of(conv: Conv1d, with_norm: bool, window: usize, choice: ConvChoice) -> Vec<Box<dyn Op>> {
    let (norm, pool) = (BatchNorm::new(Over::Channels), (window > 1).then(|| MaxPool1d::new(window)));
    let fused = if with_norm { Norm::Batch(norm) } else { Norm::None };
    let block = ConvBlock::of(&conv, fused, pool.as_ref(), choice).filter(|_| choice != ConvChoice::Direct);
    match block {
        Some(block) => vec![Box::new(block)],
        None => {
            let norm = with_norm.then(|| Box::new(norm) as Box<dyn Op>);
            let pool = pool.map(|pool| Box::new(pool) as Box<dyn Op>);
            std::iter::once(Box::new(conv) as Box<dyn Op>).chain(norm).chain(pool).collect()
        }
    }
}

#[test]
fn case_31_convolutions_of_few_channels_agree_however_they_are_computed() {
    let sweep = Sweep {
        c_in: &[1, 2],
        k: &[1, 3, 4, 5, 9],
        window: &[1, 2, 3, 4, 5],
        l: &[1, 2, 5, 9, 26, 61],
        sets: vec![Isa::best()],
    };
    let seen = sweep.run();
    assert!(seen > 1500, "{seen} combinations");
}

#[test]
#[ignore = "runs for minutes; part of `.ci/run --full`"]
fn case_31_every_convolution_agrees_however_it_is_computed() {
    let sweep = Sweep {
        c_in: &[1, 2, 3],
        k: &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        window: &[1, 2, 3, 4, 5],
        l: &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 17, 23, 24, 25, 31, 47, 48, 49, 97, 193, 385],
        sets: Isa::all(),
    };
    let seen = sweep.run();
    assert!(seen > 20_000, "{seen} combinations");
}
