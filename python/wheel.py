#!/usr/bin/env python3
"""Builds the wheel of the Python package and installs it where its tests run.

    python3 python/wheel.py                  # unoptimised, as `cargo test` builds it: for the tests
    python3 python/wheel.py --release        # as it is given to users
    python3 python/wheel.py --from-sdist     # out of the source distribution instead of this folder
    target/python-venv/bin/python -m pytest python

The wheel goes to target/wheels/, where it replaces the one before, and into the virtual environment target/python-venv/, which has
the packages of requirements.txt and of tests/onnx/requirements.txt, with their checksums. auditwheel says for which systems the wheel
is. Needs Rust, and Python 3.11 to 3.14 with pip, on Linux.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time

from environments import ROOT, TARGET, WHEELS, environment, install_wheel

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = (ROOT / "tests" / "onnx" / "requirements.txt", HERE / "requirements.txt")


def maturin(python, source, *arguments):
    target = {"CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR") or str(TARGET)}
    if subprocess.run([python.parent / "maturin", *arguments], cwd=source, env=os.environ | target).returncode != 0:
        sys.exit("wheel.py: maturin failed; its messages are above")


def unpacked(python):
    """The source distribution, in a folder. Its files are as old as their unpacking: cargo would take what it has built of the files of
    this folder, which are newer than those of the archive, for what it would build of them."""
    sdists = TARGET / "sdist"
    shutil.rmtree(sdists, ignore_errors=True)
    maturin(python, HERE, "sdist", "--out", sdists)
    (sdist,) = sdists.glob("*.tar.gz")
    now = time.time()
    with tarfile.open(sdist) as archive:
        archive.extractall(sdists / "unpacked", filter=lambda file, to: tarfile.data_filter(file, to).replace(mtime=now))
    (content,) = (sdists / "unpacked").iterdir()
    return content


def main():
    if not set(sys.argv[1:]) <= {"--release", "--from-sdist"}:
        sys.exit(__doc__)
    python = environment("python-venv", *REQUIREMENTS)
    source = unpacked(python) if "--from-sdist" in sys.argv else HERE
    profile = "release" if "--release" in sys.argv else "dev"
    shutil.rmtree(WHEELS, ignore_errors=True)
    maturin(python, source, "build", "--profile", profile, "--out", WHEELS, "--interpreter", python)
    (wheel,) = WHEELS.glob("*.whl")
    audit = subprocess.run([python, "-m", "auditwheel", "show", wheel], capture_output=True, text=True)
    told = " ".join(audit.stdout.split())
    if audit.returncode != 0 or "is consistent with the following platform tag" not in told:
        sys.exit(f"wheel.py: auditwheel is not content with {wheel.name}:\n{audit.stdout}{audit.stderr}")
    install_wheel(python)
    print(f"{wheel}: {wheel.stat().st_size} bytes, installed into {python.parent.parent}")


if __name__ == "__main__":
    main()
