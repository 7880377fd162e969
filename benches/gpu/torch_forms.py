"""The networks of benches/peers in PyTorch on a GPU: a training step, or recognition, in each form that may be the fastest.

Forms:
- `installed`: Conv1d on [n, c, l], eager, default Adam: what a user gets who changes nothing.
- `graph`: two-dimensional convolutions of height 1, channels last, cudnn.benchmark, fused Adam; the whole step recorded as a CUDA graph.
- `graph-ncl`: the same on Conv1d and [n, c, l].
- `compile`: as `graph`, and torch.compile of network and loss before it is recorded.
- `autotune`: likewise with mode max-autotune-no-cudagraphs.

Precisions: `f32` (TF32 off), `tf32` (for convolutions and dense layers; in form `installed` PyTorch's own defaults, which
have it on in convolutions), `bf16` (autocast, weights in f32), `bf16-pure` (weights and activations in bf16, norms and loss in f32).
Without a GPU the same code runs on the processor, without graphs: to try it, not to measure.
"""

import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import peer  # noqa: E402
from torch_peer import LAST, Module  # noqa: E402

CLASSES = 16
FORMS = ("installed", "graph", "graph-ncl", "compile", "autotune")
PRECISIONS = ("f32", "tf32", "bf16", "bf16-pure")
WARM_STEPS = 3
LEAST_RUNS, MOST_RUNS, SECONDS = 5, 51, 0.7  # timed runs: so many, or as many as fit
QUEUED = 20  # replays between two events, for the time without launch latency


def device():
    return "cuda" if torch.cuda.is_available() else "cpu"


def settle(form, precision):
    """The switches of the whole process."""
    torch.manual_seed(1)
    installed = form == "installed"
    torch.backends.cuda.matmul.allow_tf32 = precision != "f32" and not installed
    torch.backends.cudnn.allow_tf32 = precision != "f32"
    torch.backends.cudnn.benchmark = not installed
    if device() == "cuda":
        torch.cuda.reset_peak_memory_stats()


def context(precision):
    # Without its cache: a recorded step must make its bf16 weights anew.
    return torch.autocast(device(), torch.bfloat16, cache_enabled=False) if precision == "bf16" else nullcontext()


def module_of(net, norm, form, precision, train):
    """The network, on the device, in the layout of the form."""
    fast = form not in ("installed", "graph-ncl")
    module = Module(net, CLASSES, norm, fast).to(device()).train(train)
    if not train and norm and form != "installed":
        fold = nn.utils.fusion.fuse_conv_bn_eval
        module.convs = nn.ModuleList(fold(conv, bn) for conv, bn in zip(module.convs, module.norms))
        module.norms = None
    if precision == "bf16-pure":
        module.to(torch.bfloat16)
        if module.norms is not None:
            module.norms.float()
    return module.to(memory_format=LAST) if fast else module


def compiled(work, form):
    modes = {"compile": None, "autotune": "max-autotune-no-cudagraphs"}
    if form not in modes:
        return work
    torch.compiler.reset()
    # The convolutions' layouts are chosen already.
    return torch.compile(work, mode=modes[form], dynamic=False, fullgraph=True)


def batch_of(batch, precision):
    kind = torch.bfloat16 if precision == "bf16-pure" else torch.float32
    x = 0.1 * torch.randn(batch, peer.SAMPLES)
    return x.to(device(), kind), (torch.arange(batch) % CLASSES).to(device())


def training(net, norm, batch, form, precision):
    """A function that takes one step on a batch that lies on the device, and one that gives the last loss."""
    module = module_of(net, norm, form, precision, train=True)
    x, labels = batch_of(batch, precision)
    options = {} if form == "installed" else {"fused": True, "capturable": device() == "cuda"}
    adam = torch.optim.Adam(module.parameters(), lr=1e-3, eps=1e-8, **options)
    last = {}

    def loss_of(x, labels):
        with context(precision):
            logits = module(x)
        return F.cross_entropy(logits.float(), labels)

    loss_of = compiled(loss_of, form)

    def step():
        adam.zero_grad(set_to_none=True)
        loss = loss_of(x, labels)
        loss.backward()
        adam.step()
        last["loss"] = loss.detach()

    return step, lambda: float(last["loss"])


def recognition(net, norm, batch, form, precision):
    """A function that gives the logits of a batch that lies on the device, and one that sums the last ones."""
    module = module_of(net, norm, form, precision, train=False)
    x, _ = batch_of(batch, precision)
    last = {}

    def logits_of(x):
        with context(precision):
            return module(x)

    logits_of = compiled(logits_of, form)

    def step():
        with torch.inference_mode():
            last["logits"] = logits_of(x)

    return step, lambda: float(last["logits"].float().sum())


def recorded(step):
    """The step as a CUDA graph, after some steps on a stream aside, as PyTorch's documentation asks."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def once(work):
    """Milliseconds of one run: between two events on a GPU."""
    if device() == "cpu":
        began = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - began)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    work()
    last.record()
    last.synchronize()
    return first.elapsed_time(last)


def measure(task, network, variant, batch, form, precision, prepare_only=False):
    """What a step or a recognition takes, as a dictionary."""
    began = time.perf_counter()
    settle(form, precision)
    norm = "bn" in variant
    make = training if task == "train" else recognition
    step, result = make(peer.network(network, variant), norm, batch, form, precision)
    for _ in range(WARM_STEPS):
        step()
    result()
    told = {"task": task, "network": network, "variant": variant, "batch": batch, "form": form, "precision": precision}
    if prepare_only:
        return told | {"prepare_s": round(time.perf_counter() - began, 1)}
    on_gpu = device() == "cuda"
    play = recorded(step) if on_gpu and form != "installed" else step
    play(), once(play)
    prepared = time.perf_counter()
    times = [once(play)]
    while len(times) < LEAST_RUNS or (len(times) < MOST_RUNS and time.perf_counter() - prepared < SECONDS):
        times.append(once(play))
    told |= {"ms": round(statistics.median(times), 5), "best_ms": round(min(times), 5), "runs": len(times)}
    if on_gpu and told["ms"] < 5:
        queued = statistics.median(once(lambda: [play() for _ in range(QUEUED)]) for _ in range(5)) / QUEUED
        told["queued_ms"] = round(queued, 5)
    if on_gpu:
        told["peak_mb"] = round(torch.cuda.max_memory_reserved() / 1e6)
    told |= {"device": torch.cuda.get_device_name() if on_gpu else "cpu", "torch": torch.__version__, "result": result()}
    return told | {"prepare_s": round(prepared - began, 1)}
