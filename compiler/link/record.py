#!/usr/bin/env python3
"""Writes compiling.ld: which functions are run when a model is compiled, so that the linker puts them side by side.

A fifth of the code of `nnc` is in functions that are run when it compiles a network, but they are scattered over all of it,
and the kernel maps code by 64 KiB: three quarters are in memory then. Side by side it is half of the code, and a cold start
reads less from the disk.

Functions are found by running the command under valgrind, for each network of NETWORKS and each target of TARGETS. A name
ends in a hash that changes with the compiler and with every dependency; the list has a star there. A name that is no
longer there is ignored by the linker, and a function that is not listed goes where it went before: an old list costs
memory and nothing else. Make it anew when Cranelift or the compiler's structure has changed:

    cargo build --release -p nnc && python3 compiler/link/record.py target/release/nnc
"""

import pathlib
import re
import subprocess
import sys
import tempfile

NETWORKS = ["mobilenet-v2", "squeezenet-1.1", "shufflenet-v1", "shufflenet-v2", "nasnet-a-mobile", "resnet-18"]
TARGETS = ["x86-64-v3", "x86-64-v4"]

HEAD = """/* Functions that are run when a model is compiled and run, side by side. Written by record.py, which says why. */
SECTIONS {
  .text.compiling : {
"""
TAIL = "  }\n} INSERT BEFORE .text;\n"


def executed(nnc, arguments, folder):
    """Mangled names of the functions that a command runs."""
    trace = folder / "trace"
    tool = ["valgrind", "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={trace}"]
    subprocess.run([*tool, nnc, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # A line "fn=(21) name" says whose costs follow, "cfn=" whom it calls; later, the number alone stands for the name.
    return set(re.findall(r"^c?fn=\(\d+\) (.+)$", trace.read_text(), re.MULTILINE))


def pattern(name):
    """The name without what changes from build to build, or nothing for a name that is not Rust's."""
    name = name.split("'")[0]  # callgrind marks recursion so
    if name.startswith("_ZN"):
        return re.sub(r"17h[0-9a-f]{16}E.*$", "17h*", name)
    if name.startswith("_R"):
        return re.sub(r"(Cs)[0-9a-zA-Z]+_", r"\1*_", name)
    return None


def main():
    nnc = pathlib.Path(sys.argv[1]).resolve()
    patterns = set()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for network in NETWORKS:
            model = folder / f"{network}.onnx"
            subprocess.run([nnc, "models", "write", network, "-o", model], check=True, stdout=subprocess.DEVNULL)
            runs = [["compile", model, "--target", target, "-o", folder / "program.so"] for target in TARGETS]
            for arguments in [*runs, ["bench", model, "--threads", "1", "--seconds", "0.01"]]:
                found = {pattern(name) for name in executed(nnc, arguments, folder)} - {None}
                patterns |= found
                print(f"{network}, {arguments[0]}: {len(found)} functions, {len(patterns)} so far", flush=True)
    lines = [f"    *(.text.{name} .text.unlikely.{name})\n" for name in sorted(patterns)]
    (pathlib.Path(__file__).parent / "compiling.ld").write_text(HEAD + "".join(lines) + TAIL)


if __name__ == "__main__":
    main()
