"""Times the recognition of one clip in PyTorch, ONNX Runtime or LiteRT; prints one JSON line."""

import json

import numpy as np

import peer


def main():
    options = peer.timing_arguments(peer.arguments(__doc__, peer.RECOGNISERS)).parse_args()
    peer.settle_environment(options)

    net = peer.make_recogniser(options)
    x = np.random.default_rng(options.seed).standard_normal((1, peer.SAMPLES)).astype(np.float32) * 0.1
    logits = net.logits(x)
    if logits.shape != (1, options.classes) or not np.isfinite(logits).all():
        raise ValueError(f"expected {options.classes} finite logits, got {logits}")
    summary = {
        **{key: getattr(options, key) for key in ("framework", "model", "threads")},
        "version": net.version,
        **peer.timed(lambda: net.logits(x), options),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
