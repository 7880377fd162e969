"""Trains the recipe `best` without one of its parts at a time, and says what each part gives.

    python3 benches/recipes/ablation.py --stapes target/release/stapes --runs runs/ablation --picture docs/ablation.svg

trains what is not in the folder yet (13 ways, three seeds, about one and a half minutes each on two cores), and prints a Markdown table: the mean accuracy on
the embedded test clips, and the difference from the whole recipe with its 95 % interval. `--also DIR` evaluates every run on other recordings too, such as
clips of the same words that are not coded, and gives the same columns for them. Needs Python 3.9 only.
"""

import argparse
import subprocess
from pathlib import Path

from comparison import difference, mean, mean_right

# The name of each way, what it is, and the options.
WAYS = {
    "base": ("recipe `best`", []),
    "noaug": ("no augmentation", "shift=0 gain=0 polarity=0 equaliser=0 noise=0".split()),
    "shift": ("no time shift", ["shift=0"]),
    "gain": ("no gain", ["gain=0"]),
    "polarity": ("no polarity", ["polarity=0"]),
    "equaliser": ("no equaliser", ["equaliser=0"]),
    "noise": ("no noise", ["noise=0"]),
    "bn": ("no batch norm", ["--variant", "do"]),
    "dropout": ("no dropout", ["--variant", "bn"]),
    "decay": ("no weight decay", ["weight_decay=0"]),
    "schedule": ("constant rate after the warm-up", ["schedule=constant"]),
    "warmup": ("no warm-up", ["warmup=0"]),
    "plain": ("recipe `plain`, 20 epochs", ["--recipe", "plain"]),
}


# A difference below it is an arrow at the edge of the picture, which would hide the others.
LEAST = -0.15


def options(way):
    out = []
    for word in WAYS[way][1]:
        out += ["--set", word] if "=" in word else [word]
    return out


def picture(rows, title):
    """The differences as dots with their intervals, an SVG that can be read on white and on black."""
    left, width, line, top = 250, 420, 26, 40
    low = min(max(interval[0], LEAST) for _, _, interval in rows)
    high = max(max(interval[1] for _, _, interval in rows), 0)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    x = lambda value: left + width * (value - low) / (high - low)
    height = top + line * len(rows) + 34
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 90} {height}" font-family="sans-serif" font-size="13">',
        "<style>text{fill:#24292f}line{stroke:#57606a}.grid{stroke:#d0d7de}circle,path{fill:#0969da}.bar{stroke:#0969da;stroke-width:2}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}line{stroke:#8b949e}.grid{stroke:#30363d}circle,path{fill:#58a6ff}.bar{stroke:#58a6ff}}</style>",
        f'<text x="8" y="20" font-weight="bold">{title}</text>',
    ]
    bottom = top + line * len(rows)
    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1) if (high - low) / s <= 8)
    tick = -(-low // step) * step
    while tick <= high:
        out.append(f'<line class="grid" x1="{x(tick):.1f}" y1="{top}" x2="{x(tick):.1f}" y2="{bottom}"/>')
        sign = f"{100 * tick:+.1f}" if abs(tick) > 1e-9 else "0"
        out.append(f'<text x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{sign}</text>')
        tick += step
    out.append(f'<line x1="{x(0):.1f}" y1="{top}" x2="{x(0):.1f}" y2="{bottom}"/>')
    for i, (name, value, interval) in enumerate(rows):
        y = top + line * i + line / 2
        out.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{name.replace("`", "")}</text>')
        if value < LEAST:
            out.append(f'<path d="M{left} {y}l9 -5v10z"/><text x="{left + width + 12}" y="{y + 4}">{100 * value:+.1f}</text>')
            continue
        out.append(f'<line class="bar" x1="{x(interval[0]):.1f}" y1="{y}" x2="{x(interval[1]):.1f}" y2="{y}"/>')
        out.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="4.5"/>')
        out.append(f'<text x="{left + width + 12}" y="{y + 4}">{100 * value:+.1f}</text>')
    out.append(f'<text x="{left + width / 2}" y="{bottom + 32}" text-anchor="middle" font-size="11">points of accuracy</text></svg>')
    return "\n".join(out) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--stapes", required=True, type=Path)
    arguments.add_argument("--runs", required=True, type=Path)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments.add_argument("--also", type=Path, help="other recordings, on which every run is evaluated too")
    arguments.add_argument("--picture", type=Path, help="where the SVG is written")
    given = arguments.parse_args()
    for seed in given.seeds:
        for way in given.ways:
            run = given.runs / f"{way}-{seed}"
            if not (run / "predictions-test.csv").exists():
                train = ["train", "--quiet", "--force", "--model", "custom32-8", "--runs", given.runs, "--name", run.name, "--seed", str(seed)]
                subprocess.run([given.stapes, *train, *options(way)], check=True, stdout=subprocess.DEVNULL)
            if given.also and not (run / "predictions-other.csv").exists():
                subprocess.run([given.stapes, "eval", "--quiet", run, given.also], check=True, stdout=subprocess.DEVNULL)
    splits = ["test", "other"] if given.also else ["test"]
    means = {way: [mean_right([given.runs / f"{way}-{seed}" for seed in given.seeds], split) for split in splits] for way in given.ways}
    print("| | " + " | ".join("accuracy, {} clips | difference (95 % interval)".format(len(clips)) for clips in means["base"]) + " |")
    print("|---" * (1 + 2 * len(splits)) + "|")
    rows = []
    for way in given.ways:
        cells = [WAYS[way][0]]
        for split, ours, base in zip(splits, means[way], means["base"]):
            cells.append(f"{mean(ours.values()):.4f}")
            if way == "base":
                cells.append("")
                continue
            value, interval = difference(ours, base)
            cells.append(f"{100 * value:+.1f} ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})")
            if split == "test":
                rows.append((WAYS[way][0], value, interval))
        print("| " + " | ".join(cells) + " |")
    if given.picture:
        count = len(means["base"][0])
        title = f"Difference from the recipe best, {count} test clips, {len(given.seeds)} seeds, 95 % intervals"
        given.picture.write_text(picture(rows, title), encoding="utf-8")


if __name__ == "__main__":
    main()
