"""Learns new words from few recordings: from scratch, and from a network that knows other words.

    python3 benches/recipes/fine_tuning.py --stapes target/release/stapes --data words --words yes no up down \\
        --from runs/bench12 --runs runs/few --clips 10 20 30 --picture docs/fine_tuning.svg

`words` has one folder of clips per word. The clips of each word are cut into four parts; each part is tested once, with networks that were trained on the given number of clips
of each word from the other parts, so that every clip is tested by a network that has not seen it. Prints a Markdown table with 95 % intervals. Needs Python 3.9 only.
"""

import argparse
import random
import shutil
import subprocess
from pathlib import Path

from comparison import difference, mean, right

FOLDS = 4
WAYS = {
    "scratch": "from scratch",
    "tuned": "all layers learn (`--init-from`)",
    "head": "last layer only (`--freeze all-but-head`)",
}


def lay_out(data, words, clips, fold, seed, into):
    """A data set of links: the test clips of a fold in testing_list.txt, and as many training clips of each word."""
    shutil.rmtree(into, ignore_errors=True)
    test = []
    for word in words:
        names = sorted(path.name for path in (data / word).iterdir() if path.suffix in (".wav", ".flac", ".ogg"))
        random.Random(f"{seed} {word}").shuffle(names)
        tested = names[fold::FOLDS]
        learned = [name for name in names if name not in tested][:clips]
        assert len(learned) == clips, f"{word} has only {len(learned)} clips beside those that are tested"
        test += [f"{word}/{name}" for name in tested]
        (into / word).mkdir(parents=True)
        for name in tested + learned:
            (into / word / name).symlink_to((data / word / name).resolve())
    (into / "testing_list.txt").write_text("".join(f"{name}\n" for name in test), encoding="utf-8")
    (into / "validation_list.txt").write_text("", encoding="utf-8")


def picture(curves, clips, title):
    left, top, width, height = 60, 44, 420, 260
    colours = ["#cf222e", "#0969da", "#1a7f37"]
    low = min(v[1] for curve in curves.values() for v in curve)
    low = int(low * 10) / 10
    x = lambda i: left + width * (i + 0.5) / len(clips)
    y = lambda value: top + height * (1 - (value - low) / (1 - low))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {top + height + 110}" font-family="sans-serif" font-size="13">',
        "<style>text{fill:#24292f}.grid{stroke:#d0d7de}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}}</style>",
        f'<text x="8" y="20" font-weight="bold">{title}</text>',
    ]
    tick = low
    while tick < 1.001:
        out.append(f'<line class="grid" x1="{left}" y1="{y(tick):.1f}" x2="{left + width}" y2="{y(tick):.1f}"/>')
        out.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.1f}</text>')
        tick += 0.1
    for i, count in enumerate(clips):
        out.append(f'<text x="{x(i):.1f}" y="{top + height + 18}" text-anchor="middle">{count}</text>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 36}" text-anchor="middle" font-size="11">training clips of each word</text>')
    for at, (way, curve) in enumerate(curves.items()):
        colour, shift = colours[at], 10 * (at - 1)
        points = " ".join(f"{x(i) + shift:.1f},{y(v[0]):.1f}" for i, v in enumerate(curve))
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for i, (value, bottom, up) in enumerate(curve):
            out.append(f'<line x1="{x(i) + shift:.1f}" x2="{x(i) + shift:.1f}" y1="{y(bottom):.1f}" y2="{y(up):.1f}" stroke="{colour}" stroke-width="2"/>')
            out.append(f'<circle cx="{x(i) + shift:.1f}" cy="{y(value):.1f}" r="4.5" fill="{colour}"/>')
        line = top + height + 56 + 18 * at
        out.append(f'<circle cx="{left + 6}" cy="{line - 4}" r="4.5" fill="{colour}"/><text x="{left + 18}" y="{line}">{WAYS[way].replace("`", "")}</text>')
    return "\n".join(out) + "</svg>\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--stapes", required=True, type=Path)
    arguments.add_argument("--data", required=True, type=Path)
    arguments.add_argument("--words", required=True, nargs="+")
    arguments.add_argument("--from", required=True, type=Path, dest="base", help="the run to start from")
    arguments.add_argument("--model", default="custom32-8", help="the network of that run")
    arguments.add_argument("--runs", required=True, type=Path)
    arguments.add_argument("--clips", type=int, nargs="+", default=[10, 20, 30])
    arguments.add_argument("--epochs", type=int, default=60)
    arguments.add_argument("--repeats", type=int, default=2, help="with other parts and seeds")
    arguments.add_argument("--noise", type=Path, help="folder of background noise")
    arguments.add_argument("--picture", type=Path, help="where the SVG is written")
    arguments.add_argument("--set", nargs="*", default=[], help="more settings")
    given = arguments.parse_args()
    network = ["--model", given.model]
    ways = {
        "scratch": network,
        "tuned": [*network, "--init-from", given.base],
        "head": [*network, "--init-from", given.base, "--freeze", "all-but-head"],
    }
    results = {}
    for way, options in ways.items():
        for clips in given.clips:
            answers = {}
            for seed in range(1, given.repeats + 1):
                for fold in range(FOLDS):
                    run = given.runs / f"{way}-{clips}-{seed}-{fold}"
                    if not (run / "predictions-test.csv").exists():
                        data = given.runs / "data"
                        lay_out(given.data, given.words, clips, fold, seed, data)
                        train = ["train", "--quiet", "--force", "--split", "official", "--data", data, "--epochs", str(given.epochs), "--seed", str(seed)]
                        train += ["--runs", given.runs, "--name", run.name, *options]
                        train += [word for each in given.set for word in ("--set", each)]
                        train += ["--set", f"noise_from={given.noise}"] if given.noise else []
                        subprocess.run([given.stapes, *train], check=True, stdout=subprocess.DEVNULL)
                    for clip, correct in right(run).items():
                        answers.setdefault(clip, []).append(correct)
            results[way, clips] = {clip: mean(values) for clip, values in answers.items()}
    print("| training clips of each word | " + " | ".join(WAYS.values()) + " |")
    print("|---" * (1 + len(WAYS)) + "|")
    curves = {way: [] for way in WAYS}
    for clips in given.clips:
        cells = [str(clips)]
        for way in WAYS:
            # Against nothing recognised, the difference is the accuracy.
            shares = results[way, clips]
            value, interval = difference(shares, dict.fromkeys(shares, 0.0))
            curves[way].append((value, *interval))
            cells.append(f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})")
        print("| " + " | ".join(cells) + " |")
    for clips in given.clips:
        value, interval = difference(results["tuned", clips], results["scratch", clips])
        print(f"{clips} clips: all layers - scratch {100 * value:+.1f} points ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})")
    if given.picture:
        count = len(results["tuned", given.clips[0]])
        title = f"{', '.join(given.words)}: accuracy on {count} clips, 95 % intervals"
        given.picture.write_text(picture(curves, given.clips, title), encoding="utf-8")


if __name__ == "__main__":
    main()
