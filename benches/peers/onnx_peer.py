"""A network in ONNX Runtime, its graph written node by node."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from peer import SAMPLES


def graph(net, classes, seed):
    """The model on [1, 1, 16000], with random weights."""
    rng = np.random.default_rng(seed)
    nodes, weights, h, c_in = [], [], "audio", 1

    def layer(op, name, shape, **attributes):
        """Adds a convolution or dense layer with He normal weights [out, in, ..]; returns its output's name."""
        deviation = np.sqrt(2 / np.prod(shape[1:]))
        weight, bias = rng.standard_normal(shape) * deviation, np.zeros(shape[0])
        for part, values in (("weight", weight), ("bias", bias)):
            weights.append(numpy_helper.from_array(values.astype(np.float32), f"{name}.{part}"))
        nodes.append(helper.make_node(op, [h, f"{name}.weight", f"{name}.bias"], [name], **attributes))
        return name

    def then(op, **attributes):
        """Adds a node without weights; returns its output's name."""
        name = f"{h}.{op}"
        nodes.append(helper.make_node(op, [h], [name], **attributes))
        return name

    for i, conv in enumerate(net.convs):
        padding = [conv.kernel // 2] * 2 if net.same else [0, 0]
        h = layer("Conv", f"conv{i + 1}", (conv.channels, c_in, conv.kernel), kernel_shape=[conv.kernel], pads=padding)
        h = then("Relu")
        if conv.pool > 1:
            h = then("MaxPool", kernel_shape=[conv.pool], strides=[conv.pool], ceil_mode=int(net.ceil))
        c_in = conv.channels
    h, width = then("Flatten"), np.prod(net.features())
    for i, out in enumerate((*net.dense, classes)):
        h = layer("Gemm", f"fc{i + 1}", (out, int(width)), transB=1)
        if i < len(net.dense):
            h = then("Relu")
        width = out
    audio = helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, 1, SAMPLES])
    logits = helper.make_tensor_value_info(h, TensorProto.FLOAT, [1, classes])
    made = helper.make_graph(nodes, "network", [audio], [logits], weights)
    return helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


class Predictor:
    """A network without what only training needs."""

    def __init__(self, net, classes, seed, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = graph(net, classes, seed).SerializeToString()
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.version = onnxruntime.__version__

    def logits(self, x):
        """Logits [1, classes] of one clip [1, 16000]."""
        return self.session.run(None, {"audio": x[:, None, :]})[0]
