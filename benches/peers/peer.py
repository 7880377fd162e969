"""What the frameworks share: the networks' rules, how a peer is made, how it is timed, memory in use."""

import argparse
import os
import re
import resource
import statistics
import sys
import time
from dataclasses import dataclass

TRAINERS = ("torch", "torch-default", "tf", "jax")
RECOGNISERS = ("torch", "torch-default", "onnx", "litert")
SAMPLES = 16000

# glibc's default allocator gives large blocks back to the system after each step and pays for the page faults anew.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}

# Family: convolutions of one width, factor to the next width, kernel, convolutions a pool.
FAMILIES = {
    "custom": (4, 2, 5, 1),
    "steep": (3, 2, 5, 1),
    "shrink": (4, 0.5, 5, 1),
    "steepshrink": (3, 0.5, 5, 1),
    "vgg": (8, 2, 3, 2),
}
DROPOUT = {"custom32-8": 0.75, "custom64-8": 0.75, "vgg64-16": 0.75, "custom128-9": 0.25}


@dataclass(frozen=True)
class Conv:
    """A convolution with bias, its ReLU, and the max pool after it (1: none)."""

    channels: int
    kernel: int
    pool: int


@dataclass(frozen=True)
class Network:
    """Convolutions, hidden dense layers with ReLU, dropout, one dense layer for the classes."""

    convs: tuple
    dense: tuple
    dropout: float
    same: bool  # whether convolutions keep the length; otherwise they take no padding
    ceil: bool  # whether a last pooling window that is cut short counts

    def features(self):
        """Length and channels of what is flattened."""
        length = SAMPLES
        for conv in self.convs:
            length -= 0 if self.same else conv.kernel - 1
            length = -(-length // conv.pool) if self.ceil else length // conv.pool
        return length, self.convs[-1].channels


def network(name, variant, dropout=None):
    """The study's network of this name; without a share to drop, its own."""
    share = DROPOUT.get(name, 0.5) if dropout is None else dropout
    share = share if "do" in variant else 0.0
    if name == "baseline":
        convs = tuple(Conv(8 << i, 25, 4) for i in range(5))
        return Network(convs, (1024, 512), share, same=False, ceil=True)
    parts = re.fullmatch(r"([a-z]+)(\d+)-(\d+)", name)
    if not parts or parts[1] not in FAMILIES:
        sys.exit(f"no network is called {name}: --model takes baseline or one of {', '.join(FAMILIES)} with START-DEPTH")
    every, factor, kernel, pool_every = FAMILIES[parts[1]]
    start, depth = int(parts[2]), int(parts[3])
    convs = tuple(
        Conv(int(start * factor ** (i // every)), kernel, 3 if (i + 1) % pool_every == 0 and i + 1 < depth else 1)
        for i in range(depth)
    )
    return Network(convs, (), share, same=True, ceil=False)


def arguments(description, frameworks):
    """A parser with the options that every script here has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--framework", choices=frameworks, required=True)
    parser.add_argument("--model", default="custom32-8", help="baseline or FAMILYSTART-DEPTH, such as custom32-8 or vgg64-16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def training_arguments(description):
    """A parser with the options that the scripts which train have."""
    parser = arguments(description, TRAINERS)
    parser.add_argument("--variant", choices=("do", "bn", "do+bn"), default="do")
    parser.add_argument("--dropout", type=float, help="share of the features that is dropped; the network's own if not given")
    parser.add_argument("--batch", type=int, default=32)
    return parser


def timing_arguments(parser):
    """Adds the options of the scripts that take times."""
    parser.add_argument("--classes", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long to time; a quarter as long before that to warm up")
    parser.add_argument("--steps", type=int, default=3, help="least number that is timed")
    return parser


def settle_environment(options):
    """Starts this script again with the variables that a process reads only at its start, where they are not yet set."""
    wanted = {"OMP_NUM_THREADS": str(options.threads)} | (KEEP_MEMORY if options.framework == "torch" else {})
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def make_trainer(options, classes):
    """The network and optimiser of the framework asked for; imports only that one."""
    net = network(options.model, options.variant, options.dropout)
    arguments = (net, classes, "bn" in options.variant, options.seed, options.threads)
    if options.framework == "tf":
        from tf_peer import Peer
    elif options.framework == "jax":
        from jax_peer import Peer
    else:
        from torch_peer import Peer

        return Peer(*arguments, fast=options.framework == "torch")
    return Peer(*arguments)


def make_recogniser(options):
    """The network for recognition alone, without dropout and batch norm, in the framework asked for."""
    net = network(options.model, "none")
    arguments = (net, options.classes, options.seed, options.threads)
    if options.framework == "onnx":
        from onnx_peer import Predictor
    elif options.framework == "litert":
        from litert_peer import Predictor
    else:
        from torch_peer import Predictor

        return Predictor(*arguments, fast=options.framework == "torch")
    return Predictor(*arguments)


def timed(work, options):
    """Times `work` and says what is common to all reports: runs, median and best, peak memory."""

    def times_ms(count, seconds):
        times, end = [], time.perf_counter() + seconds
        while len(times) < count or time.perf_counter() < end:
            began = time.perf_counter()
            work()
            times.append((time.perf_counter() - began) * 1e3)
        return times

    times_ms(2, options.seconds / 4)
    times = times_ms(options.steps, options.seconds)
    return {
        "steps": len(times),
        "median_ms": round(statistics.median(times), 3),
        "best_ms": round(min(times), 3),
        "peak_mb": peak_mb(),
    }


def peak_mb():
    """Peak resident memory of this process, MB (10^6 bytes)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
