"""The networks in TensorFlow: Keras layers, channels last, one tf.function a step."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from peer import SAMPLES

keras = tf.keras


def build(net, classes, norm):
    """The Keras model on [n, 16000, 1]; batch norm with PyTorch's momentum and epsilon."""
    padding, pooling = ("same" if net.same else "valid"), ("same" if net.ceil else "valid")
    x = keras.Input((SAMPLES, 1))
    h = x
    for conv in net.convs:
        h = keras.layers.Conv1D(conv.channels, conv.kernel, padding=padding, kernel_initializer="he_normal")(h)
        if norm:
            h = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(h)
        h = keras.layers.ReLU()(h)
        if conv.pool > 1:
            h = keras.layers.MaxPooling1D(conv.pool, padding=pooling)(h)
    h = keras.layers.Flatten()(h)
    for width in net.dense:
        h = keras.layers.Dense(width, activation="relu", kernel_initializer="glorot_uniform")(h)
    if net.dropout:
        h = keras.layers.Dropout(net.dropout)(h)
    return keras.Model(x, keras.layers.Dense(classes, kernel_initializer="glorot_uniform")(h))


class Peer:
    """A network with its optimiser, with the interface that the frameworks share."""

    def __init__(self, net, classes, norm, seed, threads):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        keras.utils.set_random_seed(seed)
        self.model = model = build(net, classes, norm)
        adam = keras.optimizers.Adam(1e-3, epsilon=1e-8)
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        adam.build(model.trainable_variables)
        self.version = tf.__version__

        @tf.function
        def step(x, labels):
            with tf.GradientTape() as tape:
                loss = loss_of(labels, model(x, training=True))
            adam.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return loss

        @tf.function
        def classes_of(x):
            return tf.argmax(model(x, training=False), axis=1)

        self._step, self._classes_of = step, classes_of

    def parameters(self):
        return sum(int(np.prod(v.shape)) for v in self.model.trainable_variables)

    def step(self, x, labels):
        """One forward, backward and Adam step on arrays; returns the mean loss."""
        return float(self._step(tf.constant(x[:, :, None]), tf.constant(labels)))

    def predict(self, x, batch=60):
        """The class number of each clip."""
        parts = [self._classes_of(tf.constant(x[i : i + batch, :, None])).numpy() for i in range(0, len(x), batch)]
        return np.concatenate(parts)
