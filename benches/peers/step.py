"""Times a training step (forward, backward, Adam) of PyTorch or TensorFlow on random clips; prints one JSON line."""

import json
import statistics
import time

import numpy as np

import peer


def main():
    parser = peer.arguments(__doc__)
    parser.add_argument("--classes", type=int, default=16)
    parser.add_argument("--warmup", type=int, default=10, help="steps before the first that is timed")
    parser.add_argument("--steps", type=int, default=50, help="steps that are timed")
    options = parser.parse_args()
    peer.settle_environment(options)

    net = peer.make(options, options.classes)
    rng = np.random.default_rng(options.seed)
    x = rng.standard_normal((options.batch, 16000)).astype(np.float32) * 0.1
    labels = rng.integers(0, options.classes, options.batch)
    times_ms = []
    for _ in range(options.warmup + options.steps):
        began = time.perf_counter()
        loss = net.step(x, labels)
        times_ms.append((time.perf_counter() - began) * 1e3)
    timed = times_ms[options.warmup :]
    summary = {
        **{key: getattr(options, key) for key in ("framework", "model", "variant", "batch", "threads")},
        "version": net.version,
        "parameters": net.parameters(),
        "steps": options.steps,
        "median_ms": round(statistics.median(timed), 1),
        "best_ms": round(min(timed), 1),
        "loss": loss,
        "peak_mb": peer.peak_mb(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
