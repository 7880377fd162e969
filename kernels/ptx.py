#!/usr/bin/env python3
"""Makes and checks the committed PTX: kernels/ptx/NAME.ptx.xz of each kernels/NAME.cu (`xzcat` shows the text).

    kernels/ptx.py make [NAME ..]   compile with NVRTC 12.0 and write the PTX (all files, or those named)
    kernels/ptx.py check            fail where sources, or the committed text, have changed since it was made; compile again, entries must agree
    kernels/ptx.py nvcc             compile every file with nvcc 13 too; entries and parameters must agree
    kernels/ptx.py ptxas            assemble for every architecture; fail on a spill, or where kernels/registers.md differs
    kernels/ptx.py table            assemble and write kernels/registers.md

NVRTC 12.0 writes PTX of version 8.0, which every driver of CUDA 12 loads; a newer compiler's PTX would be refused by older
drivers. A file is compiled for compute_75, unless one of its first lines says `// ptx: compute_80`. The compilers come from
Python wheels and are installed into target/cuda-tools on first use (`--tools DIR` for another place). No GPU is needed.
"""

import argparse
import ctypes
import hashlib
import os
import pathlib
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

KERNELS = pathlib.Path(__file__).resolve().parent
PTX = KERNELS / "ptx"
TABLE = KERNELS / "registers.md"
NVRTC_WHEEL = "nvidia-cuda-nvrtc-cu12==12.0.140"
NVCC_WHEEL = "nvidia-cuda-nvcc==13.5.37"
NEWEST_VERSION = (8, 0)
ARCHITECTURES = (75, 80, 90, 120)
MEND = "run `python3 kernels/ptx.py make` and commit kernels/ptx"


class Trouble(Exception):
    """One sentence for the user."""


# ---- Tools ------------------------------------------------------------------------------------------------------------------


def install(wheel, tools, with_dependencies):
    """The folder the wheel is installed in; installs it there on first use."""
    folder = tools / wheel.replace("==", "-")
    if folder.is_dir():
        return folder
    try:
        tools.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble(f"the folder for compilers {tools} cannot be made ({error.strerror}); name another with --tools") from error
    fresh = pathlib.Path(tempfile.mkdtemp(prefix="install-", dir=tools))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(fresh)]
    command += [wheel] if with_dependencies else ["--no-deps", wheel]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise Trouble(
            f"the compiler {wheel} could not be installed into {folder} with pip ({lines[-1].strip()}); "
            f"make a package index reachable, or install the wheel there by hand with `pip install --target`"
        )
    try:
        fresh.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def find_one(folder, pattern):
    found = sorted(folder.glob(pattern))
    if not found:
        raise Trouble(f"{folder} has no {pattern}; remove that folder, so that it is installed anew")
    return found[0]


class Nvrtc:
    """The run-time compiler, through ctypes."""

    def __init__(self, tools):
        folder = install(NVRTC_WHEEL, tools, with_dependencies=False)
        # NVRTC opens its built-in functions by name; loading them first tells the loader where they are.
        ctypes.CDLL(str(find_one(folder, "**/libnvrtc-builtins.so*")), mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(find_one(folder, "**/libnvrtc.so*")))
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def call(self, name, *arguments):
        status = getattr(self.library, name)(*arguments)
        if status != 0:
            raise Trouble(f"{name} failed: {self.library.nvrtcGetErrorString(status).decode()}")

    def text(self, program, what):
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, buffer)
        return buffer.value.decode()

    def compile(self, source, headers):
        """The PTX of one file, as it is committed."""
        program = ctypes.c_void_p()
        names = (ctypes.c_char_p * len(headers))(*[path.name.encode() for path in headers])
        texts = (ctypes.c_char_p * len(headers))(*[path.read_bytes() for path in headers])
        self.call(
            "nvrtcCreateProgram", ctypes.byref(program), source.read_bytes(), source.name.encode(), len(headers), texts, names
        )
        options = [f"--gpu-architecture={architecture_of(source)}", "-std=c++17"]
        given = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        status = self.library.nvrtcCompileProgram(program, len(options), given)
        log = self.text(program, "ProgramLog").strip()
        if status != 0:
            raise Trouble(f"kernels/{source.name} does not compile with NVRTC:\n{log}")
        if log:
            print(log, file=sys.stderr)
        ptx = self.text(program, "PTX")
        self.call("nvrtcDestroyProgram", ctypes.byref(program))
        return tidy(ptx, source)


# ---- Texts ------------------------------------------------------------------------------------------------------------------


def sources(names=()):
    found = sorted(KERNELS.glob("*.cu"))
    if not names:
        return found
    wanted = {pathlib.Path(name).stem for name in names}
    missing = wanted - {path.stem for path in found}
    if missing:
        raise Trouble(f"there is no kernels/{sorted(missing)[0]}.cu")
    return [path for path in found if path.stem in wanted]


def architecture_of(source):
    head = source.read_text().splitlines()[:10]
    for line in head:
        match = re.match(r"//\s*ptx:\s*(compute_\d+)\s*$", line)
        if match:
            return match.group(1)
    return "compute_75"


def tidy(ptx, source):
    """Without the compiler's build number and its unused table of chips, and with a line that says where it comes from."""
    lines = [line.rstrip() for line in ptx.splitlines() if not line.startswith("//") and "nv6target" not in line]
    text = "\n".join(lines).strip() + "\n"
    version = re.search(r"^\.version (\d+)\.(\d+)", text, re.M)
    if not version or tuple(map(int, version.groups())) > NEWEST_VERSION:
        raise Trouble(f"kernels/{source.name} became PTX of another version than 8.0, which older drivers refuse")
    return f"// Made of kernels/{source.name} by kernels/ptx.py; do not edit.\n// Sources: {fingerprint(source)}, text: {digest(text)}\n{text}"


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def included(source):
    """The file and what it includes, each once."""
    found, left = {}, [source]
    while left:
        path = left.pop()
        if path in found:
            continue
        found[path] = path.read_text()
        left += [KERNELS / name for name in re.findall(r'^#include "([^"]+)"', found[path], re.M)]
    return found


def fingerprint(source):
    """A hash of the file and what it includes, without comments."""
    code = {path.name: re.sub(r"[ \t]*//.*", "", text) for path, text in included(source).items()}
    lines = [f"{name}:{line.rstrip()}" for name in sorted(code) for line in code[name].splitlines() if line.strip()]
    return digest("\n".join([architecture_of(source), *lines]))


def signatures(ptx):
    """Entry -> its parameters' types, of PTX text."""
    result = {}
    for name, parameters in re.findall(r"\.entry\s+(\w+)\s*\((.*?)\)", ptx, re.S):
        result[name] = re.findall(r"\.param\s+(?:\.align\s+\d+\s+)?(\.\w+)", parameters)
    return result


# ---- Modes ------------------------------------------------------------------------------------------------------------------


def compile_all(tools, names=()):
    headers = sorted(KERNELS.glob("*.cuh"))
    files = sources(names)
    if not files:
        return {}
    compiler = Nvrtc(tools)
    return {source: compiler.compile(source, headers) for source in files}


def make(tools, names, folder):
    folder.mkdir(exist_ok=True)
    for source, text in compile_all(tools, names).items():
        target = folder / f"{source.stem}.ptx.xz"
        if target.exists() and agrees(source, target, text):
            continue
        target.write_bytes(lzma.compress(text.encode(), check=lzma.CHECK_CRC32, preset=9 | lzma.PRESET_EXTREME))
        print(f"kernels/ptx/{target.name}: {len(signatures(text))} entries, {len(text) // 1024} KB")
    if not names and folder == PTX:
        for left_over in orphans():
            left_over.unlink()
            print(f"kernels/ptx/{left_over.name}: removed, there is no such kernel file")


def orphans():
    known = {f"{source.stem}.ptx.xz" for source in sources()}
    return [path for path in sorted(PTX.iterdir()) if path.name not in known]


def text_of(path):
    """The text of a committed file."""
    try:
        return lzma.decompress(path.read_bytes()).decode()
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise Trouble(f"kernels/ptx/{path.name} cannot be decompressed ({error}); {MEND}") from error


def agrees(source, target, text):
    """Whether what is committed was made of these sources and is as it was made, with the entries of `text`.

    The texts themselves are not compared: NVRTC depends on addresses of its own memory in some cases, so that the order of instructions
    and the width of a load differ from one compilation to the next.
    """
    committed = text_of(target)
    head = committed.split("\n", 2)
    made = len(head) == 3 and head[1] == f"// Sources: {fingerprint(source)}, text: {digest(head[2])}"
    return made and signatures(committed) == signatures(text)


def check(tools):
    for source, text in compile_all(tools).items():
        target = PTX / f"{source.stem}.ptx.xz"
        if not target.exists():
            raise Trouble(f"kernels/ptx/{target.name} is missing; {MEND}")
        if not agrees(source, target, text):
            raise Trouble(f"kernels/ptx/{target.name} was not made of kernels/{source.name} as it is now, or was edited since; {MEND}")
    for left_over in orphans():
        raise Trouble(f"kernels/ptx/{left_over.name} has no kernel file; {MEND}")
    print(f"{len(sources())} files: the committed PTX is of these kernels, and they compile")


def committed():
    """Kernel file -> its committed PTX path."""
    result = {source: PTX / f"{source.stem}.ptx.xz" for source in sources()}
    for path in result.values():
        if not path.exists():
            raise Trouble(f"kernels/ptx/{path.name} is missing; {MEND}")
    return result


def tool_environment(program):
    environment = dict(os.environ)
    environment["PATH"] = f"{program.parent}{os.pathsep}{environment.get('PATH', '')}"
    return environment


def executable(tools, name):
    program = find_one(install(NVCC_WHEEL, tools, with_dependencies=True), f"**/bin/{name}")
    program.chmod(program.stat().st_mode | 0o111)
    return program


def in_parallel(function, jobs):
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(lambda job: function(*job), jobs))


def nvcc(tools):
    program = executable(tools, "nvcc")

    def one(source, path):
        with tempfile.TemporaryDirectory() as folder:
            output = pathlib.Path(folder) / "out.ptx"
            command = [program, "-ptx", "-std=c++17", "-Werror", "all-warnings", f"-arch={architecture_of(source)}"]
            command += [source, "-o", output]
            done = subprocess.run(command, capture_output=True, text=True, env=tool_environment(program))
            if done.returncode != 0:
                raise Trouble(f"kernels/{source.name} does not compile with nvcc:\n{done.stdout}{done.stderr}")
            if signatures(output.read_text()) != signatures(text_of(path)):
                raise Trouble(f"nvcc and kernels/ptx/{path.name} disagree on entries or parameters; {MEND}")

    in_parallel(one, committed().items())
    print(f"{len(sources())} files compile with nvcc, with the same entries and parameters")


def assemble(ptxas_program, path, architecture):
    """Entry -> (registers, static shared bytes, stack bytes, spilled bytes) on one architecture."""
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / path.stem
        text.write_text(text_of(path))
        command = [ptxas_program, "-v", f"-arch=sm_{architecture}", text, "-o", pathlib.Path(folder) / "out.cubin"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble(f"ptxas refuses kernels/ptx/{path.name} for sm_{architecture}:\n{done.stdout}{done.stderr}")
    result = {}
    pattern = (
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers([^\n]*)"
    )
    for name, stack, stores, loads, registers, rest in re.findall(pattern, done.stdout + done.stderr, re.S):
        shared = re.search(r"(\d+) bytes smem", rest)
        result[name] = (int(registers), int(shared.group(1)) if shared else 0, int(stack), int(stores) + int(loads))
    missing = set(signatures(text_of(path))) - set(result)
    if missing:
        raise Trouble(f"ptxas says nothing of {sorted(missing)[0]} in kernels/ptx/{path.name}; its output has changed")
    return result


def register_table(tools):
    program = executable(tools, "ptxas")
    jobs = []
    for source, path in committed().items():
        lowest = int(architecture_of(source).removeprefix("compute_"))
        jobs += [(program, path, architecture) for architecture in ARCHITECTURES if architecture >= lowest]
    figures = {}
    for (_, path, architecture), entries in zip(jobs, in_parallel(assemble, jobs)):
        stem = path.name.removesuffix(".ptx.xz")
        for name, figure in entries.items():
            if figure[3]:
                raise Trouble(f"{name} in kernels/{stem}.cu spills {figure[3]} bytes on sm_{architecture}; use fewer registers")
            figures.setdefault((stem, name), {})[architecture] = figure
    lines = [
        "# Registers",
        "",
        "What ptxas makes of each kernel: registers a thread for each architecture, static shared memory and stack a thread in",
        "bytes. Nothing spills. Made by `python3 kernels/ptx.py table`; `kernels/ptx.py ptxas` fails where it differs.",
        "",
        "| file | kernel | " + " | ".join(f"sm_{architecture}" for architecture in ARCHITECTURES) + " | shared | stack |",
        "|---|---|" + "---|" * (len(ARCHITECTURES) + 2),
    ]
    for (stem, name), on in sorted(figures.items()):
        registers = [str(on[architecture][0]) if architecture in on else "" for architecture in ARCHITECTURES]
        shared = max(figure[1] for figure in on.values())
        stack = max(figure[2] for figure in on.values())
        lines.append(f"| {stem} | {name} | " + " | ".join(registers) + f" | {shared} | {stack} |")
    return "\n".join(lines) + "\n"


def ptxas(tools):
    text = register_table(tools)
    if not TABLE.exists() or TABLE.read_text() != text:
        raise Trouble("kernels/registers.md is not what ptxas says now; run `python3 kernels/ptx.py table` and commit it")
    print("no kernel spills; kernels/registers.md is up to date")


def table(tools):
    TABLE.write_text(register_table(tools))
    print("kernels/registers.md written")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("make", "check", "nvcc", "ptxas", "table"))
    parser.add_argument("names", nargs="*", help="make: only these kernel files")
    parser.add_argument("--tools", type=pathlib.Path, default=KERNELS.parent / "target" / "cuda-tools")
    parser.add_argument("--out", type=pathlib.Path, default=PTX, help="make: another folder for the PTX")
    given = parser.parse_args()
    try:
        if given.mode == "make":
            make(given.tools, given.names, given.out)
        else:
            {"check": check, "nvcc": nvcc, "ptxas": ptxas, "table": table}[given.mode](given.tools)
    except Trouble as trouble:
        sys.exit(f"ptx.py: {trouble}")


if __name__ == "__main__":
    main()
