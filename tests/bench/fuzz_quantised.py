#!/usr/bin/env python3
"""Holds quantised layers of all kinds against onnxruntime: random models, one layer each, from bytes to bytes.

    python3 tests/bench/fuzz_quantised.py                           1,000 layers of each form
    python3 tests/bench/fuzz_quantised.py --only 'Conv' --count 200 --seed 7
    python3 tests/bench/fuzz_quantised.py --nnc target/debug/nnc --seconds 600

What onnxruntime computes without optimisations, operator by operator, is what the model says. nnc may be a step off in one of 1,000
results of a kind of layer, since it rounds once where a model may round several times, and never more than one step. For each layer,
of random shapes, attributes, types, scales and zero points:

    native, 1 thread ═ native, 2 threads ═ artefact          the same bits
    native, x86-64-v3, x86-64-v2  ≈  onnxruntime             within a step
    no error, no warning of a slow nest

Layers are tried some together, in one model, and alone where something is wrong. What is wrong is printed with what the layer is, and
its model is written to target/bench/quantised/; the exit code is 1 then. `fuzz_quantised_layers.py` has the kinds of layers.
"""

import argparse
import collections
import dataclasses
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import environment

TOGETHER = 12
"""Layers in one model."""

RARE = 1000
"""One of so many results may be another step."""

FLOATS = 1e-4
"""How far results in f32 may be off, of the largest."""

WAYS = [
    ("native, 1 thread", ["--threads", "1"]),
    ("native, 2 threads", ["--threads", "2"]),
    ("x86-64-v3", ["--threads", "2", "--target", "x86-64-v3"]),
    ("x86-64-v2", ["--threads", "1", "--target", "x86-64-v2"]),
]


@dataclasses.dataclass
class Tally:
    """What was found of a kind of layer."""

    layers: int = 0
    untaken: int = 0
    """Layers for which onnxruntime has no kernel."""
    results: int = 0
    off: int = 0
    """Results that are another step, on any target."""


def main():
    settings = parse()
    environment.enter_venv()
    import fuzz_quantised_layers as kinds

    settings.nnc = settings.nnc or environment.build_nnc()
    chosen = [kind for kind in kinds.KINDS if settings.only.search(kind)]
    if not chosen:
        sys.exit(f"no kind has such a name; there are {', '.join(kinds.KINDS)}")
    tallies, wrong = collections.defaultdict(Tally), []
    ends, turn = time.monotonic() + settings.seconds, 0
    while turn < settings.count * len(chosen) and time.monotonic() < ends:
        layers = []
        for number in range(turn, turn + TOGETHER):
            kind = chosen[number % len(chosen)]
            layer = kinds.layer(kind, settings.seed, number)
            if layer is None:
                tallies[kind].untaken += 1
            else:
                layers.append(layer)
        turn += TOGETHER
        wrong += check(settings, layers, tallies)
        if sys.stderr.isatty():
            print(f"\r{turn} layers, {len(wrong)} wrong", end="", file=sys.stderr)
    for kind, tally in sorted(tallies.items()):
        rate = tally.off / max(tally.results, 1)
        verdict = "" if rate * RARE <= 1 else "   too many"
        untaken = f", {tally.untaken} that onnxruntime does not take" if tally.untaken else ""
        print(f"{kind:20} {tally.layers:5} layers {tally.results:9} results {tally.off:6} a step off{verdict}{untaken}")
        if verdict:
            wrong.append(kind)
    sys.exit(f"{len(wrong)} wrong" if wrong else 0)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="REGEX", help="only these kinds of layers")
    parser.add_argument("--count", type=int, default=1000, help="layers of each kind (default: 1000)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--seed", type=int, default=1, help="other layers (default: 1)")
    parser.add_argument("--nnc", help="this nnc, instead of building it")
    return parser.parse_args()


def check(settings, layers, tallies):
    """What is wrong with these layers."""
    import fuzz_quantised_layers as kinds

    known = []
    for layer in layers:
        right = expected(kinds.model([layer]), layer.arrays)
        if right is None:
            tallies[layer.kind].untaken += 1
        else:
            known.append((layer, right))
    layers = [layer for layer, _ in known]
    if not layers:
        return []
    fault = compare(settings.nnc, layers, [right for _, right in known], tallies)
    if fault is None:
        return []
    found = []
    for layer, right in known:
        fault = compare(settings.nnc, [layer], [right], collections.defaultdict(Tally))
        if fault is not None:
            found.append(layer.name)
            print(f"{layer.name}: {fault}\n    {layer.what}", flush=True)
            keep(kinds.model([layer]), layer)
    return found or [f"only together: {', '.join(layer.name for layer in layers)}"]


def expected(model, arrays):
    """What onnxruntime computes, or None if it does not take the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, arrays)
    except Exception:  # its exceptions have no other base
        return None


def compare(nnc, layers, right, tallies):
    """What is wrong with nnc's results, if anything is."""
    import fuzz_quantised_layers as kinds
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model, inputs = folder / "x.onnx", []
        model.write_bytes(kinds.model(layers).SerializeToString())
        for layer in layers:
            for name, values in layer.arrays.items():
                np.save(folder / f"{name}.npy", values)
                inputs += ["--input", f"{name}={folder / name}.npy"]
        program, results = folder / "x.nnc.so", folder / "y.npz"
        ways = [(name, [model, *options]) for name, options in WAYS]
        done = subprocess.run([nnc, "compile", model, "-o", program], capture_output=True, text=True)
        if done.returncode:
            return f"compile: {done.stderr.strip()}"
        ways.insert(1, ("artefact", [program, "--threads", "1"]))
        found = {}
        for name, arguments in ways:
            done = subprocess.run(
                [nnc, "run", *arguments, *inputs, "--output", results, "--quiet"], capture_output=True, text=True
            )
            if done.returncode:
                return f"{name}: {done.stderr.strip()}"
            if "warning" in done.stderr:
                return f"{name}: {done.stderr.strip()}"
            arrays = np.load(results)
            found[name] = [[arrays[output] for output in layer.outputs] for layer in layers]
        first = found["native, 1 thread"]
        for name in ["native, 2 threads", "artefact"]:
            for ours, other in zip(first, found[name]):
                if any(a.tobytes() != b.tobytes() for a, b in zip(ours, other, strict=True)):
                    return f"{name}: other bits than with one thread"
        faults = []
        for layer, *outputs, theirs in zip(layers, *(found[name] for name, _ in WAYS), right):
            tally = tallies[layer.kind]
            tally.layers += 1
            for (name, _), ours in zip(WAYS, outputs):
                for index, (y, expected) in enumerate(zip(ours, theirs, strict=True)):
                    fault = judge(y, expected, tally, layer.steps)
                    if fault:
                        faults.append(f"{name}: output {index} {fault}")
        return faults[0] if faults else None


def judge(y, expected, tally, steps):
    """What is wrong with one output."""
    import numpy as np

    if y.shape != expected.shape or y.dtype != expected.dtype:
        return f"is {y.dtype}{list(y.shape)}, not {expected.dtype}{list(expected.shape)}"
    if expected.dtype.kind == "f":
        most = np.abs(expected, where=np.isfinite(expected), out=np.zeros_like(expected)).max(initial=1e-3)
        with np.errstate(invalid="ignore"):
            off = np.abs(y - expected).max(initial=0)
        return None if off <= most * FLOATS else f"differs by {off / most:.1e} of the largest"
    apart = np.abs(y.astype(np.int64) - expected.astype(np.int64))
    tally.results += apart.size
    tally.off += int((apart > 0).sum())
    if apart.max(initial=0) > steps:
        return f"has {int((apart > steps).sum())} of {apart.size} results more than {steps} step off, {apart.max()} at most"
    # One alone may be that one of a thousand.
    if (apart > 0).sum() * RARE > 10 * apart.size + 3 * RARE:
        return f"has {int((apart > 0).sum())} of {apart.size} results a step off"
    return None


def keep(model, layer):
    """Writes what is wrong, so that it can be looked at."""
    import numpy as np

    folder = environment.OUTPUT / "quantised"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{layer.name}.onnx"
    file.write_bytes(model.SerializeToString())
    np.savez(file.with_suffix(".npz"), **layer.arrays)


if __name__ == "__main__":
    main()
