"""The least of NVRTC and of the driver that probe.py needs, by ctypes: compile, load, launch, record, time."""

import ctypes
import glob
import site
import sys
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint64, c_void_p

SM_COUNT, CLOCK_KHZ, MAJOR, MINOR, L2_BYTES = 16, 13, 75, 76, 38  # CU_DEVICE_ATTRIBUTE_..
THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


def nvrtc():
    """libnvrtc: the system's, a toolkit's, or the one that came with PyTorch."""
    folders = [*site.getsitepackages(), site.getusersitepackages(), *sys.path]
    found = [name for folder in folders for name in sorted(glob.glob(f"{folder}/nvidia/*/lib/libnvrtc.so.*"))]
    found += [name for folder in folders for name in glob.glob(f"{folder}/torch/lib/libnvrtc*.so*")]
    found += sorted(glob.glob("/usr/local/cuda*/lib64/libnvrtc.so.*"))
    for name in [*(name for name in found if "builtins" not in name), "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("libnvrtc is not found")


def compiled(source, capability):
    """A cubin for a chip of this capability, such as (9, 0). No driver is needed."""
    lib, program = nvrtc(), c_void_p()
    options = [f"--gpu-architecture=sm_{capability[0]}{capability[1]}".encode(), b"--std=c++17"]
    lib.nvrtcCreateProgram(byref(program), c_char_p(source.encode()), c_char_p(b"probe.cu"), 0, None, None)
    failed = lib.nvrtcCompileProgram(program, len(options), (c_char_p * len(options))(*options))
    size = c_size_t()
    if failed:
        lib.nvrtcGetProgramLogSize(program, byref(size))
        log = ctypes.create_string_buffer(size.value)
        lib.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"NVRTC: {log.value.decode(errors='replace')}")
    lib.nvrtcGetCUBINSize(program, byref(size))
    image = ctypes.create_string_buffer(size.value)
    lib.nvrtcGetCUBIN(program, image)
    return image.raw


class Gpu:
    """The first GPU, with a stream."""

    def __init__(self):
        self.lib = ctypes.CDLL("libcuda.so.1")
        device, context = c_int(), c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", byref(device), 0)
        self.device = device.value
        self.call("cuDevicePrimaryCtxRetain", byref(context), self.device)
        self.call("cuCtxSetCurrent", context)
        self.stream = c_void_p()
        self.call("cuStreamCreate", byref(self.stream), 1)

    def call(self, name, *arguments):
        status = getattr(self.lib, name)(*arguments)
        if status:
            raise RuntimeError(f"{name}: CUDA error {status}")

    def attribute(self, number):
        value = c_int()
        self.call("cuDeviceGetAttribute", byref(value), number, self.device)
        return value.value

    def name(self):
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, 256, self.device)
        return text.value.decode()

    def driver(self):
        value = c_int()
        self.call("cuDriverGetVersion", byref(value))
        return value.value

    def capability(self):
        return self.attribute(MAJOR), self.attribute(MINOR)

    def memory(self, size):
        """The address of so many bytes of zeros."""
        address = c_uint64()
        self.call("cuMemAlloc_v2", byref(address), c_size_t(size))
        self.call("cuMemsetD8_v2", address, 0, c_size_t(size))
        return address

    def free(self, address):
        self.call("cuMemFree_v2", address)

    def number(self, address):
        """The f32 at an address, after all work is done."""
        value = c_float()
        self.call("cuStreamSynchronize", self.stream)
        self.call("cuMemcpyDtoH_v2", byref(value), address, c_size_t(4))
        return value.value

    def load(self, image):
        """A function that gives kernels of a cubin by name."""
        module = c_void_p()
        self.call("cuModuleLoadData", byref(module), c_char_p(image))

        def kernel(name):
            function = c_void_p()
            self.call("cuModuleGetFunction", byref(function), module, c_char_p(name.encode()))
            return function

        return kernel

    def launch(self, function, blocks, threads, *arguments):
        """Arguments are ctypes values in the kernel's order."""
        slots = (c_void_p * max(len(arguments), 1))(*(ctypes.cast(ctypes.pointer(a), c_void_p) for a in arguments))
        self.call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, self.stream, slots, None)

    def seconds(self, work, runs=7):
        """The shortest time between two events around `work`, after a run to warm up."""
        first, last = c_void_p(), c_void_p()
        self.call("cuEventCreate", byref(first), 0)
        self.call("cuEventCreate", byref(last), 0)
        times = []
        for _ in range(runs + 1):
            ms = c_float()
            self.call("cuEventRecord", first, self.stream)
            work()
            self.call("cuEventRecord", last, self.stream)
            self.call("cuEventSynchronize", last)
            status = getattr(self.lib, "cuEventElapsedTime_v2", self.lib.cuEventElapsedTime)(byref(ms), first, last)
            if status:
                raise RuntimeError(f"cuEventElapsedTime: CUDA error {status}")
            times.append(ms.value / 1e3)
        return min(times[1:])

    def recorded(self, work):
        """A function that plays the launches of `work` as one graph."""
        graph, ready = c_void_p(), c_void_p()
        self.call("cuStreamBeginCapture_v2", self.stream, THREAD_LOCAL)
        work()
        self.call("cuStreamEndCapture", self.stream, byref(graph))
        self.call("cuGraphInstantiateWithFlags", byref(ready), graph, c_uint64(0))
        return lambda: self.call("cuGraphLaunch", ready, self.stream)
