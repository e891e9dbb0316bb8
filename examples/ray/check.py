#!/usr/bin/env python3
"""Tests the examples with Ray on this machine: batches, an actor that is killed, readers that wait, and a server.

    python3 python/wheel.py && python3 examples/ray/check.py               # the tests, with any build of the wheel
    python3 python/wheel.py --release && python3 examples/ray/check.py --throughput     # pictures a second, nnc and onnxruntime

Behind `--throughput`, parts of names choose networks; other arguments go to pytest. Ray, onnxruntime and the wheel of target/wheels/ are in
a virtual environment of their own, target/ray-venv/, which takes a gigabyte. The networks are those of tests/trained/fetch.py, which is
called if they are not there.
"""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "python")]
sys.dont_write_bytecode = True

from environments import environment, install_wheel

NETWORKS = ("ch_ppocr_mobile_v2.0_cls_infer.onnx", "nudenet_320n.onnx")


def main():
    python = environment("ray-venv", HERE / "requirements.txt")
    install_wheel(python)
    trained = pathlib.Path(os.environ.get("NNC_TRAINED") or ROOT / "target" / "trained")
    if not all((trained / network).is_file() for network in NETWORKS):
        subprocess.run([sys.executable, ROOT / "tests" / "trained" / "fetch.py"], check=True)
    arguments = sys.argv[1:]
    if arguments[:1] == ["--throughput"]:
        command = [python, "-B", HERE / "throughput.py", *arguments[1:]]
    else:
        command = [python, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, HERE / "tests"]
    sys.exit(subprocess.run(command, env=os.environ | {"NNC_TRAINED": str(trained)}).returncode)


if __name__ == "__main__":
    main()
