"""The data of the yardstick: twelve words of Google Speech Commands, speakers disjoint between splits."""

import hashlib
import sys
import wave
from pathlib import Path

import numpy as np

CLASSES = "zero one two three four five six seven eight nine bed cat".split()
RATE_HZ = 16000
LEN_SAMPLES = 16000
SPLITS = ("training", "validation", "testing")


def which_split(file_name):
    """The split of a clip by its speaker, as the data set's own `which_set` deals it (10 % validation, 10 % testing)."""
    speaker = file_name.removesuffix(".wav").split("_nohash_")[0]
    top = 2**27 - 1
    percent = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (top + 1) * (100.0 / top)
    return "validation" if percent < 10 else "testing" if percent < 20 else "training"


def read_clip(path):
    """The 16-bit samples of a mono 16 kHz WAV file, cut or padded with zeros at the end to one second: int16 [16000]."""
    with wave.open(str(path), "rb") as wav:
        form = (wav.getnchannels(), wav.getsampwidth(), wav.getframerate())
        if form != (1, 2, RATE_HZ):
            raise ValueError(f"{path}: expected one channel of 16 bits at 16000 Hz, got channels, bytes, rate {form}")
        samples = np.frombuffer(wav.readframes(LEN_SAMPLES), "<i2")
    return np.pad(samples, (0, LEN_SAMPLES - len(samples)))


def load(folder):
    """{split: (x, labels)} with x float32 [clips, 16000] in -1..1 and labels int64 [clips], clips sorted by class and name."""
    clips = {split: ([], []) for split in SPLITS}
    for label, word in enumerate(CLASSES):
        paths = sorted(Path(folder, word).glob("*.wav"))
        if not paths:
            sys.exit(f"{folder}/{word} holds no WAV files: --data takes a folder laid out like Google Speech Commands")
        for path in paths:
            x, labels = clips[which_split(path.name)]
            x.append(read_clip(path))
            labels.append(label)
    return {
        split: (np.stack(x).astype(np.float32) / 32768, np.array(labels, np.int64)) for split, (x, labels) in clips.items()
    }


def batches(count, batch, rng):
    """Index arrays of an epoch in random order; the short last batch is dropped."""
    order = rng.permutation(count)
    return [order[i : i + batch] for i in range(0, count - batch + 1, batch)]
