"""Trains networks by one recipe with several seeds, and says how much each differs from the first.

    python3 benches/recipes/networks.py --stapes target/release/stapes --data speech_commands --runs runs/networks \\
        --networks custom32-8 recommended-s --seeds 1 2 3 -- --classes zero,one,two,three,four,five,six,seven,eight,nine,bed,cat --epochs 15

trains what is not in the folder yet, one run after the other, and prints a Markdown table: clips recognised by each seed, their mean with the 95 % interval of
`stapes eval RUN RUN ..` (over the seeds), and the difference from the first network with its 95 % interval over the speakers of the test clips (bootstrap; the seeds
are averaged before). With `--teacher RUN` every network is trained once more with this teacher (distillation). With `--validation` the
validation clips count as well: with `keep=last`, as in the recipe `best`, a run chooses nothing by them. What follows `--` is given to `stapes train`.
Needs Python 3.9 only.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from comparison import averaged, difference, mean, right


def train(given, network, teacher, seed, options):
    run = given.runs / f"{Path(network).stem}{'-distilled' if teacher else ''}-s{seed}"
    if not (run / "predictions-test.csv").exists():
        command = ["train", "--quiet", "--force", "--runs", given.runs, "--name", run.name, "--model", network, "--seed", str(seed)]
        command += ["--data", given.data] if given.data else []
        command += ["--teacher", teacher] if teacher else []
        subprocess.run([given.stapes, *command, *options], check=True, stdout=subprocess.DEVNULL)
    return run


def evaluated(given, run, splits):
    """For each clip of these splits, whether the run recognised it."""
    for split in splits:
        if not (run / f"predictions-{split}.csv").exists():
            subprocess.run([given.stapes, "eval", "--quiet", run, "--split", split], check=True, stdout=subprocess.DEVNULL)
    return {clip: is_right for split in splits for clip, is_right in right(run, split).items()}


def seconds(run):
    """The seconds of a run's epochs, validation included."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(row.get("seconds", 0) for row in map(json.loads, lines) if "epoch" in row)


def over_seeds(shares):
    """The half width of the 95 % interval of a mean over seeds (Student's t)."""
    quantiles = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
    if len(shares) not in quantiles:
        return None
    spread = (sum((share - mean(shares)) ** 2 for share in shares) / (len(shares) - 1)) ** 0.5
    return quantiles[len(shares)] * spread / len(shares) ** 0.5


def main():
    ours, options = sys.argv[1:], []
    if "--" in ours:
        ours, options = ours[: ours.index("--")], ours[ours.index("--") + 1 :]
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--stapes", required=True, type=Path)
    arguments.add_argument("--runs", required=True, type=Path)
    arguments.add_argument("--data", help="the recordings; the embedded ones if omitted")
    arguments.add_argument("--networks", required=True, nargs="+", help="names or files; the first is what the others are compared with")
    arguments.add_argument("--teacher", type=Path, help="a run of the same classes")
    arguments.add_argument("--validation", action="store_true", help="the validation clips count as well")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = arguments.parse_args(ours)
    first = None
    print("| network | seconds of a run | clips recognised | mean (95 % interval) | difference from the first (95 % interval) |\n|---|---|---|---|---|")
    for network, teacher in [(network, teacher) for network in given.networks for teacher in dict.fromkeys([None, given.teacher])]:
        runs = [train(given, network, teacher, seed, options) for seed in given.seeds]
        by_run = [evaluated(given, run, ["test", "validation"] if given.validation else ["test"]) for run in runs]
        counts, clips = [sum(clips.values()) for clips in by_run], len(by_run[0])
        shares = [count / clips for count in counts]
        half = over_seeds(shares)
        interval = "" if half is None else f" ({mean(shares) - half:.3f} to {min(mean(shares) + half, 1):.3f})"
        together = averaged(by_run)
        compared = ""
        if first is None:
            first = together
        else:
            by, (low, high) = difference(together, first)
            compared = f"{100 * by:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
        time = sorted(map(seconds, runs))[len(runs) // 2]
        name = Path(network).stem + (f", teacher {teacher.name}" if teacher else "")
        print(f"| {name} | {time:.0f} | {', '.join(map(str, counts))} of {clips} | {mean(shares):.4f}{interval} | {compared} |", flush=True)


if __name__ == "__main__":
    main()
