"""stapes itself, as side_by_side.py measures it: step times from its bench, memory from its program."""

import json
import os
import random
import re
import subprocess
import tempfile
import time
import wave
from pathlib import Path

CLASSES = 16
LISTS = ("validation_list.txt", "testing_list.txt")


def built(checkout, target, *arguments):
    """Builds a target in a checkout and returns the executable that cargo names."""
    command = ["cargo", *arguments, target, "--message-format=json"]
    lines = subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    made = [message for message in map(json.loads, lines) if message.get("target", {}).get("name") == target]
    return next(message["executable"] for message in made if message.get("executable"))


def write_clips(folder):
    """Noise of sixteen words, four clips a word: one to validate, one to test, two to train on (a batch in all)."""
    rng, lists = random.Random(1), ([], [])
    for word in range(CLASSES):
        for speaker in range(4):
            name = f"word{word:02}/speaker{speaker}_nohash_0.wav"
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(path), "wb") as wav:
                wav.setparams((1, 2, 16000, 0, "NONE", ""))
                wav.writeframes(rng.randbytes(32000))
            if speaker < len(lists):
                lists[speaker].append(name)
    for list_name, names in zip(LISTS, lists):
        Path(folder, list_name).write_text("\n".join(names) + "\n")
    return path


def peak_mb(command, environment):
    """Peak resident memory of a command, MB (10^6 bytes), asked while it runs: `wait4` would count this process's too."""
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak_kib = 0
    while child.poll() is None:
        status = Path(f"/proc/{child.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+)", status)
        peak_kib = max(peak_kib, int(found[1]) if found else 0)
        time.sleep(0.001)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command, stderr=child.stderr.read())
    return round(peak_kib * 1024 / 1e6)


class Stapes:
    """The bench and the program of a checkout, built where they are not given."""

    def __init__(self, checkout, bench, program):
        self.bench = bench or built(checkout, "steps", "bench", "--no-run", "--bench")
        self.program = program or built(checkout, "stapes", "build", "--release", "--bin")

    def times(self, case):
        """Median and best of a case, ms."""
        what = f"recognise/{case.model}" if case.recognises else f"train/{case.model}-{case.variant}"
        name = f"{what}/n{case.batch}/"
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"CRITERION_HOME": folder}
            command = [self.bench, "--bench", re.escape(name)]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        found = re.search(rf"^{re.escape(name)}\S+ +([\d.]+) ms \(best ([\d.]+)\)", done.stdout, re.MULTILINE)
        if not found:
            raise ValueError(f"the bench printed no line that begins with {name}")
        return {"median_ms": float(found[1]), "best_ms": float(found[2])}

    def memory_mb(self, case):
        """Peak of the program while it trains one step and evaluates, or while it recognises a clip."""
        with tempfile.TemporaryDirectory() as folder:
            clip = write_clips(Path(folder, "clips"))
            environment = os.environ | {"STAPES_CACHE": f"{folder}/cache", "STAPES_THREADS": str(case.threads)}
            data = ["--data", f"{folder}/clips", "--split", "official", "--epochs", "1", "--batch", str(case.batch)]
            network = ["--model", case.model, "--variant", case.variant, "--runs", folder, "--name", "run"]
            trained = peak_mb([self.program, "train", *data, *network], environment)
            return peak_mb([self.program, "predict", f"{folder}/run", clip], environment) if case.recognises else trained
