//! The layers of a network in groups that are computed row by row, as the exports that have little memory compute them.
//!
//! A stage is a convolution, depthwise convolution, pool, mean or dense layer with what follows it: the addition of an earlier row, ReLU and a
//! pool whose windows do not overlap. Each stage reads the stage before it, so that a row of its output can be computed as soon as the rows
//! that it depends on are there, and the outputs of layers are never stored as a whole (patch-based inference: Lin et al., "MCUNetV2", 2021;
//! for sequences: Rybakov et al., "Streaming keyword spotting on mobile devices", 2020).

use super::error::ExportError;
use super::layers::{ConvolutionGeometry, Layer, Layers, Operation, Tensor};
use crate::base::{Shape, Standardisation};

/// What a stage computes from its input before the addition, ReLU and pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// A convolution along the rows.
    Convolution(ConvolutionGeometry),
    /// The largest numbers of windows of `k` rows that begin `stride` rows apart, and overlap.
    MaxPool {
        /// Rows of a window.
        k: usize,
        /// Rows between the beginnings of neighbouring windows.
        stride: usize,
    },
    /// The mean over all rows.
    Mean,
    /// A dense layer on all numbers of the input.
    Dense,
}

/// A pool whose windows do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Rows of a window; 1 for no pool.
    pub k: usize,
    /// Rows between the beginnings of neighbouring windows, at least `k`.
    pub stride: usize,
}

impl Pool {
    /// No pool.
    pub const NONE: Pool = Pool { k: 1, stride: 1 };
}

/// The form of a stage, without its weights.
#[derive(Clone, Debug)]
pub struct Form {
    /// The name of its first layer.
    pub name: String,
    /// The name of the layer whose output is that of the stage.
    pub output_name: String,
    /// What it computes first.
    pub kernel: Kernel,
    /// What is added, row by row: 0 for the input of the network, `s` for the output of stage `s - 1`.
    pub residual: Option<usize>,
    /// Whether numbers below 0 become 0.
    pub relu: bool,
    /// The pool at the end.
    pub pool: Pool,
    /// The shape of its input, channels last.
    pub input: Shape,
    /// Rows before the pool.
    pub rows: usize,
    /// The shape of its output, channels last.
    pub output: Shape,
}

impl Form {
    /// Rows of zeros before the input.
    pub fn before(&self) -> usize {
        match self.kernel {
            Kernel::Convolution(geometry) => geometry.before,
            _ => 0,
        }
    }

    /// Input rows that one row before the pool depends on; 0 for a stage that adds up its rows as they come.
    pub fn span(&self) -> usize {
        match self.kernel {
            Kernel::Convolution(geometry) => geometry.dilation * (geometry.k - 1) + 1,
            Kernel::MaxPool { k, .. } => k,
            Kernel::Mean | Kernel::Dense => 0,
        }
    }

    /// Input rows between neighbouring rows before the pool.
    pub fn stride(&self) -> usize {
        match self.kernel {
            Kernel::Convolution(ConvolutionGeometry { stride, .. }) | Kernel::MaxPool { stride, .. } => stride,
            Kernel::Mean | Kernel::Dense => 1,
        }
    }
}

/// A stage with its weights.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What it computes.
    pub form: Form,
    /// `[k, c_in, c_out]` of a convolution, `[k, c]` if it is depthwise, `[l, c, out]` of a dense layer; empty otherwise.
    pub weight: Vec<f32>,
    /// `[c_out]`, zeros if the layer has none; empty if it has no weights either.
    pub bias: Vec<f32>,
}

/// A network as a sequence of stages.
#[derive(Clone, Debug)]
pub struct Stages {
    /// The shape of a clip, channels last.
    pub input: Shape,
    /// What is done to the clip first.
    pub standardisation: Option<Standardisation>,
    /// The stages; each reads the one before it, the first the clip, and the output of the last are the logits.
    pub stages: Vec<Stage>,
}

impl Stages {
    /// Groups the layers of a network whose batch norm has been folded ([`Layers::fold_norms`]).
    ///
    /// # Errors
    /// A layer has no place in a sequence of stages: a batch norm that is not folded, an addition of something else than an earlier row to
    /// the result of a convolution, or a last layer that is not dense; or a weight is not finite. `format` names the export in the error.
    pub fn new(layers: &Layers, format: &'static str) -> Result<Stages, ExportError> {
        let mut grouping =
            Grouping { layers, readers: layers.readers(), format, stages: Vec::new(), tail: 0, sources: Vec::new() };
        let mut standardisation = None;
        for (index, layer) in layers.layers.iter().enumerate() {
            match &layer.operation {
                Operation::Input => {}
                Operation::Standardise(values) => {
                    grouping.follows(layer)?;
                    standardisation = Some(values.clone());
                }
                _ => grouping.add(layer)?,
            }
            grouping.tail = index;
        }
        let ends_dense =
            grouping.stages.last().is_some_and(|stage| stage.form.kernel == Kernel::Dense && !stage.form.relu);
        if !ends_dense || grouping.tail != layers.output {
            let last = &layers.layers[layers.output];
            return Err(grouping.refuse(last, "the last layer must be a dense layer"));
        }
        Ok(Stages { input: layers.input_shape(), standardisation, stages: grouping.stages })
    }

    /// How many logits there are.
    pub fn classes(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.form.output.size())
    }
}

/// Stages in the making.
struct Grouping<'a> {
    layers: &'a Layers,
    readers: Vec<Vec<usize>>,
    format: &'static str,
    stages: Vec<Stage>,
    /// The layer that was grouped last.
    tail: usize,
    /// The layers whose output is the input of the network, or that of a finished stage: (layer, source).
    sources: Vec<(usize, usize)>,
}

impl Grouping<'_> {
    fn refuse(&self, layer: &Layer, advice: &'static str) -> ExportError {
        ExportError::NoForm {
            layer: layer.name.clone(),
            operation: format!("a layer of the kind `{}`", layer.operation.name()),
            format: self.format,
            advice,
        }
    }

    /// Checks that the layer reads the one before it.
    fn follows(&self, layer: &Layer) -> Result<(), ExportError> {
        match layer.inputs[..] {
            [input] if input == self.tail => Ok(()),
            _ => Err(self.refuse(layer, "each layer must read the one before it")),
        }
    }

    /// The stage that is open for additions, ReLU and pool: its last value is read by the next layer alone.
    fn open(&mut self) -> Option<&mut Stage> {
        let alone = self.readers[self.tail].len() == 1;
        self.stages.last_mut().filter(|stage| alone && stage.form.pool == Pool::NONE)
    }

    fn add(&mut self, layer: &Layer) -> Result<(), ExportError> {
        match &layer.operation {
            Operation::Convolution { geometry, weight, bias } => {
                self.begin(layer, Kernel::Convolution(*geometry), Some((weight, bias.as_ref())))
            }
            Operation::Linear { weight, bias } => self.begin(layer, Kernel::Dense, Some((weight, bias.as_ref()))),
            Operation::Mean => self.begin(layer, Kernel::Mean, None),
            &Operation::MaxPool { k, stride, .. } => {
                self.follows(layer)?;
                match self.open().filter(|stage| stride >= k && matches!(stage.form.kernel, Kernel::Convolution(_))) {
                    Some(stage) => {
                        stage.form.pool = Pool { k, stride };
                        self.extend(layer);
                        Ok(())
                    }
                    None => self.begin(layer, Kernel::MaxPool { k, stride }, None),
                }
            }
            Operation::Relu => {
                self.follows(layer)?;
                match self.open().filter(|stage| !matches!(stage.form.kernel, Kernel::MaxPool { .. } | Kernel::Mean)) {
                    Some(stage) => stage.form.relu = true,
                    None => {
                        return Err(self.refuse(layer, "ReLU must follow a convolution, a dense layer or an addition"));
                    }
                }
                self.extend(layer);
                Ok(())
            }
            Operation::Add => {
                let advice = "only an earlier layer can be added to the result of a convolution";
                let tail = self.tail;
                let other = layer.inputs.iter().copied().find(|&input| input != tail);
                let source = other.and_then(|other| self.source(other));
                let own = layer.inputs.contains(&tail);
                let convolution = |stage: &&mut Stage| {
                    let Form { kernel, relu, residual, .. } = stage.form;
                    matches!(kernel, Kernel::Convolution(_)) && !relu && residual.is_none() && own
                };
                match (self.open().filter(convolution), source) {
                    (Some(stage), Some(source)) => stage.form.residual = Some(source),
                    _ => return Err(self.refuse(layer, advice)),
                }
                self.extend(layer);
                Ok(())
            }
            Operation::Input | Operation::Standardise(_) | Operation::BatchNorm { .. } => {
                Err(self.refuse(layer, "it must follow a convolution or a dense layer, or precede a dense layer"))
            }
        }
    }

    /// Where rows of a layer can be had: 0 for the input of the network, `s` for the output of stage `s - 1`.
    fn source(&self, layer: usize) -> Option<usize> {
        self.sources.iter().find(|(of, _)| *of == layer).map(|&(_, source)| source)
    }

    /// Begins a stage, which ends the one before it.
    fn begin(
        &mut self,
        layer: &Layer,
        kernel: Kernel,
        tensors: Option<(&Tensor, Option<&Tensor>)>,
    ) -> Result<(), ExportError> {
        self.follows(layer)?;
        self.sources.push((self.tail, self.stages.len()));
        let (weight, bias) = match tensors {
            Some((weight, bias)) => {
                let zeros = || vec![0.0; layer.shape.c];
                (weight.values.clone(), bias.map_or_else(zeros, |bias| bias.values.clone()))
            }
            None => Default::default(),
        };
        if !weight.iter().chain(&bias).all(|value| value.is_finite()) {
            return Err(self.refuse(layer, "its weights must be finite numbers, so train the network again"));
        }
        let form = Form {
            name: layer.name.clone(),
            output_name: layer.name.clone(),
            kernel,
            residual: None,
            relu: false,
            pool: Pool::NONE,
            input: self.layers.layers[self.tail].shape,
            rows: layer.shape.l,
            output: layer.shape,
        };
        self.stages.push(Stage { form, weight, bias });
        Ok(())
    }

    /// Makes the layer the last of the open stage.
    fn extend(&mut self, layer: &Layer) {
        if let Some(stage) = self.stages.last_mut() {
            stage.form.output_name.clone_from(&layer.name);
            stage.form.output = layer.shape;
        }
    }
}
