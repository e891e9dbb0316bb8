#!/usr/bin/env python3
"""Writes compiling.ld: which functions are run when a model is compiled, so that the linker puts them side by side.

A quarter of the code of `nnc` is in functions that are run when it compiles one network or another, but they are scattered
over all of it, and the kernel maps code by 64 KiB: three quarters are in memory then. Side by side, those first that most
networks need, it is little more than that quarter, and a cold start reads less from the disk.

Functions are found by running the command under valgrind, for each network of NETWORKS and each target of TARGETS. A name
ends in a hash that changes with the compiler and with every dependency. The list has a star there, unless that would bring in
instances of a generic function that nobody runs: then it has the hash. A name that is no longer there is ignored by the
linker, and a function that is not listed goes where it went before: an old list costs memory and nothing else. Make it anew
when Cranelift or the compiler's structure has changed:

    cargo build --release -p nnc && python3 compiler/link/record.py target/release/nnc
"""

import collections
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

NETWORKS = ["mobilenet-v2", "squeezenet-1.1", "shufflenet-v1", "shufflenet-v2", "nasnet-a-mobile", "resnet-18", "alexnet"]
TARGETS = ["x86-64-v3", "x86-64-v4"]

HEAD = """/* Functions that are run when a model is compiled and run, side by side. Written by record.py, which says why. */
SECTIONS {
  .text.compiling : {
"""
TAIL = "  }\n} INSERT BEFORE .text;\n"


def executed(nnc, arguments, folder):
    """Mangled names of the functions that a command runs."""
    with tempfile.NamedTemporaryFile(dir=folder, mode="r") as trace:
        tool = ["valgrind", "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={trace.name}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*tool, nnc, *arguments], check=True, **quiet)
        # A line "fn=(21) name" says whose costs follow, "cfn=" whom it calls; later, the number alone stands for the name.
        names = re.findall(r"^c?fn=\(\d+\) (.+)$", pathlib.Path(trace.name).read_text(), re.MULTILINE)
    return {name.split("'")[0] for name in names}  # callgrind marks recursion so


def defined(nnc):
    """Mangled names of all functions of the command."""
    symbols = subprocess.run(["nm", "--defined-only", nnc], check=True, capture_output=True, text=True).stdout
    return {name for _, kind, name in map(str.split, symbols.splitlines()) if kind in "tT"}


def star(name):
    """The name without what changes from build to build, or nothing for a name that is not Rust's."""
    if name.startswith("_ZN"):
        return re.sub(r"17h[0-9a-f]{16}E.*$", "17h*", name)
    if name.startswith("_R"):
        return re.sub(r"(Cs)[0-9a-zA-Z]+_", r"\1*_", name)
    return None


def exact(name):
    """The name without what the linker or LLVM add to it."""
    return re.sub(r"(17h[0-9a-f]{16}E).*$", r"\1*", name)


def runs(folder):
    """The commands whose functions are recorded, and of how many networks that tells."""
    for network in NETWORKS:
        for target in TARGETS:
            program = folder / f"{network}-{target}.so"
            yield ["compile", folder / f"{network}.onnx", "--target", target, "-o", program], 1
    # What loads code into memory and runs it is the same for all.
    bench = ["bench", folder / f"{NETWORKS[0]}.onnx", "--threads", "1", "--seconds", "0.01"]
    yield bench, len(NETWORKS) * len(TARGETS)


def main():
    nnc = pathlib.Path(sys.argv[1]).resolve()
    uses = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for network in NETWORKS:
            write = [nnc, "models", "write", network, "-o", folder / f"{network}.onnx"]
            subprocess.run(write, check=True, stdout=subprocess.DEVNULL)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as cores:
            commands, weights = zip(*runs(folder))
            for found, weight in zip(cores.map(lambda command: executed(nnc, command, folder), commands), weights):
                uses.update(dict.fromkeys(found, weight))
                print(f"{len(found)} functions, {len(uses)} so far", flush=True)
    idle = {star(name) for name in defined(nnc) - uses.keys()}
    patterns = collections.Counter()
    for name, count in uses.items():
        pattern = star(name)
        if pattern is not None:
            pattern = exact(name) if pattern in idle else pattern
            patterns[pattern] = max(patterns[pattern], count)
    order = sorted(patterns, key=lambda pattern: (-patterns[pattern], pattern))
    lines = [f"    *(.text.{name} .text.unlikely.{name})\n" for name in order]
    (pathlib.Path(__file__).parent / "compiling.ld").write_text(HEAD + "".join(lines) + TAIL)


if __name__ == "__main__":
    main()
