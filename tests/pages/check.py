#!/usr/bin/env python3
"""Runs the commands and programs of README.md and of docs/, page by page, as a reader would.

    python3 tests/pages/check.py                     # what CI runs
    python3 tests/pages/check.py README.md from-keras.md
    python3 tests/pages/check.py --all               # with PyTorch, too, which takes gigabytes

Each page has a folder of its own below target/pages/, with the files that it speaks of (files.py). Lines of `sh` that call nnc or a C
compiler are run in it, one after the other, and must succeed; C is compiled, without a warning, and run; Python is run with the packages
that the page is about (OWN). Everything else must be somewhere else that runs: a line of .ci/run, lines of an example, or what walk.py
names. Rust is left to cargo: the programs of README.md are examples of the crate. Needs target/python-venv (python/wheel.py), the networks
of tests/trained/fetch.py, and a C compiler.

`nnc` is built, or is the file that the environment variable NNC names.
"""

import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "python")]
sys.dont_write_bytecode = True

from environments import TARGET, environment

#: Pages whose Python needs packages of its own, with the file that pins them; the last Python that they are there for; and whether they are large.
OWN = {
    "from-keras.md": ("keras", (3, 13), False),
    "from-paddle.md": ("paddle", (3, 11), False),
    "from-pytorch.md": ("pytorch", (3, 11), True),
}


def built():
    """The folder of the command."""
    if "NNC" in os.environ:
        return pathlib.Path(os.environ["NNC"]).resolve().parent
    if subprocess.run(["cargo", "build", "--quiet", "--package", "nnc"], cwd=ROOT).returncode != 0:
        sys.exit("check.py: nnc could not be built; cargo's messages are above")
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or TARGET) / "debug"


def python_of(page):
    """The Python that runs a page, or why there is none."""
    if page not in OWN:
        python = TARGET / "python-venv" / "bin" / "python"
        return python, None if python.is_file() else "target/python-venv is not there: python3 python/wheel.py makes it"
    name, last, _ = OWN[page]
    if sys.version_info[:2] > last:
        return None, f"its packages are there for Python {'.'.join(map(str, last))} at most"
    return environment(f"{name}-venv", HERE / f"{name}.txt"), None


def main():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    names = [page.name for page in pages]
    wanted = [argument for argument in sys.argv[1:] if argument != "--all"]
    if not set(wanted) <= set(names):
        sys.exit(f"check.py: the pages are {', '.join(names)}")
    path = os.pathsep.join([str(built()), os.environ["PATH"]])
    failed = []
    for page in pages:
        large = page.name in OWN and OWN[page.name][2]
        if wanted and page.name not in wanted or large and not wanted and "--all" not in sys.argv:
            continue
        python, missing = python_of(page.name)
        if missing:
            print(f"{page.name}: left out, {missing}")
            failed += [page.name] if page.name not in OWN else []
            continue
        folder = TARGET / "pages" / page.stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        settings = {"PATH": path, "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3", "NO_COLOR": "1"}
        done = subprocess.run([python, "-B", HERE / "walk.py", page, folder], env=os.environ | settings)
        if done.returncode != 0:
            failed.append(page.name)
    if failed:
        sys.exit(f"check.py: {', '.join(failed)} did not run; the messages are above")


if __name__ == "__main__":
    main()
