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
OTHERS = 3  # runs of a quantised network with constants that differ in their last bits


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
    """Each observed value as strided samples, and its sum and the sum of its magnitudes over all elements; of a quantised network, how far
    apart right results are."""
    arrays = {}
    network = NETWORKS[case["model"]]
    inputs = {name: network_input(source) for name, source in case["inputs"].items()}
    values = sessions[case["model"]].run(None, inputs)
    observed = list(network.get("observed", {}))
    count = len(values) - len(observed)
    outputs = ["output", *(f"output{i}" for i in range(1, count))]
    for name, value in zip([*outputs, *observed], values):
        flat, wide = value.ravel(), value.astype(np.float64)
        samples = SAMPLES // count if name in outputs else SAMPLES
        arrays[name] = flat[:: -(-flat.size // samples) | 1]
        arrays[f"{name}.sums"] = np.array([wide.sum(), np.abs(wide).sum()])
    if network.get("quantised"):
        others = list(right_results(network, inputs))
        for index, name in enumerate(outputs):
            stride = -(-values[index].size // (SAMPLES // count)) | 1
            arrays[f"{name}.apart"] = np.array(apart([run[index].ravel()[::stride] for run in [values, *others]]))
    return arrays


def right_results(network, inputs):
    """What onnxruntime computes with its optimisations; and without them where constants in f32 differ in their last bits, as what is
    computed of them does where a program rounds in another place."""
    level = onnxruntime.GraphOptimizationLevel
    yield session(network, level.ORT_ENABLE_ALL).run(None, inputs)
    for seed in range(OTHERS):
        bits = np.random.default_rng(seed)
        near = lambda x: x * (1 + bits.uniform(-1, 1, x.shape) * np.finfo(np.float32).eps)
        # Whole numbers are counts, factors of a Resize or nothing.
        others = lambda x: np.where(x == np.rint(x), x, near(x)).astype(np.float32)
        yield session(network, level.ORT_DISABLE_ALL, others).run(None, inputs)


def apart(results):
    """The root of the mean square of the differences between those two that are farthest apart."""
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for i, a in enumerate(results) for b in results[:i]]
    return max(float(np.sqrt(((a - b) ** 2).mean())) for a, b in pairs)


def session(network, level=onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, constants=None):
    """The network with the observed values, which enter certain nodes, as further outputs; constants in f32 may be others."""
    model = onnx.load(MODELS / network["file"])
    for tensor in model.graph.initializer:
        if constants and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(constants(onnx.numpy_helper.to_array(tensor)), tensor.name))
    for node in network.get("observed", {}).values():
        (value,) = [n.input[0] for n in model.graph.node if n.name == node]
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(value))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def difference(name, made, kept):
    """What a value is off by, and what is allowed; README.md in this folder says how both are measured."""
    largest = np.abs(kept[name]).max()
    largest = max(1.0, largest) if name.startswith("output") else largest
    if f"{name}.apart" in kept:
        return apart([made, kept[name]]), max(TOLERANCE * largest, float(kept[f"{name}.apart"]))
    return np.abs(made - kept[name]).max(), TOLERANCE * largest


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
            for name in [name for name in kept if not name.endswith((".sums", ".apart"))]:
                off, allowed = difference(name, made[name], kept)
                worst = max(worst, off / allowed)
                print(f"{case['name']} {name}: values {made[name].min():.3g} to {made[name].max():.3g}, off by {off / allowed:.2f} of what is allowed")
    if worst > 1.0:
        sys.exit("the committed files are not what comes out")


if __name__ == "__main__":
    main()
