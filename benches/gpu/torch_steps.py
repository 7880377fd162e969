"""Training steps and recognition of the study's networks in PyTorch, as installed and as fast as it goes; a line of JSON each.

Every configuration runs in a process of its own under a time limit; a line tells of one that fails. What matters most comes first, and
what --seconds leaves no time for is named at the end. `--warm` only compiles, several at once, so that a later run finds its compiled
kernels in PyTorch's cache. `--try` is for a machine without a GPU: two clips, one timed step.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from itertools import chain, product

# Only loaded here, and no GPU touched: children are forked, so that they need not load PyTorch again.
import torch_forms as forms

NETWORKS = (("custom32-8", "do"), ("custom128-9", "bn"), ("custom64-8", "do"), ("shrink256-9", "bn"))
BATCHES = (32, 256)
RECOGNISED = (256, 32, 1)
PLAIN = (("graph", "f32"), ("graph", "tf32"), ("graph", "bf16"), ("graph", "bf16-pure"), ("graph-ncl", "f32"), ("graph-ncl", "tf32"))
INSTALLED = (("installed", "f32"), ("installed", "tf32"), ("installed", "bf16"))
COMPILED = ("f32", "tf32", "bf16-pure", "bf16")
WARM_MEMORY = 0.2  # share of the GPU's memory for each process of --warm: something else runs beside them
GRACE = 2  # seconds that a process has to end by itself


def jobs(options):
    """Lists of (task, network, variant, batch, form, precision), one list a process, the most important first."""
    networks = [(name, variant) for name, variant in NETWORKS if name in options.networks]
    plain = [form for form in PLAIN if form[0] in options.forms]
    installed = [form for form in INSTALLED if form[0] in options.forms]
    if not options.warm:
        for name, batch in product(networks, options.batches):
            yield [("train", *name, batch, *form) for form in plain + installed]
        # Without the layout that serves only f32, to save time.
        forms_here = [form for form in plain + installed if form[0] != "graph-ncl"]
        for name in networks:
            yield [("recognise", *name, batch, *form) for batch in options.recognised for form in forms_here]
    if "compile" in options.forms:
        for batch, name, precision in product(options.batches, networks, COMPILED):
            yield [("train", *name, batch, "compile", precision)]
        for name, precision in product(networks, ("f32", "bf16-pure")):
            yield [("recognise", *name, batch, "compile", precision) for batch in options.recognised]
    if "autotune" in options.forms:
        for name, precision in product(networks, COMPILED):
            yield [("train", *name, options.batches[0], "autotune", precision)]


def child(pipe, job, warm):
    """Measures the configurations of a job, one after the other; one that fails does not end the others."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()  # so that what it starts to compile ends with it
    if warm and forms.device() == "cuda":
        forms.torch.cuda.set_per_process_memory_fraction(WARM_MEMORY)
    for what in job:
        try:
            told = forms.measure(*what, prepare_only=warm)
        except Exception as error:  # whatever it is, it is told
            told = failed(what, f"{type(error).__name__}: {str(error).strip()[:300]}")
            traceback.print_exc()
        pipe.send(told)
        if forms.device() == "cuda":
            forms.torch.cuda.empty_cache()
    pipe.close()


def failed(what, why):
    keys = ("task", "network", "variant", "batch", "form", "precision")
    return dict(zip(keys, what)) | {"error": why}


class Running:
    """A job in its process."""

    def __init__(self, job, limit, warm):
        processes = multiprocessing.get_context("fork")
        self.job, self.limit, self.end, self.done = job, limit, time.monotonic() + limit, 0
        self.pipe, theirs = processes.Pipe(duplex=False)
        self.process = processes.Process(target=child, args=(theirs, job, warm))
        self.process.start()
        theirs.close()

    def results(self, wait):
        """Whatever has been measured within `wait` seconds; then whether it goes on."""
        told = []
        try:
            while self.pipe.poll(wait):
                told.append(self.pipe.recv())
                wait = 0
        except EOFError:
            return told, False
        return told, time.monotonic() < self.end

    def stop(self):
        """Ends the process; why what it has not measured is missing."""
        late = time.monotonic() >= self.end
        self.process.join(0 if late else GRACE)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
            except ProcessLookupError:
                self.process.kill()  # it has ended, or does not lead its group yet
            self.process.join(GRACE)
        return f"stopped after {self.limit:.0f} s" if late else f"its process ended with {self.process.exitcode}"


def run(options):
    waiting = [job for job in jobs(options) if job]
    end = time.monotonic() + options.seconds
    running = []
    try:
        while running or waiting:
            left = end - time.monotonic()
            while waiting and left > 3 and len(running) < (options.at_once if options.warm else 1):
                running.append(Running(waiting.pop(0), min(options.limit, left), options.warm))
            if not running:
                break
            for one in list(running):
                follow(one, running, 0.2 / len(running))
    finally:
        for one in running:
            one.end = 0
            one.stop()
    for what in chain.from_iterable(waiting):
        print(json.dumps(failed(what, "no time was left")), flush=True)


def follow(one, running, wait):
    """Prints what a process has measured; takes it from those that run if it has ended or is late."""
    told, goes_on = one.results(wait)
    for line in told:
        one.done += 1
        print(json.dumps(line), flush=True)
    if not goes_on:
        running.remove(one)
        why = one.stop()
        for what in one.job[one.done :]:
            print(json.dumps(failed(what, why)), flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    some = lambda text: tuple(text.split(","))
    numbers = lambda text: tuple(map(int, text.split(",")))
    parser.add_argument("--seconds", type=float, default=180, help="for everything")
    parser.add_argument("--limit", type=float, default=45, help="seconds for one process")
    parser.add_argument("--networks", type=some, default=tuple(name for name, _ in NETWORKS))
    parser.add_argument("--batches", type=numbers, default=BATCHES)
    parser.add_argument("--recognised", type=numbers, default=RECOGNISED, help="batches that are recognised")
    parser.add_argument("--forms", type=some, default=forms.FORMS)
    parser.add_argument("--warm", action="store_true", help="only compile")
    parser.add_argument("--at-once", type=int, default=4, help="processes of --warm")
    parser.add_argument("--try", action="store_true", dest="trial", help="two clips, one timed step")
    options = parser.parse_args()
    if options.trial:
        options.batches, options.recognised = (2,), (2,)
        forms.LEAST_RUNS, forms.SECONDS, forms.WARM_STEPS = 1, 0, 1
    return options


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(124))
    run(parse())
