//! A network as an ONNX model: operator set 17, channels first, any number of clips.
//!
//! The input is `[n, channels, length]`, as in PyTorch: it holds the samples of each channel one after the other. The output is
//! `[n, classes]`. Padding is explicit, and pools have no `ceil_mode`, which runtimes read differently.
//! **Source** the ONNX operator schemas, <https://onnx.ai/onnx/operators>.

mod messages;

pub use messages::{
    Attribute, Dimension, Entry, Graph, Model, Node, OperatorSet, Tensor, TensorShape, TensorType, Type, ValueInfo,
};

use super::error::ExportError;
use super::exported::Export;
use super::layers::{self, Layer, Layers, Operation};
use crate::base::Shape;
use crate::ops::Over;
use prost::Message;

/// The version of the format.
const IR_VERSION: i64 = 8;
/// The version of the operators.
const OPSET: i64 = 17;
/// The most bytes of a file in this format: the limit of protocol buffers.
const MOST_BYTES: usize = i32::MAX as usize;
/// The output without softmax.
const LOGITS: &str = "logits";
/// The output with softmax.
const PROBABILITIES: &str = "probabilities";

impl Model {
    /// The model of an exported network; with `softmax` its output is `probabilities` instead of `logits`.
    ///
    /// # Errors
    /// The file would be larger than the format allows.
    pub fn new(export: &Export, softmax: bool) -> Result<Model, ExportError> {
        let graph = graph(&export.layers, &export.network.name, softmax);
        let metadata = export.metadata().into_iter().chain([
            ("stapes.layout".into(), "channels first: [n, channels, length], full scale 1".into()),
            ("stapes.norm".into(), if export.folded { "folded" } else { "kept" }.into()),
        ]);
        let model = Model {
            ir_version: IR_VERSION,
            producer_name: "stapes".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: format!("The network {}: {} of raw audio.", export.network.name, classes(export)),
            graph: Some(graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
            metadata_props: metadata.map(|(key, value)| Entry { key, value }).collect(),
        };
        match model.encoded_len() {
            bytes if bytes > MOST_BYTES => Err(ExportError::TooLarge { bytes, format: "ONNX", most: MOST_BYTES }),
            _ => Ok(model),
        }
    }

    /// The content of a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// The model in the content of a file, as far as the messages here hold it.
    ///
    /// # Errors
    /// The bytes are no such message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Model, ExportError> {
        Model::decode(bytes).map_err(|error| ExportError::NotOnnx { reason: error.to_string() })
    }
}

fn classes(export: &Export) -> String {
    format!("{} classes", export.classes.len())
}

/// A value of the graph.
#[derive(Clone)]
struct Value {
    name: String,
    /// Whether it is `[n, c * l]` instead of `[n, c, l]`.
    flat: bool,
}

/// The graph under construction.
#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    constants: Vec<Tensor>,
}

fn graph(layers: &Layers, name: &str, softmax: bool) -> Graph {
    let mut b = Builder::default();
    let mut values: Vec<Value> = Vec::with_capacity(layers.layers.len());
    for layer in &layers.layers {
        let inputs: Vec<Value> = layer.inputs.iter().map(|&input| values[input].clone()).collect();
        let shapes: Vec<Shape> = layer.inputs.iter().map(|&input| layers.layers[input].shape).collect();
        let value = b.layer(layer, &inputs, &shapes);
        values.push(value);
    }
    let mut last = b.flat(&values[layers.output]).name;
    b.rename(&last, LOGITS);
    last = LOGITS.into();
    if softmax {
        last = b.node("Softmax", PROBABILITIES, &[&last], vec![int("axis", 1)]);
    }
    let Shape { l, c } = layers.input_shape();
    let input = described(&layers.layers[0].name, &[c, l], "samples with full scale 1, [n, channels, length]");
    let output = described(&last, &[layers.classes()], "one number for each class, [n, classes]");
    Graph { node: b.nodes, name: name.into(), initializer: b.constants, input: vec![input], output: vec![output] }
}

impl Builder {
    /// Adds the nodes of a layer and returns its output.
    fn layer(&mut self, layer: &Layer, inputs: &[Value], shapes: &[Shape]) -> Value {
        let name = &layer.name;
        let rows = |name: String| Value { name, flat: false };
        match (&layer.operation, inputs) {
            (Operation::Add, [a, b]) => self.add(name, (a, b)),
            (Operation::Standardise(values), [x, ..]) => {
                let x = self.rows(x, shapes[0]);
                let shape = [1, layer.shape.c, 1];
                let mean = self.constant(&format!("{name}.mean"), &shape, values.mean());
                let deviation = self.constant(&format!("{name}.deviation"), &shape, values.deviation());
                let centred = self.node("Sub", &format!("{name}/centred"), &[&x, &mean], Vec::new());
                rows(self.node("Div", name, &[&centred, &deviation], Vec::new()))
            }
            (Operation::Convolution { geometry: g, .. }, [x, ..]) => {
                let x = self.rows(x, shapes[0]);
                let group = if g.depthwise { layer.shape.c } else { 1 };
                let attributes = vec![
                    ints("kernel_shape", &[g.k]),
                    ints("strides", &[g.stride]),
                    ints("dilations", &[g.dilation]),
                    ints("pads", &[g.before, g.after]),
                    int("group", group),
                ];
                let inputs = [vec![x], self.tensors(layer)].concat();
                rows(self.node("Conv", name, &inputs, attributes))
            }
            (Operation::BatchNorm { over, epsilon, .. }, [x, ..]) => {
                self.batch_norm(layer, (*over, *epsilon), x, shapes[0])
            }
            (Operation::Relu, [x, ..]) => Value { name: self.node("Relu", name, &[&x.name], Vec::new()), flat: x.flat },
            (Operation::MaxPool { k, stride, after }, [x, ..]) => {
                let x = self.rows(x, shapes[0]);
                let attributes =
                    vec![ints("kernel_shape", &[*k]), ints("strides", &[*stride]), ints("pads", &[0, *after])];
                rows(self.node("MaxPool", name, &[x], attributes))
            }
            (Operation::Mean, [x, ..]) => {
                let x = self.rows(x, shapes[0]);
                rows(self.node("GlobalAveragePool", name, &[x], Vec::new()))
            }
            (Operation::Linear { .. }, [x, ..]) => {
                let inputs = [vec![self.flat(x).name], self.tensors(layer)].concat();
                Value { name: self.node("Gemm", name, &inputs, vec![int("transB", 1)]), flat: true }
            }
            // The input has no node.
            (_, _) => rows(name.clone()),
        }
    }

    fn add(&mut self, name: &str, (a, b): (&Value, &Value)) -> Value {
        let (a, b) = if a.flat == b.flat { (a.clone(), b.clone()) } else { (self.flat(a), self.flat(b)) };
        Value { name: self.node("Add", name, &[&a.name, &b.name], Vec::new()), flat: a.flat }
    }

    /// Batch norm over channels, or over features, which are the channels of a flattened value.
    fn batch_norm(&mut self, layer: &Layer, (over, epsilon): (Over, f64), x: &Value, shape: Shape) -> Value {
        let x = match over {
            Over::Features => self.flat(x),
            Over::Channels if x.flat && shape.l == 1 => x.clone(),
            Over::Channels => Value { name: self.rows(x, shape), flat: false },
        };
        let epsilon = Attribute { f: Some(epsilon as f32), kind: Attribute::FLOAT, ..named("epsilon") };
        let inputs = [vec![x.name.clone()], self.tensors(layer)].concat();
        Value { name: self.node("BatchNormalization", &layer.name, &inputs, vec![epsilon]), flat: x.flat }
    }

    /// The value as `[n, c * l]`.
    fn flat(&mut self, x: &Value) -> Value {
        if x.flat {
            return x.clone();
        }
        let name = format!("{}/flat", x.name);
        if !self.nodes.iter().any(|node| node.output[0] == name) {
            self.node("Flatten", &name, &[&x.name], vec![int("axis", 1)]);
        }
        Value { name, flat: true }
    }

    /// The value as `[n, c, l]`.
    fn rows(&mut self, x: &Value, shape: Shape) -> String {
        if !x.flat {
            return x.name.clone();
        }
        let name = format!("{}/rows", x.name);
        if !self.nodes.iter().any(|node| node.output[0] == name) {
            // A 0 is the length of the dimension in the input.
            let shape: Vec<u8> = [0, shape.c as i64, shape.l as i64].into_iter().flat_map(i64::to_le_bytes).collect();
            let constant = format!("{name}.shape");
            let (dims, data_type) = (vec![3], Tensor::INT64);
            self.constants.push(Tensor { dims, data_type, name: constant.clone(), raw_data: shape });
            self.node("Reshape", &name, &[&x.name, &constant], Vec::new());
        }
        name
    }

    /// Adds the weights of a layer in PyTorch's order, and returns their names.
    fn tensors(&mut self, layer: &Layer) -> Vec<String> {
        let tensor = |(suffix, tensor): (&str, &layers::Tensor)| {
            (format!("{}.{suffix}", layer.name), tensor.torch_shape(), tensor.torch_values())
        };
        let tensors: Vec<_> = layer.operation.tensors().into_iter().map(tensor).collect();
        tensors.iter().map(|(name, shape, values)| self.constant(name, shape, values)).collect()
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let dims = shape.iter().map(|&size| size as i64).collect();
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constants.push(Tensor { dims, data_type: Tensor::FLOAT, name: name.into(), raw_data });
        name.into()
    }

    /// Adds a node, and returns its output, which is named after it.
    fn node(&mut self, op: &str, name: &str, inputs: &[impl AsRef<str>], attribute: Vec<Attribute>) -> String {
        let input = inputs.iter().map(|input| input.as_ref().into()).collect();
        self.nodes.push(Node { input, output: vec![name.into()], name: name.into(), op_type: op.into(), attribute });
        name.into()
    }

    /// Gives a value another name.
    fn rename(&mut self, from: &str, to: &str) {
        let names = self.nodes.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        names.filter(|name| *name == from).for_each(|name| *name = to.into());
    }
}

fn named(name: &str) -> Attribute {
    Attribute { name: name.into(), ..Attribute::default() }
}

fn int(name: &str, value: usize) -> Attribute {
    Attribute { i: Some(value as i64), kind: Attribute::INT, ..named(name) }
}

fn ints(name: &str, values: &[usize]) -> Attribute {
    Attribute { ints: values.iter().map(|&value| value as i64).collect(), kind: Attribute::INTS, ..named(name) }
}

/// An input or output of f32 for any number of clips.
fn described(name: &str, sizes: &[usize], doc: &str) -> ValueInfo {
    let any = Dimension { dim_value: None, dim_param: Some("n".into()) };
    let fixed = |&size: &usize| Dimension { dim_value: Some(size as i64), dim_param: None };
    let shape = TensorShape { dim: std::iter::once(any).chain(sizes.iter().map(fixed)).collect() };
    let tensor_type = Some(TensorType { elem_type: Tensor::FLOAT, shape: Some(shape) });
    ValueInfo { name: name.into(), kind: Some(Type { tensor_type }), doc_string: doc.into() }
}
