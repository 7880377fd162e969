"""Times a training step (forward, backward, Adam) of PyTorch, TensorFlow or JAX on random clips; prints one JSON line."""

import json

import numpy as np

import peer


def main():
    options = peer.timing_arguments(peer.training_arguments(__doc__)).parse_args()
    peer.settle_environment(options)

    net = peer.make_trainer(options, options.classes)
    rng = np.random.default_rng(options.seed)
    x = rng.standard_normal((options.batch, peer.SAMPLES)).astype(np.float32) * 0.1
    labels = rng.integers(0, options.classes, options.batch)
    losses = []
    times = peer.timed(lambda: losses.append(net.step(x, labels)), options)
    summary = {
        **{key: getattr(options, key) for key in ("framework", "model", "variant", "batch", "threads")},
        "version": net.version,
        "parameters": net.parameters(),
        **times,
        "first_loss": round(losses[0], 4),
        "loss": round(losses[-1], 4),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
