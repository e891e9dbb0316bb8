#!/usr/bin/env python3
"""Makes the golden outputs of the trained networks, with onnxruntime and all its optimisations off.

    python3 tests/trained/make_goldens.py            all cases of cases.json
    python3 tests/trained/make_goldens.py CASE …     these alone
    python3 tests/trained/make_goldens.py --check    compare with the committed files instead of writing

README.md in this folder says what the files hold.
"""

import json
import os
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from PIL import Image

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
MODELS = pathlib.Path(os.environ.get("NNC_TRAINED") or ROOT / "target" / "trained")
CASES = json.loads((FOLDER / "cases.json").read_text())
NETWORKS = CASES["networks"]

TOLERANCE = 1e-4  # of the largest absolute reference value
SAMPLES = 4096  # of an output, at most


def picture(source):
    """A part of a picture as f32, of shape [1, channels, height, width] or, if channels are last, [1, height, width, channels]."""
    pixels = np.asarray(Image.open(FOLDER / "pictures" / source["picture"]).convert("RGB"))
    rows = slice(source["top"], source["top"] + source["height"])
    columns = slice(source["left"], source["left"] + source["width"])
    part = pixels[rows, columns].repeat(source["zoom"], axis=0).repeat(source["zoom"], axis=1)
    if source.get("turned"):
        part = part[::-1, ::-1]
    x = part[:, :, ["rgb".index(c) for c in source["channels"]]].astype(np.float32)
    x = x / np.array(source["divide"], np.float32) - np.array(source["subtract"], np.float32)
    return np.ascontiguousarray((x if source.get("last") else x.transpose(2, 0, 1))[np.newaxis])


def random(seed, count):
    """Numbers from 0 up to 1, by Knuth's generator of 64 bits."""
    numbers = np.empty(count)
    for i in range(count):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        numbers[i] = (seed >> 40) / 2**24
    return numbers


def sound(source):
    """Triangle waves of these periods in samples, and noise."""
    count = int(np.prod(source["shape"]))
    total = random(1, count) - 0.5
    for period in source["sound"]:
        total += 4.0 * np.abs(np.arange(count) % period - period / 2) / period - 1.0
    return (total * source["scale"] / len(source["sound"])).astype(np.float32).reshape(source["shape"])


def network_input(source):
    """An input of a case; README.md in this folder says what each kind is."""
    if "picture" in source:
        return picture(source)
    if "sound" in source:
        return sound(source)
    if "bytes" in source:
        data = (ROOT / source["bytes"]).read_bytes()
        half = int(np.prod(source["shape"])) // 2
        return np.array([*data[:half], *data[-half:]], np.int32).reshape(source["shape"])
    if "constant" in source:
        return np.array(source["constant"], np.int64)
    numbers = random(source["seed"], int(np.prod(source["shape"])))
    numbers = source["low"] + (source["high"] - source["low"]) * numbers
    return numbers.astype(np.float32).reshape(source["shape"])


def golden(case, sessions):
    """Each observed value as strided samples, and its sum and the sum of its magnitudes over all elements."""
    arrays = {}
    inputs = {name: network_input(source) for name, source in case["inputs"].items()}
    values = sessions[case["model"]].run(None, inputs)
    observed = list(NETWORKS[case["model"]].get("observed", {}))
    count = len(values) - len(observed)
    outputs = ["output", *(f"output{i}" for i in range(1, count))]
    for name, value in zip([*outputs, *observed], values):
        flat, wide = value.ravel(), value.astype(np.float64)
        samples = SAMPLES // count if name in outputs else SAMPLES
        arrays[name] = flat[:: -(-flat.size // samples) | 1]
        arrays[f"{name}.sums"] = np.array([wide.sum(), np.abs(wide).sum()])
    return arrays


def session(network):
    """The network with the observed values, which enter certain nodes, as further outputs."""
    model = onnx.load(MODELS / network["file"])
    for node in network.get("observed", {}).values():
        (value,) = [n.input[0] for n in model.graph.node if n.name == node]
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(value))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def main():
    check = "--check" in sys.argv[1:]
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    cases = [case for case in CASES["cases"] if not named or case["name"] in named]
    sessions = {name: session(NETWORKS[name]) for name in sorted({case["model"] for case in cases})}
    worst = 0.0
    for case in cases:
        made, path = golden(case, sessions), FOLDER / "goldens" / f"{case['name']}.npz"
        if not check:
            path.parent.mkdir(exist_ok=True)
            np.savez_compressed(path, **made)
        with np.load(path) as kept:
            for name in [name for name in kept if not name.endswith(".sums")]:
                largest = np.abs(kept[name]).max()
                largest = max(1.0, largest) if name.startswith("output") else largest
                off = np.abs(made[name] - kept[name]).max() / largest
                worst = max(worst, off)
                print(f"{case['name']} {name}: values {made[name].min():.3g} to {made[name].max():.3g}, off by {off:.1e}")
    if worst > TOLERANCE:
        sys.exit("the committed files are not what comes out")


if __name__ == "__main__":
    main()
