"""A process that runs one engine. It is written to and answers by lines; `rust_peers/worker` describes them. Here there may be several
inputs and outputs of any type.

    worker.py ENGINE MODEL INPUTS THREADS PRECISION
                                              INPUTS: an .npz file with all of them, by name; `outputs` writes one, too
    worker.py ENGINE --empty
"""

import importlib
import os
import sys
import time

import numpy as np

import engines


# An engine that prints must not disturb the answers.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def main():
    name, *arguments = sys.argv[1:]
    if arguments == ["--empty"]:
        answer("ready 0 0")
        sys.stdin.read()
        return
    model, file, threads, precision = arguments
    with np.load(file) as found:
        inputs = {name: found[name] for name in found.files}
    module = engines.module(name)
    if module.ENGINE.package:
        importlib.import_module(module.ENGINE.package)  # belongs to starting the process, not to loading the model
    loaded, load_ns = timed(lambda: module.load(model, inputs, int(threads), precision))
    _, first_ns = timed(loaded.run)
    answer(f"ready {load_ns} {first_ns}")
    for line in sys.stdin:
        request, argument = line.split(maxsplit=1)
        if request == "run":
            answer("runs " + " ".join(str(timed(loaded.run)[1]) for _ in range(int(argument))))
        elif request == "outputs":
            np.savez(argument.rstrip("\n"), *loaded.outputs())
            answer("wrote")
        else:
            raise ValueError(f"unknown request {request!r}")


def timed(function):
    start = time.perf_counter_ns()
    result = function()
    return result, time.perf_counter_ns() - start


def answer(line):
    print(line, file=ANSWERS, flush=True)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whatever an engine may raise is the answer, not a traceback
        message = " ".join(str(error).split())
        answer(f"error {type(error).__name__}: {message}")
        sys.exit(1)
