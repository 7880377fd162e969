"""Trains a network of the study on bench12 in PyTorch, TensorFlow or JAX: one JSON line an epoch, one at the end."""

import json
import time

import numpy as np

import bench12
import peer


def accuracy(net, x, labels):
    return float((net.predict(x) == labels).mean())


def main():
    parser = peer.training_arguments(__doc__)
    parser.add_argument("--data", required=True, help="a folder laid out like Google Speech Commands")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    peer.settle_environment(options)

    data = bench12.load(options.data)
    (x, labels), validation, testing = (data[split] for split in bench12.SPLITS)
    net = peer.make_trainer(options, len(bench12.CLASSES))
    rng = np.random.default_rng(options.seed)
    best = (-1.0, 0, 0.0)  # validation accuracy, epoch, test accuracy
    began = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        epoch_began = time.perf_counter()
        losses = [net.step(x[i], labels[i]) for i in bench12.batches(len(x), options.batch, rng)]
        seconds = time.perf_counter() - epoch_began
        val_acc = accuracy(net, *validation)
        if val_acc > best[0]:
            best = (val_acc, epoch, accuracy(net, *testing))
        line = {"epoch": epoch, "loss": round(float(np.mean(losses)), 5), "val_acc": round(val_acc, 4)}
        print(json.dumps(line | {"seconds": round(seconds, 2)}), flush=True)
    summary = {
        **{key: getattr(options, key) for key in ("framework", "model", "variant", "batch", "seed", "threads")},
        "dropout": peer.network(options.model, options.variant, options.dropout).dropout,
        "version": net.version,
        "parameters": net.parameters(),
        "clips": [len(data[split][1]) for split in bench12.SPLITS],
        "test_acc_last": round(accuracy(net, *testing), 4),
        "test_acc_best_val": round(best[2], 4),
        "best_epoch": best[1],
        "best_val_acc": round(best[0], 4),
        "minutes": round((time.perf_counter() - began) / 60, 2),
        "peak_mb": peer.peak_mb(),
    }
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
