"""Trains the candidates from which recommended-s was chosen, and prints how each does on the validation clips. Test clips are not looked at.

    python3 benches/recipes/search.py --stapes target/release/stapes --data speech_commands --runs runs/search -- --epochs 8 \\
        --classes zero,one,two,three,four,five,six,seven,eight,nine,bed,cat

trains what is not in the folder yet. `--names` selects candidates, `--write DIR` writes their network files and trains nothing. What follows `--` is given to
`stapes train`. Needs Python 3.9 only.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path


def conv(channels, kernel, stride=1, pool=1):
    """A block whose convolution is dense."""
    return {"conv": channels, "kernel": kernel, "stride": stride, "pool": pool}


def sep(channels, kernel=9, pool=1, residual=False):
    """A block with a depthwise and a pointwise convolution."""
    return {**conv(channels, kernel, 1, pool), "separable": True, "residual": residual}


def same(channels, kernel, pool=1):
    """A dense block with a residual sum."""
    return {**conv(channels, kernel, 1, pool), "residual": True}


def tail(kernel, last=9):
    return [sep(96, kernel), sep(96, kernel, 3, True), sep(128, last), sep(128, last, 1, True), sep(128, last, 1, True)]


def middle(kernel=9):
    return [sep(64, kernel, 3), sep(64, kernel, 3, True)]


FIRST = conv(32, 27, 3, 3)
WIDE = conv(64, 27, 3, 3)

# The blocks of each candidate and what the head reads.
CANDIDATES = {
    "separable": ([FIRST, *middle(), *tail(9)], "average"),
    "first-63-taps": ([conv(32, 63, 3, 3), *middle(), *tail(9)], "average"),
    "first-stride-2": ([conv(32, 27, 2, 4), *middle(), *tail(9)], "average"),
    "first-48": ([conv(48, 27, 3, 3), *middle(), *tail(9, 15)], "average"),
    "first-64": ([WIDE, *middle(), *tail(9)], "average"),
    "first-64-63-taps": ([conv(64, 63, 3, 3), *middle(), *tail(9)], "average"),
    "first-64-stride-5": ([conv(64, 27, 5, 2), *middle(), *tail(9)], "average"),
    "first-64-stride-5-15-taps": ([conv(64, 27, 5, 2), *middle(), *tail(9, 15)], "average"),
    "first-96": ([conv(96, 27, 3, 3), *middle(), *tail(9)], "average"),
    "two-short-first": ([conv(32, 9, 1, 3), conv(32, 5, 1, 3), *middle(), *tail(9)], "average"),
    "first-64-13-taps": ([WIDE, *middle(13), *tail(13, 13)], "average"),
    "first-64-15-taps": ([WIDE, *middle(), *tail(9, 15)], "average"),
    "first-64-15-21-taps": ([WIDE, *middle(), *tail(15, 21)], "average"),
    "first-64-25-taps": ([WIDE, *middle(), *tail(9, 25)], "average"),
    "dense": ([FIRST, conv(64, 5, 1, 3), sep(64, 9, 3, True), *tail(9)], "average"),
    "dense-15-taps": ([FIRST, conv(64, 5, 1, 3), sep(64, 9, 3, True), *tail(9, 15)], "average"),
    "dense-25-taps": ([FIRST, conv(64, 5, 1, 3), sep(64, 9, 3, True), *tail(9, 25)], "average"),
    "dense-shorter": (
        [FIRST, conv(64, 5, 1, 3), sep(64, 9, 3, True), sep(96), sep(96, 9, 3, True), sep(128, 9, 3), sep(128, 9, 1, True)],
        "average",
    ),
    "dense-flatten": (
        [FIRST, conv(64, 5, 1, 3), sep(64, 9, 3, True), sep(96), sep(96, 9, 3, True), sep(128, 9, 3), sep(128, 9, 3, True)],
        "flatten",
    ),
    "all-dense": ([FIRST, conv(48, 5, 1, 3), conv(64, 5, 1, 3), same(64, 5, 3), same(64, 5), same(64, 5)], "average"),
}


def toml(name):
    blocks, pool = CANDIDATES[name]
    text = f'name = "{name}"\nbatch_norm = true\nhead = {{ dropout = 0.2, pool = "{pool}" }}\n'
    for block in blocks:
        text += "\n[[block]]\n"
        for key, value in block.items():
            if value is True or value is not False and (key in ("conv", "kernel") or value > 1):
                text += f"{key} = {str(value).lower()}\n"
    return text


def main():
    ours, options = sys.argv[1:], []
    if "--" in ours:
        ours, options = ours[: ours.index("--")], ours[ours.index("--") + 1 :]
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--stapes", type=Path)
    arguments.add_argument("--data", help="the recordings; the embedded ones if omitted")
    arguments.add_argument("--runs", type=Path)
    arguments.add_argument("--names", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--write", type=Path, help="where network files are written instead")
    given = arguments.parse_args(ours)
    files = given.write or given.runs
    files.mkdir(parents=True, exist_ok=True)
    print("| network | validation accuracy | validation loss | training loss |\n|---|---|---|---|")
    for name in given.names:
        file = files / f"{name}.toml"
        file.write_text(toml(name), encoding="utf-8")
        if given.write:
            continue
        run = given.runs / f"{name}-s{given.seed}"
        if not (run / "predictions-test.csv").exists():
            command = ["train", "--quiet", "--force", "--runs", given.runs, "--name", run.name, "--model", file, "--seed", str(given.seed)]
            command += ["--data", given.data] if given.data else []
            subprocess.run([given.stapes, *command, *options], check=True, stdout=subprocess.DEVNULL)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        last = [row for row in rows if "validation_loss" in row][-1]
        print(f"| {name} | {last['validation_accuracy']:.4f} | {last['validation_loss']:.3f} | {last['train_loss']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
