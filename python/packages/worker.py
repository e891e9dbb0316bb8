"""Runs one case on one engine, in a process of its own, and prints what it found and what that took as JSON.

    VENV/bin/python worker.py nnc|onnxruntime PACKAGE ROUNDS
"""

import json
import sys
import time

from cases import CASES

engine, package, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])


def memory(what):
    """Of this process, in MB."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith(what))
    return int(line.split()[1]) / 1024


start = time.perf_counter()
if engine == "nnc":
    import nnc

    nnc.install_as_onnxruntime()
import onnxruntime

imported = time.perf_counter()
case = CASES[package]()
case.load()
loaded = time.perf_counter()
found = case.work()
first = time.perf_counter()
times = []
for _ in range(rounds):
    begin = time.perf_counter()
    case.work()
    times.append(time.perf_counter() - begin)
print(
    json.dumps(
        {
            "engine": "nnc" if hasattr(onnxruntime.InferenceSession, "usage") else "onnxruntime",
            "found": found,
            "import": imported - start,
            "load": loaded - imported,
            "first": first - loaded,
            "again": min(times, default=0.0),
            "resident": memory("VmRSS"),
            "peak": memory("VmHWM"),
        }
    )
)
