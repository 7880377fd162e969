//! Builds the graph of a network from its description, and reports what is wrong with the key at fault.

use super::error::{Reason, SpecError};
use super::rule::MOST_LAYERS;
use super::spec::{Activation, Block, HeadPool, NetworkSpec, Norm};
use crate::base::{INPUT_RATES_HZ, Shape};
use crate::graph::{Graph, NodeId};
use crate::ops::{
    Add, AvgPool, BatchNorm, Conv1d, DepthwiseConv1d, Dropout, Linear, MaxPool1d, Op, Over, Padding, Relu,
    SoftmaxCrossEntropy,
};

/// A network with all its shapes: the graph and the nodes that a user reads.
#[derive(Clone, Debug)]
pub struct Network {
    /// The description that it was built from.
    pub spec: NetworkSpec,
    /// How many classes it has.
    pub classes: usize,
    /// Its nodes: `audio`, then by block `conv1`, `bn1`, `relu1`, `pool1`, .., then `average`, `bn_features`, `fc1`,
    /// `fc1_relu`, .., `dropout`, the last `fc`, and `labels` and `loss`. In a separable block 2, `depthwise2`, `depthwise_bn2` and
    /// `depthwise_relu2` come before `conv2`; in a residual one, `add2` comes before `relu2`.
    pub graph: Graph,
    /// The input, `[length, channels]`.
    pub audio: NodeId,
    /// The other input: the class number, `[1, 1]`, or the shares of the classes, `[1, classes]` ([`Objective::soft_labels`]).
    pub labels: NodeId,
    /// The output of each block.
    pub blocks: Vec<NodeId>,
    /// The features of a clip: the input of the head, before its norm and dropout.
    pub features: NodeId,
    /// The last dense layer, `[1, classes]`.
    pub logits: NodeId,
    /// The loss, `[1, 1]`.
    pub loss: NodeId,
    /// The window of each node.
    pub(super) windows: Vec<Window>,
}

/// What training minimises: the cross-entropy of a network's softmax with a target. The default target is the class of a clip.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Objective {
    /// Label smoothing: this share of the target is spread evenly over all classes. At least 0 and less than 1.
    pub smoothing: f64,
    /// Whether the label of a clip is the share of each class, `[1, classes]`, instead of a class number: for mixed clips, or targets from
    /// another network.
    pub soft_labels: bool,
}

/// Which rows of its input one row of a node's output depends on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Window {
    /// `span` rows, which move by `stride` from one output row to the next; those of the first output row begin `before` rows before the input.
    Rows { span: usize, stride: usize, before: usize },
    /// All rows.
    All,
}

impl Window {
    const SAME: Window = Window::Rows { span: 1, stride: 1, before: 0 };
}

/// The most parameters of a network: 8 GiB of `f32`, and four times that in training.
const MOST_PARAMS: usize = 1 << 31;

/// The most of any other number in a description: the limit of the operations.
const MOST: usize = 1 << 24;

/// The most rows of a pooling window: the limit of max-pooling.
const MOST_POOL: usize = 256;

impl NetworkSpec {
    /// Checks whether the network can be built, as far as that does not depend on the number of classes.
    pub fn check(&self) -> Result<(), SpecError> {
        Network::build(self, self.classes.unwrap_or(2)).map(|_| ())
    }
}

/// Checks everything that does not depend on shapes.
fn check_scalars(spec: &NetworkSpec, classes: usize) -> Result<(), SpecError> {
    let named = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
    if spec.name.is_empty() || spec.name.len() > 64 || spec.name.starts_with('.') || !spec.name.chars().all(named) {
        return spec.refuse(
            "name",
            "`name` must have 1 to 64 letters, digits, `-`, `_`, `+` or `.`, and not begin with a dot",
        );
    }
    let input = spec.input;
    for (key, value) in [("length", input.length), ("channels", input.channels)] {
        if value == 0 || value > MOST {
            return spec
                .refuse(&format!("input.{key}"), format!("the input's `{key}` is {value}; take between 1 and {MOST}"));
        }
    }
    if !INPUT_RATES_HZ.contains(&input.sample_rate) {
        let (low, high, got) = (INPUT_RATES_HZ.start(), INPUT_RATES_HZ.end(), input.sample_rate);
        let what = format!("the input's `sample_rate` must be between {low} and {high} Hz, got {got}");
        return spec.refuse("input.sample_rate", what);
    }
    let dropout = spec.head.dropout;
    if !(0.0..1.0).contains(&dropout) {
        return spec.refuse("head.dropout", format!("dropout must be at least 0 and below 1, got {dropout}"));
    }
    if spec.head.dense.len() > MOST_LAYERS {
        return spec
            .refuse("head.dense", format!("`dense` has {} layers; take at most {MOST_LAYERS}", spec.head.dense.len()));
    }
    if let Some(own) = spec.classes.filter(|&own| own != classes) {
        return spec.refuse(
            "classes",
            format!("the network has `classes = {own}`, but {classes} classes are given; give as many classes as the network has, or change `classes`"),
        );
    }
    if classes < 2 {
        return spec.refuse("classes", format!("a network needs at least two classes, got {classes}"));
    }
    if classes > MOST {
        return spec.refuse("classes", format!("a network can have at most {MOST} classes, got {classes}"));
    }
    Ok(())
}

/// The graph under construction.
struct Recorder<'a> {
    spec: &'a NetworkSpec,
    graph: Graph,
    windows: Vec<Window>,
    /// The shape of the node added last.
    shape: Shape,
}

impl Recorder<'_> {
    fn input(&mut self, key: &str, name: &str, shape: Shape) -> Result<NodeId, SpecError> {
        let id = self.graph.input(name, shape);
        self.added(key, id, Window::SAME)
    }

    fn add(
        &mut self,
        key: &str,
        name: &str,
        op: impl Op + 'static,
        x: NodeId,
        sees: Window,
    ) -> Result<NodeId, SpecError> {
        let id = self.graph.add(name, op, &[x]);
        self.added(key, id, sees)
    }

    fn added(
        &mut self,
        key: &str,
        id: Result<NodeId, crate::graph::GraphError>,
        sees: Window,
    ) -> Result<NodeId, SpecError> {
        let id = id.map_err(|e| Reason::Graph(e).at(format!("network `{}`", self.spec.name), key))?;
        self.shape = self.graph.shape(id);
        self.windows.push(sees);
        Ok(id)
    }

    /// Refuses a layer that makes the weights of the network too many, before an operation computes their number.
    fn afford(&self, key: &str, layer: &str, factors: [usize; 3]) -> Result<(), SpecError> {
        let weights = factors.iter().fold(1u128, |product, &f| product.saturating_mul(f as u128));
        if weights + self.graph.params_len() as u128 > MOST_PARAMS as u128 {
            let what = format!(
                "{layer} would have {weights} weights; a network may have at most {MOST_PARAMS}, so make it smaller"
            );
            return self.spec.refuse(key, what);
        }
        Ok(())
    }

    /// Block `i`, counted from 0, on node `x`.
    fn block(&mut self, i: usize, b: &Block, x: NodeId) -> Result<NodeId, SpecError> {
        let n = i + 1;
        let key = |name: &str| match self.spec.blocks {
            Some(_) if name == "conv" => "blocks.start".to_string(),
            Some(_) => format!("blocks.{name}"),
            None => format!("block[{i}].{name}"),
        };
        let (conv_key, norm_key, pool_key) = (key("conv"), key("norm"), key("pool"));
        self.check_conv(n, b, &key)?;
        let (has_norm, has_relu) = (self.has_norm(b), b.activation == Activation::Relu);
        let (bias, input) = (self.spec.bias, self.shape);
        let Block { stride, dilation, padding, .. } = *b;
        let sees = Window::Rows { span: span(b), stride, before: padding.rows(input.l, span(b), stride).0 };
        let mut h = x;
        if b.separable {
            let depthwise = DepthwiseConv1d { k: b.kernel, stride, dilation, padding, bias };
            h = self.add(&key("kernel"), &format!("depthwise{n}"), depthwise, h, sees)?;
            if has_norm {
                h =
                    self.add(&norm_key, &format!("depthwise_bn{n}"), BatchNorm::new(Over::Channels), h, Window::SAME)?;
            }
            if has_relu {
                h = self.add(&conv_key, &format!("depthwise_relu{n}"), Relu, h, Window::SAME)?;
            }
            h = self.add(&conv_key, &format!("conv{n}"), Conv1d { bias, ..Conv1d::new(b.conv, 1) }, h, Window::SAME)?;
        } else {
            let conv = Conv1d { c_out: b.conv, k: b.kernel, stride, dilation, padding, bias };
            h = self.add(&conv_key, &format!("conv{n}"), conv, h, sees)?;
        }
        if has_norm {
            h = self.add(&norm_key, &format!("bn{n}"), BatchNorm::new(Over::Channels), h, Window::SAME)?;
        }
        if b.residual {
            self.check_residual(n, b, input, &key("residual"))?;
            let sum = self.graph.add(&format!("add{n}"), Add, &[h, x]);
            h = self.added(&key("residual"), sum, Window::SAME)?;
        }
        if has_relu {
            h = self.add(&conv_key, &format!("relu{n}"), Relu, h, Window::SAME)?;
        }
        self.pool(n, b, &pool_key, h)
    }

    /// Whether the block has batch norm.
    fn has_norm(&self, b: &Block) -> bool {
        b.norm.map_or(self.spec.batch_norm, |norm| norm == Norm::Batch)
    }

    /// Refuses a residual block whose result, the node added last, does not have the shape of its input.
    fn check_residual(&self, n: usize, b: &Block, input: Shape, key: &str) -> Result<(), SpecError> {
        let (result, remove) = (self.shape, "or remove `residual`");
        let what = if b.stride != 1 {
            format!("conv{n}: `residual` needs stride 1, and `stride` is {}; leave it out, {remove}", b.stride)
        } else if result.c != input.c {
            let (conv, channels) = (b.conv, input.c);
            format!(
                "conv{n}: `residual` needs as many channels as the block's input has, which are {channels}, and `conv` is {conv}; \
                 take conv = {channels}, {remove}"
            )
        } else if result.l != input.l {
            format!(
                "conv{n}: `residual` needs a result as long as the block's input of {} rows, and it has {}; take padding = \"same\", {remove}",
                input.l, result.l
            )
        } else {
            return Ok(());
        };
        self.spec.refuse(key, what)
    }

    fn check_conv(&self, n: usize, b: &Block, key: &dyn Fn(&str) -> String) -> Result<(), SpecError> {
        if b.conv == 0 || b.conv > MOST {
            let what = format!("conv{n} has {} channels; take between 1 and {MOST}", b.conv);
            return self.spec.refuse(&key("conv"), what);
        }
        for (name, value) in [("kernel", b.kernel), ("stride", b.stride), ("dilation", b.dilation)] {
            if value == 0 || value > MOST {
                let what = format!("conv{n}: `{name}` is {value}; take between 1 and {MOST}");
                return self.spec.refuse(&key(name), what);
            }
        }
        let length = self.spec.input.length;
        if span(b) > length {
            let what = format!(
                "conv{n}: a kernel that spans {} rows is longer than the input of {length} samples; take a smaller kernel",
                span(b)
            );
            return self.spec.refuse(&key("kernel"), what);
        }
        let (before, after) = match b.padding {
            Padding::Same => (span(b), 0),
            Padding::Valid => (0, 0),
            Padding::Explicit(before, after) => (before, after),
        };
        if before.max(after) > MOST {
            return self
                .spec
                .refuse(&key("padding"), format!("conv{n}: `padding` is {}; take at most {MOST}", before.max(after)));
        }
        let rows = self.shape.l;
        if rows + before + after < span(b) {
            let what = format!(
                "conv{n}: a kernel that spans {} rows has an input of only {} rows, padding included; take a smaller kernel, \
                 padding = \"same\", less pooling or a longer input",
                span(b),
                rows + before + after
            );
            return self.spec.refuse(&key("kernel"), what);
        }
        let taps = if b.separable {
            self.afford(&key("kernel"), &format!("depthwise{n}"), [b.kernel, self.shape.c, 1])?;
            1
        } else {
            b.kernel
        };
        self.afford(&key("conv"), &format!("conv{n}"), [taps, self.shape.c, b.conv])
    }

    fn pool(&mut self, n: usize, b: &Block, key: &str, x: NodeId) -> Result<NodeId, SpecError> {
        let Some(k) = b.pool else {
            return match b.pool_stride {
                Some(_) => {
                    self.spec.refuse(&format!("{key}_stride"), format!("pool{n}: `pool_stride` needs `pool`; add it"))
                }
                None => Ok(x),
            };
        };
        let stride = b.pool_stride.unwrap_or(k);
        let stride_key = format!("{key}_stride");
        for (key, name, value, most) in [(key, "pool", k, MOST_POOL), (&stride_key, "pool_stride", stride, MOST)] {
            if value == 0 || value > most {
                return self.spec.refuse(key, format!("pool{n}: `{name}` is {value}; take between 1 and {most}"));
            }
        }
        let rows = self.shape.l;
        if rows < k && !b.pool_ceil {
            let what = format!(
                "pool{n}: a pooling window of {k} rows is longer than its input of {rows} rows; remove a pool, take a smaller one, or take a longer input"
            );
            return self.spec.refuse(key, what);
        }
        let op = MaxPool1d { k, stride, ceil: b.pool_ceil };
        self.add(key, &format!("pool{n}"), op, x, Window::Rows { span: k, stride, before: 0 })
    }

    /// Adds batch norm, dense layers, dropout and the last dense layer.
    fn head(&mut self, x: NodeId, classes: usize) -> Result<NodeId, SpecError> {
        let head = &self.spec.head;
        let mut h = x;
        if head.batch_norm {
            self.afford("head.batch_norm", "bn_features", [2, self.shape.l, self.shape.c])?;
            let norm = BatchNorm::new(Over::Features);
            h = self.add("head.batch_norm", "bn_features", norm, h, Window::SAME)?;
        }
        for (i, &out) in head.dense.iter().enumerate() {
            let n = i + 1;
            h = self.dense(&format!("head.dense[{i}]"), n, out, h)?;
            h = self.add("head.dense", &format!("fc{n}_relu"), Relu, h, Window::SAME)?;
        }
        if head.dropout > 0.0 {
            h = self.add("head.dropout", "dropout", Dropout { p: head.dropout }, h, Window::SAME)?;
        }
        let key = if self.spec.classes.is_some() { "classes" } else { "head" };
        self.dense(key, head.dense.len() + 1, classes, h)
    }

    fn dense(&mut self, key: &str, n: usize, out: usize, x: NodeId) -> Result<NodeId, SpecError> {
        if out == 0 || out > MOST {
            return self.spec.refuse(key, format!("fc{n} has {out} outputs; take between 1 and {MOST}"));
        }
        self.afford(key, &format!("fc{n}"), [self.shape.l, self.shape.c, out])?;
        self.add(key, &format!("fc{n}"), Linear { out, bias: self.spec.head.bias }, x, Window::All)
    }
}

/// The number of rows from a kernel's first tap to its last.
fn span(b: &Block) -> usize {
    b.dilation.saturating_mul(b.kernel - 1).saturating_add(1)
}

impl Network {
    /// Builds the network for this number of classes; its labels are class numbers.
    ///
    /// # Errors
    /// A size is 0 or too large, a layer would have no output, or the description contradicts itself or the number of classes; the error
    /// names the key.
    ///
    /// ```
    /// use stapes::nn::{self, Network, Variant};
    ///
    /// let spec = nn::find("custom32-8")?.spec(Variant::Do);
    /// let network = Network::build(&spec, 16)?;
    /// assert_eq!(network.params(), 94_768);
    /// # Ok::<(), nn::SpecError>(())
    /// ```
    pub fn build(spec: &NetworkSpec, classes: usize) -> Result<Network, SpecError> {
        Network::build_with(spec, classes, Objective::default())
    }

    /// Builds the network for this number of classes, to be trained with this objective, on which parameters and logits do not depend.
    ///
    /// # Errors
    /// Those of [`Network::build`]; the label smoothing is negative, or 1 or more.
    pub fn build_with(spec: &NetworkSpec, classes: usize, objective: Objective) -> Result<Network, SpecError> {
        check_scalars(spec, classes)?;
        let blocks = spec.expand()?;
        let input = spec.input;
        let mut r = Recorder {
            spec,
            graph: Graph::new(),
            windows: Vec::new(),
            shape: Shape::new(input.length, input.channels),
        };
        let audio = r.input("input.length", "audio", r.shape)?;
        let mut at = audio;
        let mut ends = Vec::with_capacity(blocks.len());
        for (i, block) in blocks.iter().enumerate() {
            at = r.block(i, block, at)?;
            ends.push(at);
        }
        if spec.head.pool == HeadPool::Average {
            at = r.add("head.pool", "average", AvgPool, at, Window::All)?;
        }
        let features = at;
        let logits = r.head(features, classes)?;
        let labels = r.input("", "labels", Shape::new(1, if objective.soft_labels { classes } else { 1 }))?;
        let smoothing = objective.smoothing as f32;
        let loss = r.graph.add("loss", SoftmaxCrossEntropy { smoothing }, &[logits, labels]);
        let loss = loss.map_err(|e| Reason::Graph(e).at(format!("network `{}`", spec.name), ""))?;
        let (graph, windows) = (r.graph, r.windows);
        Ok(Network { spec: spec.clone(), classes, graph, audio, labels, blocks: ends, features, logits, loss, windows })
    }

    /// The number of parameters; the running statistics of batch norm are not parameters.
    pub fn params(&self) -> u64 {
        self.graph.nodes().iter().map(|n| n.spec.params_len() as u64).sum()
    }

    /// Multiply-adds of one clip through it, from the audio to the logits.
    pub fn macs(&self) -> u64 {
        self.graph.nodes()[..=self.logits.index()].iter().map(|n| n.spec.macs).sum()
    }
}
