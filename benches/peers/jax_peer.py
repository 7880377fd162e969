"""The networks in JAX: channels last, pooling as reshape and maximum, one compiled step whose buffers are given away."""

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

MOMENTUM, EPSILON = 0.1, 1e-5  # of batch norm
RATE, BETA1, BETA2, ADAM_EPSILON = 1e-3, 0.9, 0.999, 1e-8


def initial(net, classes, norm, key):
    """Parameters, and the running mean and variance of each batch norm; no two share a buffer, so all can be given away."""
    convs, running, c_in = [], [], 1
    for conv in net.convs:
        key, one = jax.random.split(key)
        c = conv.channels
        weight = jax.nn.initializers.he_normal(in_axis=(0, 1))(one, (conv.kernel, c_in, c))
        scaling = {"scale": jnp.ones(c), "shift": jnp.zeros(c)} if norm else {}
        convs.append({"weight": weight, "bias": jnp.zeros(c)} | scaling)
        running.append({"mean": jnp.zeros(c), "variance": jnp.ones(c)} if norm else {})
        c_in = c
    length, last = net.features()
    dense, widths = [], [length * last, *net.dense, classes]
    for c_in, c_out in zip(widths, widths[1:]):
        key, one = jax.random.split(key)
        dense.append({"weight": jax.nn.initializers.glorot_uniform()(one, (c_in, c_out)), "bias": jnp.zeros(c_out)})
    return {"convs": convs, "dense": dense}, running


def max_pool(h, size, ceil):
    """Max pooling of [n, l, c] along l; XLA's window reduction and its gradient are several times slower on a CPU."""
    n, length, c = h.shape
    if ceil:
        h = jnp.pad(h, ((0, 0), (0, -length % size), (0, 0)))  # after a ReLU zeros change no maximum
    else:
        h = h[:, : length // size * size]
    return h.reshape(n, -1, size, c).max(2)


def batch_norm(h, conv, running, training):
    """The normalised activations, and the statistics after this step."""
    if not training:
        mean, variance = running["mean"], running["variance"]
    else:
        mean, variance = h.mean((0, 1)), h.var((0, 1))
        now = {"mean": mean, "variance": variance * (h.shape[0] * h.shape[1] / (h.shape[0] * h.shape[1] - 1))}
        running = {key: (1 - MOMENTUM) * running[key] + MOMENTUM * now[key] for key in now}
    return (h - mean) * (lax.rsqrt(variance + EPSILON) * conv["scale"]) + conv["shift"], running


def forward(net, params, running, x, key=None):
    """Logits of clips [n, 16000] and running statistics; with a key as in training."""
    h, after = x[:, :, None], []
    for shape, conv, statistics in zip(net.convs, params["convs"], running):
        padding, layout = ("SAME" if net.same else "VALID"), ("NWC", "WIO", "NWC")
        h = lax.conv_general_dilated(h, conv["weight"], (1,), padding, dimension_numbers=layout) + conv["bias"]
        if statistics:
            h, statistics = batch_norm(h, conv, statistics, key is not None)
        after.append(statistics)
        h = jnp.maximum(h, 0)
        if shape.pool > 1:
            h = max_pool(h, shape.pool, net.ceil)
    h = h.reshape(len(h), -1)
    for dense in params["dense"][:-1]:
        h = jnp.maximum(h @ dense["weight"] + dense["bias"], 0)
    if key is not None and net.dropout:
        h = jnp.where(jax.random.bernoulli(key, 1 - net.dropout, h.shape), h / (1 - net.dropout), 0)
    last = params["dense"][-1]
    return h @ last["weight"] + last["bias"], after


def adam(params, grads, moments, count):
    """Parameters and moments after a step; `count` is 1 in the first."""

    def one(p, g, m, v):
        m, v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g * g
        rate = RATE * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        return p - rate * m / (jnp.sqrt(v) + ADAM_EPSILON * jnp.sqrt(1 - BETA2**count)), m, v

    each = jax.tree.map(one, params, grads, *moments)
    params, m, v = jax.tree.transpose(jax.tree.structure(params), jax.tree.structure((0, 0, 0)), each)
    return params, (m, v)


class Peer:
    """A network with its optimiser, with the interface that the frameworks share."""

    def __init__(self, net, classes, norm, seed, threads):
        del threads  # JAX takes all cores that the process may use
        key, initial_key = jax.random.split(jax.random.key(seed))
        params, running = initial(net, classes, norm, initial_key)
        moments = tuple(jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        self.state = (params, running, moments, jnp.float32(0), key)
        self.version = jax.__version__

        def step(state, x, labels):
            params, running, moments, count, key = state
            key, dropout_key = jax.random.split(key)

            def loss_of(params):
                logits, after = forward(net, params, running, x, dropout_key)
                return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean(), after

            (loss, running), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
            params, moments = adam(params, grads, moments, count + 1)
            return (params, running, moments, count + 1, key), loss

        self._step = jax.jit(step, donate_argnums=0)
        self._classes_of = jax.jit(lambda params, running, x: forward(net, params, running, x)[0].argmax(1))

    def parameters(self):
        return sum(p.size for p in jax.tree.leaves(self.state[0]))

    def step(self, x, labels):
        """One forward, backward and Adam step on arrays; returns the mean loss."""
        self.state, loss = self._step(self.state, x, labels)
        return float(loss)

    def predict(self, x, batch=60):
        """The class number of each clip."""
        params, running = self.state[:2]
        return np.concatenate([self._classes_of(params, running, x[i : i + batch]) for i in range(0, len(x), batch)])
