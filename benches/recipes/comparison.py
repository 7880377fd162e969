"""Compares runs clip by clip: differences of accuracy with intervals, from the files predictions-SPLIT.csv of run folders. Needs Python 3.9 only."""

import csv
import random
from collections import defaultdict

RESAMPLES = 10_000


def right(run, split="test"):
    """For each clip of a run's evaluation, whether it was recognised."""
    with open(run / f"predictions-{split}.csv", newline="", encoding="utf-8") as file:
        return {row["clip"]: row["label"] == row["predicted"] for row in csv.DictReader(file)}


def mean_right(runs, split="test"):
    """For each clip, the share of the runs that recognise it. All runs have the same clips."""
    return averaged([right(run, split) for run in runs])


def averaged(by_run):
    """For each clip, the share of the runs that recognise it, from what each run recognises."""
    assert all(run.keys() == by_run[0].keys() for run in by_run), "the runs were tested on other clips"
    return {clip: sum(run[clip] for run in by_run) / len(by_run) for clip in by_run[0]}


def speaker(clip):
    """The speaker of a clip, by the file names of Google Speech Commands."""
    return clip.rsplit("/", 1)[-1].split("_nohash_")[0]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def difference(ours, theirs):
    """The mean over the clips of ours - theirs, and its 95 % interval: the percentiles of resamples of whole speakers (bootstrap), because the clips
    of a speaker are not independent. The seeds are taken as given, since they are averaged before."""
    assert ours.keys() == theirs.keys(), "the runs were tested on other clips"
    groups = defaultdict(list)
    for clip in ours:
        groups[speaker(clip)].append(ours[clip] - theirs[clip])
    sums = [(sum(values), len(values)) for values in groups.values()]
    draw = random.Random(1)
    means = []
    for _ in range(RESAMPLES):
        drawn = draw.choices(sums, k=len(sums))
        means.append(sum(s for s, _ in drawn) / sum(n for _, n in drawn))
    means.sort()
    return mean(s for values in groups.values() for s in values), (means[RESAMPLES // 40], means[-RESAMPLES // 40])
