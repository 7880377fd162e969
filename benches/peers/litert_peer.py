"""A network in LiteRT: TensorFlow converts it in a process of its own, LiteRT's interpreter (XNNPACK) runs it."""

import multiprocessing
import sys
import tempfile
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter


def convert(net, classes, seed, path):
    """Writes the network with random weights as a file for LiteRT."""
    from tf_peer import SAMPLES, build, keras, tf

    keras.utils.set_random_seed(seed)
    one_clip = keras.Input((SAMPLES, 1), batch_size=1)
    model = keras.Model(one_clip, build(net, classes, norm=False)(one_clip))
    with redirect_stdout(sys.stderr):  # the converter prints the model's inputs
        Path(path).write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


class Predictor:
    """A network without what only training needs."""

    def __init__(self, net, classes, seed, threads):
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "network.tflite"))
            process = multiprocessing.get_context("spawn").Process(target=convert, args=(net, classes, seed, path))
            process.start()
            process.join()
            self.interpreter = Interpreter(path, num_threads=threads)
        self.interpreter.allocate_tensors()
        self.audio = self.interpreter.get_input_details()[0]["index"]
        self.output = self.interpreter.get_output_details()[0]["index"]
        self.version = metadata.version("ai-edge-litert")

    def logits(self, x):
        """Logits [1, classes] of one clip [1, 16000]."""
        self.interpreter.set_tensor(self.audio, x[:, :, None])
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output)
