"""Makes tables of what run.sh measured: reads measured.jsonl in a folder, prints Markdown, and writes it to results-CHIP-DATE.md there.

Whatever is missing is left out or said; exit status 1 if a part went wrong. `--kernels N`: so many of the slowest kernels of a step.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

from show import figure, percent, table, times

PRECISIONS = ("f32", "tf32", "bf16")
# Which measured peak bounds the kernels whose names end so; others compute on the units of fma. A split product is three TF32 products.
PEAKS = {"fma": ("fma_tflops", 1), "split": ("tf32_tflops", 1 / 3), "tf32": ("tf32_tflops", 1), "bf16": ("bf16_tflops", 1)}
L2_SHARE = 0.5  # a kernel whose bytes fill less of the L2 cache is held against the copy rate in it, where its repetitions find them


def read(folder):
    """The lines that can be read, and how many cannot."""
    lines, broken = [], 0
    file = folder / "measured.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            broken += 1
    return lines, broken


class Measured:
    """The lines by part."""

    def __init__(self, lines):
        self.lines = lines
        torch = self.value("torch")
        self.torch = [torch] if isinstance(torch, dict) else torch or []
        self.probe = self.value("probe") or {}

    def of(self, part):
        return [line for line in self.lines if line.get("part") == part]

    def value(self, part):
        return next((line["value"] for line in self.of(part) if line.get("value")), None)

    def steps(self):
        """(key, what stapes' bench printed), in the order of the measurements."""
        for line in self.of("steps"):
            if isinstance(line.get("value"), dict):
                yield line["key"], line["value"]

    def peers(self, task, network, variant, batch, precision):
        """The fastest tuned form and the installed one; none where there is none."""
        kinds = {precision, "bf16-pure"} if precision == "bf16" else {precision}
        wanted = {"task": task, "network": network, "variant": variant, "batch": batch}
        mine = [t for t in self.torch if t.get("ms") and all(t.get(k) == v for k, v in wanted.items())]
        mine = [t for t in mine if t.get("precision") in kinds]
        tuned = [t for t in mine if t["form"] != "installed"]
        return min(tuned, key=lambda t: t["ms"], default=None), next((t for t in mine if t["form"] == "installed"), None)

    def chip(self):
        devices = (self.value("devices") or {}).get("cuda", [])
        names = [d["facts"]["chip"] for d in devices if "facts" in d] + [self.probe.get("gpu")]
        names += [bench.get("gpu") for _, bench in self.steps()] + [t.get("device") for t in self.torch]
        return next((name for name in names if name), "no GPU")


def form(peer):
    if not peer:
        return "-"
    return peer["form"] + (", pure" if peer["precision"] == "bf16-pure" else "")


def ratio(peer, seconds):
    return peer["ms"] / (1e3 * seconds) if peer and seconds else None


def parts(measured):
    """What went wrong, and how long all took."""
    rows = []
    for line in measured.lines:
        rc = line.get("rc", 1)
        if rc == 0:
            continue
        how = "stopped at its limit" if rc == 124 else f"exit status {rc}"
        last = (line.get("tail") or "").strip().splitlines()
        name = " ".join([line.get("part", "?"), *map(str, line.get("key", {}).values())])
        rows.append([name, how, f"{line.get('seconds', 0):.1f}", (last or [""])[-1][:120].replace("|", "/")])
    seconds = sum(line.get("seconds", 0) for line in measured.lines if line.get("part") != "warm")
    text = [f"{len(measured.lines)} parts in {seconds:.0f} s; {len(rows)} did not end well."]
    return text + ([""] + table(["part", "how it ended", ">s", "its last words"], rows) if rows else [])


def chip(measured):
    facts = next((d["facts"] for d in (measured.value("devices") or {}).get("cuda", []) if "facts" in d), {})
    p = measured.probe
    lines = [f"- GPU: {measured.chip()}, compute capability {facts.get('capability', p.get('capability', '-'))}"]
    smi = measured.of("gpu")
    lines += [f"- nvidia-smi: {row}" for line in smi for row in (line.get("tail") or "").splitlines() if line["rc"] == 0]
    if facts:
        lines.append(f"- stapes: {facts.get('kernels')} kernels loaded, f32 by {facts.get('f32_products')}")
    if p:
        rate = lambda name, unit: f"{figure(p.get(name))} {unit}"
        lines += [
            f"- copies: {rate('copy_gb_s', 'GB/s')}, within the L2 cache {rate('copy_l2_gb_s', 'GB/s')} (by {p.get('by')})",
            f"- peaks: multiply-adds {rate('fma_tflops', 'TFLOP/s')}, TF32 {rate('tf32_tflops', 'TFLOP/s')}, "
            f"bf16 {rate('bf16_tflops', 'TFLOP/s')}",
            f"- a launch inside a graph: {rate('launch_in_graph_us', 'us')}",
        ]
        for name, r in (p.get("rounding") or {}).items():
            lines.append(f"- sums of the matrix units, {name}: rounded {r.get('rounds')}, {r.get('kept_bits')} further bits kept")
    versions = {t["torch"] for t in measured.torch if t.get("torch")}
    return lines + [f"- PyTorch: {version}" for version in sorted(versions)]


def conformance(measured):
    """A row an op, a column a precision: the error that comes nearest to its tolerance."""
    worst, counts = {}, {}
    for line in measured.of("conformance"):
        precision = line["key"].get("precision", "?")
        rows = line.get("value") if isinstance(line.get("value"), list) else []
        counts[precision] = (len(rows), sum(not share(row) <= 1 for row in rows))
        for row in rows:
            of = worst.setdefault(row["op"], {})
            if precision not in of or share(row) > share(of[precision]):
                of[precision] = row
    if not counts:
        return ["Not run."]
    said = [f"{p}: {n} tensors, {wrong} beyond their tolerance" for p, (n, wrong) in counts.items()]
    cell = lambda row: "-" if row is None else f"{number(row):.1e} of {row['tolerance']:.0e}" + ("" if share(row) <= 1 else " !")
    rows = [[op, *(cell(of.get(p)) for p in counts)] for op, of in worst.items()]
    beyond = [
        f"- {p}, {op}, {of[p]['case']}, {of[p]['tensor']}: {number(of[p]):.2e}, tolerance {of[p]['tolerance']:.0e}"
        for op, of in worst.items()
        for p in of
        if not share(of[p]) <= 1
    ]
    return ["; ".join(said) + ".", "", *table(["op", *(f">{p}" for p in counts)], rows), *([""] + beyond if beyond else [])]


def number(row):
    """An error; JSON has no infinity, which is written as null."""
    return float("inf") if row.get("error") is None else row["error"]


def share(row):
    return number(row) / row["tolerance"] if row["tolerance"] else (0.0 if number(row) == 0 else float("inf"))


def sanitizers(measured):
    rows = []
    for line in measured.of("sanitizer"):
        value = line.get("value")
        if isinstance(value, dict) and "missing" in value:
            return [value["missing"] + "."]
        summary = re.findall(r"(?:ERROR|RACECHECK) SUMMARY:.*", line.get("tail") or "")
        verdict = summary[-1] if summary else f"no verdict, exit status {line['rc']}"
        rows.append([line["key"].get("tool"), line["key"].get("precision", "-"), verdict])
    return table(["tool", "precision", "verdict"], rows) if rows else ["Not run."]


def training(measured):
    """A row a step."""
    rows = []
    for key, bench in measured.steps():
        if key["batch"] == 1:
            continue
        seconds, kernels = bench.get("step_seconds"), bench.get("kernels", [])
        tuned, installed = measured.peers("train", key["network"], key["variant"], key["batch"], key["precision"])
        flops, busy = sum(2 * k["macs"] for k in kernels), sum(k["seconds"] for k in kernels)
        rows.append([
            f"{key['network']} {key['variant']}", key["batch"], key["precision"], figure(milli(seconds)),
            figure(tuned and tuned["ms"]), form(tuned), figure(installed and installed["ms"]),
            times(ratio(tuned, seconds)), times(ratio(installed, seconds)),
            figure(flops / seconds / 1e12 if seconds else None),
            percent(max(0, 1 - busy / seconds) if seconds else None), figure(milli(bench.get("step_in_run_seconds"))), figure(milli(bench.get("step_from_host_seconds"))),
        ])  # fmt: skip
    heads = ["network", ">batch", "precision", ">stapes ms", ">PyTorch tuned ms", "form", ">as installed ms", ">tuned / stapes"]
    heads += [">installed / stapes", ">TFLOP/s", ">gaps", ">in a run ms", ">from host ms"]
    return table(heads, rows) if rows else ["Not measured."]


def milli(seconds):
    return None if seconds is None else 1e3 * seconds


def recognition(measured):
    rows = []
    for key, bench in measured.steps():
        seconds = bench.get("recognise_seconds")
        tuned, installed = measured.peers("recognise", key["network"], key["variant"], key["batch"], key["precision"])
        rows.append([
            f"{key['network']} {key['variant']}", key["batch"], key["precision"], figure(milli(seconds)),
            figure(tuned and tuned["ms"]), form(tuned), figure(installed and installed["ms"]),
            times(ratio(tuned, seconds)), times(ratio(installed, seconds)),
        ])  # fmt: skip
    heads = ["network", ">batch", "precision", ">stapes ms", ">PyTorch tuned ms", "form", ">as installed ms"]
    return table([*heads, ">tuned / stapes", ">installed / stapes"], rows) if rows else ["Not measured."]


def least_seconds(kernel, probe):
    """The time that the measured peaks allow, and what bounds it; none if they are not known."""
    name, factor = PEAKS.get(kernel["kernel"].rsplit("_", 1)[-1], PEAKS["fma"])
    small = kernel["bytes"] < L2_SHARE * probe.get("l2_bytes", 50e6)
    copy = probe.get("copy_l2_gb_s" if small else "copy_gb_s")
    if not probe.get(name) or not copy:
        return None, "-"
    work, moved = 2 * kernel["macs"] / (probe[name] * factor * 1e12), kernel["bytes"] / (copy * 1e9)
    return max(work, moved), name.removesuffix("_tflops") if work > moved else "L2 copy" if small else "copy"


def kernels(measured, most):
    """The slowest kernels of each step, beside what the chip allows."""
    lines = []
    for key, bench in measured.steps():
        all_of = bench.get("kernels", [])
        if key["batch"] == 1 or not all_of:
            continue
        busy = sum(k["seconds"] for k in all_of)
        least = [least_seconds(k, measured.probe)[0] for k in all_of]
        whole = percent(sum(least) / busy) if None not in least and busy else "-"
        title = f"{key['network']} {key['variant']}, batch {key['batch']}, {key['precision']}"
        lines += ["", f"### {title}", "", f"{len(all_of)} kernels, {figure(1e3 * busy)} ms by themselves, {whole} of the roofline.", ""]
        rows = []
        for k in sorted(all_of, key=lambda k: -k["seconds"])[:most]:
            bound, by = least_seconds(k, measured.probe)
            seconds = k["seconds"] or float("nan")
            rows.append([
                k["layer"], k["pass"], k["kernel"], figure(1e6 * seconds), percent(seconds / busy),
                figure(2 * k["macs"] / seconds / 1e12), figure(k["bytes"] / seconds / 1e9),
                percent(bound / seconds if bound else None), by,
            ])  # fmt: skip
        heads = ["layer", "pass", "kernel", ">us", ">of the step", ">TFLOP/s", ">GB/s", ">of roofline", "bound by"]
        lines += table(heads, rows)
    return lines[1:] or ["Not measured."]


def trained(measured):
    rows = []
    for line in measured.of("train"):
        value, key = line.get("value"), line["key"]
        if isinstance(value, dict):
            test = value.get("test") or {}
            shares = [value.get("validation_accuracy"), test.get("accuracy")]
            said = [f"{s:.4f}" if s is not None else "-" for s in shares]
            rows.append([key.get("device"), key.get("precision"), value.get("epochs"), *said, figure(value.get("seconds"))])
    return table(["device", "precision", ">epochs", ">validation", ">test", ">s"], rows) if rows else ["Not run."]


def missing(measured):
    rows = [t for t in measured.torch if t.get("error")]
    return [
        f"- {t.get('task')} {t.get('network')}, batch {t.get('batch')}, {t.get('form')}, {t.get('precision')}: {t['error'][:120]}"
        for t in rows
    ] or ["None."]


def report(folder, most):
    """The whole text, the chip's name, and whether all went well."""
    lines, broken = read(folder)
    measured = Measured(lines)
    sections = [
        ("Parts", parts(measured) + (["", f"Lines that could not be read: {broken}."] if broken else [])),
        ("Chip", chip(measured)),
        ("Kernels against the formulas in double precision", conformance(measured)),
        ("compute-sanitizer", sanitizers(measured)),
        ("A training step", training(measured)),
        ("Recognition", recognition(measured)),
        ("Training on the built-in recordings", trained(measured)),
        ("Kernels", kernels(measured, most)),
        ("PyTorch: what could not be measured", missing(measured)),
    ]
    text = [f"# {measured.chip()}, {time.strftime('%Y-%m-%d')}", ""]
    text.append("Made by `benches/gpu/run.sh`; `benches/gpu/README.md` says what the numbers mean.")
    for title, body in sections:
        text += ["", f"## {title}", "", *body]
    well = bool(lines) and not broken and all(line.get("rc") == 0 for line in lines if line.get("part") != "warm")
    return "\n".join(text) + "\n", measured.chip(), well


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kernels", type=int, default=8, metavar="N")
    options = parser.parse_args()
    text, name, well = report(options.folder, options.kernels)
    name = re.sub(r"[^a-z0-9]+", "-", name.lower().replace("nvidia", "")).strip("-") or "unknown"
    (options.folder / f"results-{name}-{time.strftime('%Y-%m-%d')}.md").write_text(text, encoding="utf-8")
    print(text, end="")
    sys.exit(not well)


if __name__ == "__main__":
    main()
