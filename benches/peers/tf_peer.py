"""The custom networks in TensorFlow: Keras layers, channels last, one tf.function a step."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from peer import widths

keras = tf.keras


def build(name, classes, variant, dropout):
    """The Keras model on [n, 16000, 1]; batch norm with PyTorch's momentum and epsilon."""
    x = keras.Input((16000, 1))
    h = x
    channels = widths(name)
    for i, c in enumerate(channels):
        h = keras.layers.Conv1D(c, 5, padding="same", kernel_initializer="he_normal")(h)
        if "bn" in variant:
            h = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(h)
        h = keras.layers.ReLU()(h)
        if i + 1 < len(channels):
            h = keras.layers.MaxPooling1D(3)(h)
    h = keras.layers.Flatten()(h)
    if "do" in variant:
        h = keras.layers.Dropout(dropout)(h)
    return keras.Model(x, keras.layers.Dense(classes, kernel_initializer="glorot_uniform")(h))


class Peer:
    """A network with its optimiser behind the interface that both frameworks share."""

    def __init__(self, name, classes, variant, dropout, seed, threads):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        keras.utils.set_random_seed(seed)
        self.net = net = build(name, classes, variant, dropout)
        adam = keras.optimizers.Adam(1e-3, epsilon=1e-8)
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        adam.build(net.trainable_variables)
        self.version = tf.__version__

        @tf.function
        def step(x, labels):
            with tf.GradientTape() as tape:
                loss = loss_of(labels, net(x, training=True))
            adam.apply(tape.gradient(loss, net.trainable_variables), net.trainable_variables)
            return loss

        @tf.function
        def classes_of(x):
            return tf.argmax(net(x, training=False), axis=1)

        self._step, self._classes_of = step, classes_of

    def parameters(self):
        return sum(int(np.prod(v.shape)) for v in self.net.trainable_variables)

    def step(self, x, labels):
        """One forward, backward and Adam step on arrays; returns the mean loss."""
        return float(self._step(tf.constant(x[:, :, None]), tf.constant(labels)))

    def predict(self, x, batch=60):
        """The class number of each clip."""
        parts = [self._classes_of(tf.constant(x[i : i + batch, :, None])).numpy() for i in range(0, len(x), batch)]
        return np.concatenate(parts)
