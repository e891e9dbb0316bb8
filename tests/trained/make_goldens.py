#!/usr/bin/env python3
"""Makes the golden outputs of the trained networks, with onnxruntime and all its optimisations off.

    python3 tests/trained/make_goldens.py            all cases of cases.json
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
MODELS = pathlib.Path(os.environ.get("NNC_TRAINED") or FOLDER.parent.parent / "target" / "trained")
CASES = json.loads((FOLDER / "cases.json").read_text())
NETWORKS = CASES["networks"]

TOLERANCE = 1e-4  # of the largest absolute reference value
SAMPLES = 4096  # of an output, at most


def network_input(case):
    """The case's part of its picture as f32 of shape [1, 3, height, width], blue first as PP-OCR is trained."""
    picture = np.asarray(Image.open(FOLDER / "pictures" / case["picture"]).convert("RGB"))
    rows = slice(case["top"], case["top"] + case["height"])
    columns = slice(case["left"], case["left"] + case["width"])
    part = picture[rows, columns].repeat(case["zoom"], axis=0).repeat(case["zoom"], axis=1)
    if case.get("turned"):
        part = part[::-1, ::-1]
    x = part.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(x[:, :, ::-1].transpose(2, 0, 1)[np.newaxis])


def golden(case, sessions):
    """Each observed value as strided samples, and its sum and the sum of its magnitudes over all elements."""
    arrays = {}
    values = sessions[case["model"]].run(None, {"x": network_input(case)})
    for name, value in zip(["output", *NETWORKS[case["model"]]["observed"]], values):
        flat, wide = value.ravel(), value.astype(np.float64)
        arrays[name] = flat[:: -(-flat.size // SAMPLES) | 1]
        arrays[f"{name}.sums"] = np.array([wide.sum(), np.abs(wide).sum()])
    return arrays


def session(network):
    """The network with the observed values, which enter certain nodes, as further outputs."""
    model = onnx.load(MODELS / network["file"])
    for node in network["observed"].values():
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
    sessions = {name: session(network) for name, network in NETWORKS.items()}
    worst = 0.0
    for case in CASES["cases"]:
        made, path = golden(case, sessions), FOLDER / "goldens" / f"{case['name']}.npz"
        if not check:
            path.parent.mkdir(exist_ok=True)
            np.savez_compressed(path, **made)
        with np.load(path) as kept:
            for name in [name for name in kept if not name.endswith(".sums")]:
                largest = 1.0 if name == "output" else np.abs(kept[name]).max()
                off = np.abs(made[name] - kept[name]).max() / largest
                worst = max(worst, off)
                print(f"{case['name']} {name}: values {made[name].min():.3g} to {made[name].max():.3g}, off by {off:.1e}")
    if worst > TOLERANCE:
        sys.exit("the committed files are not what comes out")


if __name__ == "__main__":
    main()
