#!/usr/bin/env python3
"""Makes the golden outputs of the built-in networks, with onnxruntime and all its optimisations off.

    python3 tests/goldens/make_goldens.py                    all cases of cases.json
    python3 tests/goldens/make_goldens.py small-resnet-18-64 only these
    python3 tests/goldens/make_goldens.py --check            compare with the committed files instead of writing
    python3 tests/goldens/make_goldens.py --sensitivity      show that every swap of two channels is noticed

README.md in this folder says what the files hold.
"""

import argparse
import io
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnx
import onnxruntime

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
WRITER = "cargo run --quiet --release -p nnc-models --example write --"

TOLERANCE = 1e-4  # of the largest absolute reference value
INTERMEDIATES = 8  # per network, at most
SAMPLES = 64  # per intermediate value, at most
OUTPUT_SAMPLES = 4096  # of the output, at most


def golden_input(shape):
    """Element i is the finaliser of MurmurHash3 of i, its upper 24 bits mapped to [-2, 2): exact in f32."""
    h = np.arange(np.prod(shape), dtype=np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return ((h >> np.uint32(8)).astype(np.float32) / np.float32(1 << 22) - np.float32(2)).reshape(shape)


def strided_samples(values):
    """At most SAMPLES elements, evenly spaced by an odd stride, from the first one on (rows last, as in ONNX)."""
    flat = values.ravel()
    stride = -(-flat.size // SAMPLES) | 1
    return flat[::stride]


def output_samples(values):
    """All of an output of at most OUTPUT_SAMPLES elements; of a larger one, as many, evenly spaced by a stride that is a
    multiple of neither 2 nor 3."""
    stride = -(-values.size // OUTPUT_SAMPLES)
    while stride % 2 == 0 or stride % 3 == 0:
        stride += 1
    return values if stride == 1 else values.ravel()[::stride]


def session(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def write_model(case, writer, file):
    arguments = [case["model"]]
    for option in ("width", "resolution", "groups", "classes", "seed"):
        if option in case:
            arguments += [f"--{option}", str(case[option])]
    subprocess.run([*shlex.split(writer), *arguments, "-o", file], cwd=ROOT, check=True)
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    return model


def input_of(model):
    value = model.graph.input[0]
    return value.name, golden_input([dim.dim_value for dim in value.type.tensor_type.shape.dim])


def expose(model, names):
    """The model with further values as outputs."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    kind = onnx.TensorProto.FLOAT
    exposed.graph.output.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name in names)
    return exposed


def layer_outputs(model):
    """Values that reach another layer, not just the normalisation or activation of the layer that computes them."""
    inner = {"BatchNormalization", "Relu", "Clip"}
    movers = {"Constant", "Reshape", "Transpose", "Flatten", "Split", "Pad", "Slice"}
    movers |= {"Squeeze", "Gather", "Expand", "DepthToSpace"}
    nodes = model.graph.node
    reach = {name for node in nodes if node.op_type not in inner for name in node.input}
    return [node.output[0] for node in nodes if node.op_type not in movers and node.output[0] in reach]


def output_parts(model):
    """What an output is joined of, if it is: parts may be of different sizes, and then the smaller ones would not count."""
    output = model.graph.output[0].name
    last = next(node for node in model.graph.node if output in node.output)
    return list(last.input) if last.op_type == "Concat" else []


# ---- goldens -------------------------------------------------------------------------------------------------------


def golden(model):
    """What the file of a case holds: array name -> values."""
    parts = output_parts(model)
    # The reader writes recurrent layers out as loops, and then no node of theirs has the name.
    written_out = {name for node in model.graph.node if node.op_type == "LSTM" for name in node.output}
    candidates = [name for name in layer_outputs(model) if name not in written_out.union(parts)]
    count = min(INTERMEDIATES, len(candidates))
    picks = [candidates[(2 * i + 1) * len(candidates) // (2 * count)] for i in range(count)] + parts
    name, values = input_of(model)
    output = model.graph.output[0].name
    whole, *results = session(expose(model, picks)).run([output, *picks], {name: values})
    arrays = {output: output_samples(whole)}
    for pick, result in zip(picks, results):
        arrays[pick.removeprefix("/").replace("/", ".")] = strided_samples(result)
    return arrays


def save(file, arrays):
    """As numpy.savez, but the same bytes every time (no time of day inside)."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(values))
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())


def largest_difference(a, b):
    """The largest difference, in units of what is tolerated."""
    return float(np.abs(a - b).max() / (TOLERANCE * np.abs(b).max()))


def check(file, arrays):
    stored = np.load(file)
    if set(stored.files) != set(arrays):
        return f"holds {sorted(stored.files)} instead of {sorted(arrays)}"
    worst = max(largest_difference(arrays[name], stored[name]) for name in stored.files)
    return None if worst <= 1 else f"differs by {worst:.3g} times the tolerance"


# ---- sensitivity ---------------------------------------------------------------------------------------------------


def channel_axes(model):
    """The axis of each value along which its channels lie, counted from the end: the third to last one of images, the last
    one behind a product of matrices or a layer normalisation. Other nodes keep that of their operands, moved as they move
    axes."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    axes = {model.graph.input[0].name: -3}
    for node in model.graph.node:
        rank = ranks[node.output[0]]
        known = [(axes[name], ranks[name]) for name in node.input if name in axes]
        if not known:
            continue
        # A sum of an image that was cut into rows and of rows has its channels where these have them.
        axis, before = max(known)
        if node.op_type in ("MatMul", "LayerNormalization", "Gemm", "Flatten"):
            axis = -1
        elif node.op_type in ("Conv", "ConvTranspose"):
            axis = -3
        elif node.op_type == "Transpose":
            axis = list(node.attribute[0].ints).index(before + axis) - rank
        elif node.op_type in ("Reshape", "Squeeze") and axis != -1:
            axis = before + axis - rank
        axes |= dict.fromkeys(node.output, axis)
    return axes


def with_permutations(model, names, axes):
    """The model with the channels of each named value gathered in an order that is a further input."""
    permuted = onnx.ModelProto()
    permuted.CopyFrom(model)
    graph = permuted.graph
    orders = {name: f"order of {name}" for name in names}
    nodes = []
    for node in graph.node:
        output = node.output[0]
        if output in orders:
            node.output[0] = f"{output} in original order"
            inputs = [node.output[0], orders[output]]
            nodes += [node, onnx.helper.make_node("Gather", inputs, [output], axis=axes[output])]
        else:
            nodes.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    kind = onnx.TensorProto.INT64
    graph.input.extend(onnx.helper.make_tensor_value_info(order, kind, [None]) for order in orders.values())
    return permuted, orders


def neighbours(values, axis, start):
    """The first pair of channels from `start` on that a rectified consumer can tell apart: the root mean square of
    their difference is at least a tenth of that of all values."""
    channels = values.shape[axis]
    rectified = np.maximum(np.moveaxis(values, axis, 0).reshape(channels, -1), 0)
    power = np.square(rectified).mean()
    for i in range(channels - 1):
        c = (start + i) % (channels - 1)
        if np.square(rectified[c] - rectified[c + 1]).mean() > 0.01 * power:
            return c
    raise ValueError("all channels are alike")


def sensitivity(model):
    """Per layer: how much the output changes when two neighbouring channels of its output are swapped."""
    axes = channel_axes(model)
    input_name, values = input_of(model)
    result = model.graph.output[0].name
    names = layer_outputs(model)
    whole, *results = session(expose(model, names)).run([result, *names], {input_name: values})
    kept = output_samples(whole)
    results = dict(zip(names, results))
    # A layer of one channel has none that could be swapped.
    names = [name for name in names if results[name].shape[axes[name]] > 1]
    permuted, orders = with_permutations(model, names, axes)
    runner = session(permuted)
    feeds = {orders[name]: np.arange(results[name].shape[axes[name]]) for name in names}
    feeds[input_name] = values
    effects = []
    for i, name in enumerate(names):
        straight = feeds[orders[name]]
        swapped = straight.copy()
        c = neighbours(results[name], axes[name], 7 * i)
        swapped[[c, c + 1]] = c + 1, c
        (output,) = runner.run([result], {**feeds, orders[name]: swapped})
        effects.append((largest_difference(output_samples(output), kept), f"{name}, channels {c} and {c + 1}"))
    return effects


# ---- command line --------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="names of cases (default: all)")
    parser.add_argument("--suite", choices=["small", "full"], help="only the cases of this suite")
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    parser.add_argument("--sensitivity", action="store_true", help="swap channels, write nothing")
    parser.add_argument("--writer", default=WRITER, help="command that writes a model (default: %(default)s)")
    options = parser.parse_args()

    cases = json.loads((FOLDER / "cases.json").read_text())
    unknown = set(options.cases) - {case["name"] for case in cases}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if options.cases:
        cases = [case for case in cases if case["name"] in options.cases]
    if options.suite:
        cases = [case for case in cases if case["suite"] == options.suite]

    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for case in cases:
            model = write_model(case, options.writer, f"{scratch}/model.onnx")
            file = FOLDER / f"{case['name']}.npz"
            if options.sensitivity:
                effects = sensitivity(model)
                least, where = min(effects)
                failed += least <= 1
                verdict = f"{len(effects)} swaps, least effect {least:.1f} times the tolerance: {where}"
            elif options.check:
                problem = check(file, golden(model))
                failed += problem is not None
                verdict = problem or "agrees"
            else:
                save(file, golden(model))
                verdict = f"{file.stat().st_size} bytes"
            print(f"{case['name']}: {verdict}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
