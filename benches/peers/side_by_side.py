"""Times stapes and its peers in turn, each in a process of its own, and prints what a step takes and the ratios."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from stapes_peer import Stapes

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Case:
    """What is timed: a training step, or the recognition of one clip."""

    name: str
    model: str
    variant: str
    batch: int
    threads: int = 2
    recognises: bool = False

    def title(self):
        if self.recognises:
            return f"recognise one clip, {self.model}, {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"training step, {self.model} {self.variant}, batch {self.batch}, {self.threads} threads"


@dataclass(frozen=True)
class Peer:
    """An environment's Python with the modules it needs, or (without modules) a program built in the folder of its name."""

    name: str
    environment: str = ""
    modules: tuple = ()
    trains: bool = True
    recognises: bool = False

    def does(self, case):
        if case.recognises:
            return self.recognises
        return self.trains and (bool(self.modules) or case.model == "custom32-8")

    def executable(self, environments):
        if self.modules:
            return environments / self.environment / "bin" / "python"
        return HERE / self.name / "target" / "release" / f"{self.name}-step"

    def installed(self, environments):
        program = self.executable(environments)
        if not program.exists() or not self.modules:
            return program.exists()
        look = "import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))"
        return subprocess.run([program, "-c", look, *self.modules]).returncode == 0

    def run(self, case, options):
        """Its report on a case."""
        command, environment = [self.executable(options.environments)], dict(os.environ)
        if self.modules:
            command += [HERE / ("recognise.py" if case.recognises else "step.py"), "--framework", self.name]
            command += ["--model", case.model, "--threads", case.threads, "--seconds", options.seconds]
            command += [] if case.recognises else ["--variant", case.variant, "--batch", case.batch]
        else:
            command += [options.seconds]
            environment["RAYON_NUM_THREADS"] = str(case.threads)
        done = subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])


CASES = (
    Case("custom32-8", "custom32-8", "do", 32),
    Case("custom64-8", "custom64-8", "do", 32),
    Case("custom128-9", "custom128-9", "do+bn", 32),
    Case("shrink256-9", "shrink256-9", "do+bn", 8),
    Case("vgg64-16", "vgg64-16", "do", 32),
    Case("baseline", "baseline", "do", 32),
    Case("recognise-1", "custom32-8", "do", 1, threads=1, recognises=True),
    Case("recognise-2", "custom32-8", "do", 1, threads=2, recognises=True),
)
PEERS = (
    Peer("torch", "torch", ("torch", "numpy"), recognises=True),
    Peer("torch-default", "torch", ("torch", "numpy"), recognises=True),
    Peer("tf", "tf", ("tensorflow", "numpy")),
    Peer("jax", "jax", ("jax", "numpy")),
    Peer("onnx", "onnx", ("onnx", "onnxruntime", "numpy"), trains=False, recognises=True),
    Peer("litert", "tf", ("tensorflow", "ai_edge_litert", "numpy"), trains=False, recognises=True),
    Peer("candle"),
    Peer("burn"),
)


def chosen(names, all_of):
    """Those of a list that are named, in the list's order."""
    wanted, known = names.split(","), [one.name for one in all_of]
    for name in wanted:
        if name not in known:
            raise argparse.ArgumentTypeError(f"nothing is called {name}; there are {', '.join(known)}")
    return [one for one in all_of if one.name in wanted]


def parse():
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option, those in (("--cases", CASES), ("--peers", PEERS)):
        names = ",".join(one.name for one in those)
        some = lambda text, those=those: chosen(text, those)
        parser.add_argument(option, type=some, default=those, metavar="A,B,..", help=f"some of {names}; all if not given")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is run")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long a peer is timed in a round; three steps at least")
    parser.add_argument("--environments", type=Path, default=Path.home() / "peers", help="folder of the virtual environments")
    parser.add_argument("--stapes", type=Path, default=HERE.parents[1], help="checkout to build and measure; this one if not given")
    parser.add_argument("--bench", type=Path, help="its bench, if built already: target/release/deps/steps-..")
    parser.add_argument("--program", type=Path, help="its program, if built already; for the memory that it uses")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round to this file")
    return parser.parse_args()


def attempt(work):
    """What `work` returns, or why it failed in a line."""
    try:
        return work()
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or [f"exit code {error.returncode}"]
        return f"failed: {lines[-1][:100]}"
    except (OSError, ValueError) as error:
        return f"failed: {error}"


def measure(case, stapes, contenders, options):
    """{name: reports of all rounds, or why there are none}; every second round goes through the names backwards."""
    results = {peer.name: ([] if installed else "not installed") for peer, installed in contenders.items()}
    runs = {peer.name: (lambda peer=peer: peer.run(case, options)) for peer in contenders}
    results, runs = {"stapes": []} | results, {"stapes": lambda: stapes.times(case)} | runs
    for number in range(options.rounds):
        for name in list(runs) if number % 2 == 0 else reversed(runs):
            if isinstance(results[name], list):
                print(f"{case.name}: round {number + 1} of {options.rounds}, {name}", file=sys.stderr, flush=True)
                report = attempt(runs[name])
                results[name] = report if isinstance(report, str) else [*results[name], report]
    memory = attempt(lambda: stapes.memory_mb(case))
    if isinstance(results["stapes"], list):
        results["stapes"] = [report | {"peak_mb": memory} for report in results["stapes"]]
    return results


def rows(results):
    """A case's rows: the fastest first, then those without a figure."""
    timed = {name: reports for name, reports in results.items() if isinstance(reports, list)}
    median = {name: statistics.median(report["median_ms"] for report in reports) for name, reports in timed.items()}
    for name in sorted(median, key=median.get):
        best = min(report["best_ms"] for report in timed[name])
        peaks = [report["peak_mb"] for report in timed[name] if isinstance(report["peak_mb"], int)]
        ratio = f"{median[name] / median['stapes']:.2f}" if "stapes" in median else "-"
        yield f"{name:<14} {median[name]:>11.2f} {best:>10.2f} {max(peaks, default='-'):>9} {ratio:>13}"
    for name, reports in results.items():
        if isinstance(reports, str):
            yield f"{name:<14} {reports}"


def machine():
    """The processor, in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    return f"{model}, {len(os.sched_getaffinity(0))} cores to use, load {os.getloadavg()[0]:.1f} at the start"


def main():
    options = parse()
    stapes = Stapes(options.stapes, options.bench, options.program)
    installed = {peer: peer.installed(options.environments) for peer in options.peers}
    report = {"machine": machine(), "rounds": options.rounds, "seconds": options.seconds, "cases": []}
    print(report["machine"])
    print(f"\n{'':<14} {'median ms':>11} {'best ms':>10} {'peak MB':>9} {'peer / stapes':>13}")
    cores = os.sched_getaffinity(0)
    for case in options.cases:
        contenders = {peer: there for peer, there in installed.items() if peer.does(case)}
        if case.threads == 1:
            os.sched_setaffinity(0, {min(cores)})  # the bench has two threads; on one core they count as one
        results = measure(case, stapes, contenders, options)
        os.sched_setaffinity(0, cores)
        print(case.title(), *rows(results), "", sep="\n", flush=True)
        report["cases"].append({"case": case.name, "title": case.title(), "results": results})
        if options.json:
            options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
