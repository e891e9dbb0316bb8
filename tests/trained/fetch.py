#!/usr/bin/env python3
"""Fetches the trained networks that tests/tests/trained.rs compiles: the text detector and the text-direction
classifier of PP-OCR, out of one version of the Python package that distributes them (Apache-2.0).

    python3 tests/trained/fetch.py

They go to target/trained/ (or to the folder that the environment variable NNC_TRAINED names) and are not part of the
repository. Checksums are verified; a folder that already holds the files is left as it is, without network access.
Needs nothing but Python 3.9 or later with pip.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "rapidocr-onnxruntime==1.4.4"
WHEEL = "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
MODELS = {
    "ch_PP-OCRv4_det_infer.onnx": "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
}
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def complete(folder):
    return all((folder / m).is_file() and sha256((folder / m).read_bytes()) == s for m, s in MODELS.items())


def download(folder):
    """The wheel's path. The package bounds the Python it runs on; for its data, any Python will do."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary=:all:", "--python-version=3.11", f"--dest={folder}", PACKAGE]
    if subprocess.run(pip).returncode != 0:
        sys.exit(f"fetch.py: pip could not download {PACKAGE}; its messages are above")
    (wheel,) = folder.glob("*.whl")
    return wheel


def checked(what, data, expected):
    if sha256(data) != expected:
        sys.exit(f"fetch.py: {what} has sha256 {sha256(data)}, not {expected}; nothing was written")
    return data


def main():
    folder = pathlib.Path(os.environ.get("NNC_TRAINED") or ROOT / "target" / "trained")
    if complete(folder):
        print(f"{folder} holds the trained networks already")
        return
    with tempfile.TemporaryDirectory() as scratch:
        wheel = download(pathlib.Path(scratch))
        checked(wheel.name, wheel.read_bytes(), WHEEL)
        with zipfile.ZipFile(wheel) as archive:
            models = {
                name: checked(name, archive.read(f"rapidocr_onnxruntime/models/{name}"), expected)
                for name, expected in MODELS.items()
            }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in models.items():
        # Named last, so that no test ever sees half a model.
        part = folder / f"{name}.part"
        part.write_bytes(data)
        part.replace(folder / name)
        print(f"{folder / name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
