"""What a training step should take on two GPUs, kernel by kernel, from what the program says of its launches; prints Markdown.

    python3 benches/gpu/roofline.py > benches/gpu/roofline.md       # asks target/release/stapes
    stapes models custom32-8 --plan --device cuda --capability 9.0 --json | python3 benches/gpu/roofline.py --plan - --card H200

Nothing here is measured on a GPU but one number, the copy rate of the H200. A launch takes the longer of its arithmetic and its bytes, and
then the gap to the next one; too few blocks for the chip's multiprocessors lengthen both its arithmetic and its copies alike. Times
thus err on the short side: tails of waves, latencies of short kernels and what does not overlap within a block are left out.
Side by side: what may run aside does, on the multiprocessors that the rest leaves; where both want more than there are, both slow
down alike, so that no work is done faster than by the whole chip.
"""

import argparse
import json
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from show import figure, percent, table


@dataclass(frozen=True)
class Card:
    """A GPU: rates that a kernel can be expected to reach, in TFLOP/s by its kind of products, and GB/s."""

    name: str
    capability: str
    sms: int
    fma: float
    split: float
    tf32: float
    bf16: float
    copy: float
    copy_l2: float
    l2_mb: float  # a launch whose bytes are fewer is taken to find them in the L2 cache
    gap_us: float  # from launch to launch inside a graph


# Sources. Peaks: NVIDIA's data sheets (H200: f32 67, dense TF32 495, dense bf16 989 TFLOP/s; RTX 4090, "Ada" white paper: f32 82.6,
# dense TF32 82.6, dense bf16 with sums in f32 165 TFLOP/s, 1,008 GB/s). mma.sync reaches about 62 % of the H200's matrix peaks (published
# measurements; the rest needs wgmma): 307 in TF32, 613 in bf16. In a kernel, by the issue slots of the loops: 75 % of
# the peak of multiply-adds, 60 % of mma.sync's (75 % on the RTX 4090, whose matrix units are slower beside the rest); a split product is
# three TF32 products: 307 / 3 = 102, 75 in a kernel, as it loads less for each; 62 / 3 = 20 on the RTX 4090, which therefore uses
# multiply-adds for f32. Copy rate of the H200: 4,300 GB/s measured by others; of the RTX 4090: 90 % of the data sheet. Rates
# within the L2 cache and gaps: estimates, to be replaced by what probe.py measures.
CARDS = (
    Card("H200", "9.0", 132, fma=50, split=75, tf32=185, bf16=370, copy=4300, copy_l2=6000, l2_mb=30, gap_us=1.5),
    Card("RTX 4090", "8.9", 128, fma=60, split=20, tf32=62, bf16=124, copy=900, copy_l2=2500, l2_mb=30, gap_us=2.0),
)
NETWORKS = (("custom32-8", "do"), ("custom64-8", "do"), ("custom128-9", "bn"), ("shrink256-9", "bn"))
BATCHES = (32, 256)
PRECISIONS = ("f32", "tf32", "bf16")
KINDS = ("fma", "split", "tf32", "bf16")


def kind(launch):
    """How its products are made, by the end of the kernel's name; what has none computes with multiply-adds."""
    last = launch["kernel"].rsplit("_", 1)[-1]
    return last if last in KINDS else "fma"


def filling(launch, card):
    """The share of the multiprocessors that have a block."""
    blocks = launch["grid"][0] * launch["grid"][1] * launch["grid"][2]
    return min(1.0, blocks / card.sms)


def expected(launch, card):
    """Microseconds of arithmetic, of bytes, and of the launch as a whole, without the gap."""
    filled = filling(launch, card)
    rate = card.copy_l2 if launch["bytes"] < card.l2_mb * 1e6 else card.copy
    arithmetic = 2 * launch["macs"] / (getattr(card, kind(launch)) * filled) / 1e6
    moved = launch["bytes"] / (rate * filled) / 1e3
    return arithmetic, moved, max(arithmetic, moved)


@dataclass
class Aside:
    """A launch on the second stream."""

    step: int
    ready: float  # us, when it may begin
    left: float  # us of work
    share: float  # of the multiprocessors


class Streams:
    """Two streams on one chip: the clock, and what waits on the second."""

    def __init__(self, gap):
        self.gap, self.now, self.aside = gap, 0.0, deque()

    def run(self, us, share):
        """A launch of the first stream, or a pause (share 0), beside what is ready on the second."""
        while us > 1e-9:
            first = self.aside[0] if self.aside else None
            if first and first.ready <= self.now:
                slower = max(1.0, share + first.share)
                length = min(us, first.left) * slower
                first.left -= length / slower
                us -= length / slower
            else:
                length = min(us, first.ready - self.now) if first else us
                us -= length
            self.now += length
            if first and first.left <= 1e-9:
                self.aside.popleft()
                if self.aside:
                    self.aside[0].ready = max(self.aside[0].ready, self.now + self.gap)

    def wait(self, step):
        """Until launches of this step and those before have ended on the second stream."""
        while self.aside and self.aside[0].step <= step:
            first = self.aside[0]
            self.run(max(first.ready - self.now, 0.0) + first.left, 0.0)


def side_by_side(launches, card):
    """Milliseconds of a step whose launches aside run beside the others, until the step after the next waits for them."""
    streams = Streams(card.gap_us)
    for launch in launches:
        step = launch["step"] if launch["step"] is not None else sys.maxsize
        us, share = expected(launch, card)[2], filling(launch, card)
        if launch["aside"]:
            ready = max(streams.now + card.gap_us, streams.aside[-1].ready if streams.aside else 0.0)
            streams.aside.append(Aside(step, ready, us, share))
            continue
        streams.wait(step - 2)
        streams.run(card.gap_us, 0.0)
        streams.run(us, share)
    streams.wait(sys.maxsize)
    return streams.now / 1e3


@dataclass(frozen=True)
class Step:
    """A step's sums: launches, floating-point operations, bytes; milliseconds of arithmetic alone, of bytes alone, of gaps, and in all,
    one after the other and side by side."""

    launches: int
    flops: int
    bytes: int
    arithmetic: float
    moved: float
    gaps: float
    whole: float
    beside: float


def step(launches, card):
    parts = [expected(launch, card) for launch in launches]
    arithmetic, moved, busy = (sum(column) / 1e3 for column in zip(*parts)) if parts else (0.0, 0.0, 0.0)
    gaps = len(launches) * card.gap_us / 1e3
    macs, moves = (sum(launch[key] for launch in launches) for key in ("macs", "bytes"))
    return Step(len(launches), 2 * macs, moves, arithmetic, moved, gaps, busy + gaps, side_by_side(launches, card))


def plan(program, network, variant, batch, precision, card):
    """The launches of a step as the program lists them."""
    command = [program, "models", network, "--variant", variant, "--plan", "train", "--device", "cuda", "--batch", str(batch)]
    command += ["--precision", precision, "--capability", card.capability, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)["launches"]


def kernel_table(launches, card):
    """A row a launch, those of the same kernel and layer apart."""
    whole = step(launches, card).whole
    rows = []
    for launch in launches:
        arithmetic, moved, us = expected(launch, card)
        bound = "launch" if us < card.gap_us else "arithmetic" if arithmetic > moved else "bytes"
        rows.append([
            launch["layer"], launch["pass"], launch["kernel"], "x".join(map(str, launch["grid"])), launch["block"],
            f"{launch.get('shared', 0) / 1024:.1f}", figure(2 * launch["macs"] / 1e6), figure(launch["bytes"] / 1e6), figure(us),
            percent((us + card.gap_us) / whole / 1e3), bound,
        ])  # fmt: skip
    heads = ["layer", "pass", "kernel", "grid", ">threads", ">shared KiB", ">MFLOP", ">MB", ">us", ">of the step", "bound by"]
    return table(heads, rows)


def steps_table(program, networks, batches, precisions, cards):
    rows = []
    for card in cards:
        for network, variant in networks:
            for batch in batches:
                for precision in precisions:
                    s = step(plan(program, network, variant, batch, precision, card), card)
                    rows.append([
                        card.name, f"{network} {variant}", batch, precision, s.launches, figure(s.flops / 1e9),
                        figure(s.bytes / 1e6), figure(s.arithmetic), figure(s.moved), figure(s.gaps), figure(s.whole),
                        figure(s.beside),
                    ])  # fmt: skip
    heads = ["card", "network", ">batch", "precision", ">launches", ">GFLOP", ">MB", ">arithmetic ms", ">bytes ms", ">gaps ms"]
    return table([*heads, ">expected ms", ">side by side ms"], rows)


def rates_table():
    keys = ("capability", "sms", "fma", "split", "tf32", "bf16", "copy", "copy_l2", "l2_mb", "gap_us")
    heads = ["card", *(f">{key}" for key in ("capability", "SMs", "multiply-adds", "split", "TF32", "bf16"))]
    heads += [">copy GB/s", ">in L2 GB/s", ">L2 MB", ">gap us"]
    return table(heads, [[card.name, *(getattr(card, key) for key in keys)] for card in CARDS])


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "target/release/stapes"
    parser.add_argument("--program", default=str(default), help="stapes; that of this checkout if not given")
    parser.add_argument("--plan", metavar="FILE", help="the kernels of one plan, as JSON, instead; - reads standard input")
    parser.add_argument("--card", choices=[card.name for card in CARDS], default=CARDS[0].name, help="for --plan")
    parser.add_argument("--networks", default=",".join(":".join(pair) for pair in NETWORKS), help="NAME:VARIANT,..")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--kernels", default="custom32-8:do:32,custom128-9:bn:256", help="NAME:VARIANT:BATCH,.. told kernel by kernel")
    return parser.parse_args()


def main():
    options = parse()
    if options.plan:
        text = sys.stdin.read() if options.plan == "-" else Path(options.plan).read_text(encoding="utf-8")
        card = next(card for card in CARDS if card.name == options.card)
        launches = json.loads(text)["launches"]
        s = step(launches, card)
        print(*kernel_table(launches, card), sep="\n")
        print(f"\n{s.launches} launches, {figure(s.flops / 1e9)} GFLOP, {figure(s.bytes / 1e6)} MB: {figure(s.whole)} ms on {card.name},")
        print(f"{figure(s.beside)} ms side by side")
        return
    networks = [tuple(pair.split(":")) for pair in options.networks.split(",")]
    batches = [int(batch) for batch in options.batches.split(",")]
    print("# Expected times of a training step on a GPU\n\nMade by `benches/gpu/roofline.py`: arithmetic on paper, not measurement.")
    print("Sources of the rates are at the head of that file; TFLOP/s that a kernel can be expected to reach, not peaks.\n")
    print(*rates_table(), "", "## Steps", "", sep="\n")
    print("Arithmetic, bytes: if there were nothing else. Expected: the longer of both for each launch, and the gaps.")
    print("Side by side: the same, with the launches aside on the multiprocessors that the others leave.\n")
    print(*steps_table(options.program, networks, batches, PRECISIONS, CARDS), sep="\n")
    for what in options.kernels.split(",") if options.kernels else []:
        network, variant, batch = what.split(":")
        for card in CARDS:
            launches = plan(options.program, network, variant, int(batch), "f32", card)
            print(f"\n## {network} {variant}, batch {batch}, f32, {card.name}\n")
            print(*kernel_table(launches, card), sep="\n")


if __name__ == "__main__":
    main()
