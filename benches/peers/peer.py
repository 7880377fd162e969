"""What both frameworks share: the network's widths, how a peer is made, memory in use."""

import argparse
import os
import resource
import sys

FRAMEWORKS = ("torch", "torch-default", "tf")

# glibc's default allocator gives large blocks back to the system after each step and pays for the page faults anew.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}


def widths(model):
    """Channels of the convolutions of a `custom` network: custom32-8 -> 32 x 4, 64 x 4; a ninth has 4 x 32."""
    start, depth = (int(part) for part in model.removeprefix("custom").split("-"))
    return [start << (i // 4) for i in range(depth)]


def arguments(description):
    """A parser with the options that every script here has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--framework", choices=FRAMEWORKS, required=True)
    parser.add_argument("--model", default="custom32-8", help="customSTART-DEPTH")
    parser.add_argument("--variant", choices=("do", "bn", "do+bn"), default="do")
    parser.add_argument("--dropout", type=float, default=0.75, help="share of the features that is dropped")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def settle_environment(options):
    """Starts this script again with the variables that a process reads only at its start, where they are not yet set."""
    wanted = {"OMP_NUM_THREADS": str(options.threads)} | (KEEP_MEMORY if options.framework == "torch" else {})
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def make(options, classes):
    """The network and optimiser of the framework asked for; imports only that one."""
    arguments = (options.model, classes, options.variant, options.dropout, options.seed, options.threads)
    if options.framework == "tf":
        from tf_peer import Peer

        return Peer(*arguments)
    from torch_peer import Peer

    return Peer(*arguments, fast=options.framework == "torch")


def peak_mb():
    """Peak resident memory of this process, MB (10^6 bytes)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
