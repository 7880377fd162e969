"""What the GPU can do at most, measured: copies, multiply-adds, matrix units, launches; and how the matrix units round. Prints JSON.

The kernels of probe.cu are compiled by NVRTC. Where that or the driver cannot be reached, PyTorch's copies and matrix products are used instead;
`by` says which. `--compile 9.0` only compiles, for which no GPU is needed.
"""

import functools
import json
import subprocess
import sys
from ctypes import c_float, c_int, c_uint32
from pathlib import Path

import driver

DRAM_BYTES = 1 << 30  # a copy far beyond any L2 cache
L2_BYTES = 8 << 20  # read and written: 16 MB, within the L2 cache of every data-centre chip since the A100
STEPS = 8192  # of a peak's loop
EMPTY = 200  # launches in a graph


def source():
    return Path(__file__).with_name("probe.cu").read_text(encoding="utf-8")


def copies(gpu, kernel, sms):
    """GB/s, reads and writes counted, beyond and within the L2 cache."""
    rates = {}
    for name, size, repeats in (("copy_gb_s", DRAM_BYTES, 1), ("copy_l2_gb_s", L2_BYTES, 20)):
        a, b = gpu.memory(size), gpu.memory(size)

        def work(a=a, b=b, size=size, repeats=repeats):
            for _ in range(repeats):
                gpu.launch(kernel("copy"), sms * 16, 256, a, b, c_int(size // 16))

        rates[name] = 2 * size * repeats / gpu.seconds(work) / 1e9
        gpu.free(a), gpu.free(b)
    return rates


def peaks(gpu, kernel, sms, out):
    """TFLOP/s of multiply-adds and of both matrix products, all SMs busy."""
    blocks, threads = sms * 8, 256
    warps = blocks * threads / 32

    def rate(name, flops, *arguments):
        work = lambda: gpu.launch(kernel(name), blocks, threads, out, c_int(STEPS), *arguments)
        return flops * STEPS / gpu.seconds(work) / 1e12

    one_tf32, ones_bf16 = c_uint32(0x3F800000), c_uint32(0x3F803F80)
    return {
        "fma_tflops": rate("fma_peak", 32.0 * blocks * threads, c_float(0.999), c_float(0.001)),
        "tf32_tflops": rate("tf32_peak", 8 * 2048 * warps, one_tf32),
        "bf16_tflops": rate("bf16_peak", 8 * 4096 * warps, ones_bf16),
    }


def rounding(gpu, kernel, out):
    """What happens to bits below the last place of a sum.

    Added to 1 is 1.5 * 2^-24, three quarters of the last place: rounding to nearest gives 1 + 2^-23, cutting gives 1.
    Added to -1 the same with its sign: cutting toward zero gives -1. `kept_bits`: eight products of 2^-e at once, beside 1, for growing e;
    so many binary places below the sum's last one still count before the products are added up.
    """
    told = {}
    ulp = 2.0**-23
    for name in ("tf32_sum", "bf16_sum"):

        def total(start, a, b, terms, steps, name=name):
            numbers = [c_float(start), c_float(a), c_float(b), c_int(terms), c_int(steps)]
            gpu.launch(kernel(name), 1, 32, out, *numbers)
            return gpu.number(out)

        up, down = total(1.0, 1.5, 2.0**-24, 1, 1), total(-1.0, -1.5, 2.0**-24, 1, 1)
        thousand = (total(1.0, 1.5, 2.0**-24, 1, 1000) - 1) / ulp
        way = {(1.0, -1.0): "toward zero", (1.0 + ulp, -1.0 - ulp): "to nearest", (1.0, -1.0 - ulp): "down"}
        eights = {e: (total(1.0, 1.0, 2.0**-e, 8, 1) - 1) / ulp for e in range(22, 28)}
        kept = [e - 23 for e, got in eights.items() if got > 0]
        told[name.removesuffix("_sum")] = {
            "rounds": way.get((up, down), "otherwise"),
            "one_plus": up,
            "minus_one_minus": down,
            "thousand_times_ulps": thousand,
            "eight_at_once_ulps": {str(e): got for e, got in eights.items()},
            "kept_bits": max(kept, default=None),
        }
    return told


def by_nvrtc():
    gpu = driver.Gpu()
    sms = gpu.attribute(driver.SM_COUNT)
    told = {
        "by": "NVRTC",
        "gpu": gpu.name(),
        "capability": "{}.{}".format(*gpu.capability()),
        "driver": gpu.driver(),
        "sms": sms,
        "clock_mhz": gpu.attribute(driver.CLOCK_KHZ) / 1e3,
        "l2_bytes": gpu.attribute(driver.L2_BYTES),
    }
    # In a process of its own: a compiler that crashes ends only itself.
    command = [sys.executable, __file__, "--compile", told["capability"]]
    compiled = subprocess.run(command, capture_output=True, check=False)
    if compiled.returncode:
        raise RuntimeError(f"NVRTC does not compile: {compiled.stderr.decode(errors='replace').strip()[-200:]}")
    load = gpu.load(compiled.stdout)
    kernel = functools.cache(load)
    out = gpu.memory(256)
    told |= peaks(gpu, kernel, sms, out) | copies(gpu, kernel, sms)
    empty = lambda: [gpu.launch(kernel("nothing"), 1, 32) for _ in range(EMPTY)]
    empty()
    told["launch_in_graph_us"] = gpu.seconds(gpu.recorded(empty)) / EMPTY * 1e6
    told["rounding"] = rounding(gpu, kernel, out)
    return told


def by_torch(why):
    """The same rates where PyTorch can tell them; its matrix products use the fastest instructions, which may be others than mma.sync."""
    import torch

    def seconds(work):
        times = []
        for _ in range(6):
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            work()
            last.record()
            last.synchronize()
            times.append(first.elapsed_time(last) / 1e3)
        return min(times[1:])

    facts, size = torch.cuda.get_device_properties(0), 8192
    told = {"by": f"PyTorch, because: {why}", "gpu": facts.name, "capability": f"{facts.major}.{facts.minor}"}
    told["sms"] = facts.multi_processor_count
    for name, kind, tf32 in (("fma", "float32", False), ("tf32", "float32", True), ("bf16", "bfloat16", True)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.ones(size, size, dtype=getattr(torch, kind), device="cuda") for _ in range(2))
        told[f"{name}_tflops"] = 2 * size**3 / seconds(lambda a=a, b=b: torch.mm(a, b)) / 1e12
    for name, count, repeats in (("copy_gb_s", DRAM_BYTES, 1), ("copy_l2_gb_s", L2_BYTES, 20)):
        a, b = (torch.zeros(count // 4, device="cuda") for _ in range(2))
        work = lambda a=a, b=b, repeats=repeats: [b.copy_(a) for _ in range(repeats)]
        told[name] = 2 * count * repeats / seconds(work) / 1e9
    return told


def main():
    if sys.argv[1:2] == ["--compile"]:
        major, minor = sys.argv[2].split(".")
        sys.stdout.buffer.write(driver.compiled(source(), (int(major), int(minor))))
        return
    try:
        told = by_nvrtc()
    except (OSError, RuntimeError, AttributeError) as error:
        told = by_torch(str(error).strip().replace("\n", " ")[:200])
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
