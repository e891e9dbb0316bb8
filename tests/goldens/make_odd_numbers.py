#!/usr/bin/env python3
"""Makes odd_numbers.npz: what onnxruntime computes where inputs or weights are NaN, infinite, or next to them.

    python3 tests/goldens/make_odd_numbers.py            write the file
    python3 tests/goldens/make_odd_numbers.py --check    compare with the committed file instead

For each case the file has NAME.model (the bytes of an ONNX model with input x and output y), NAME.x and NAME.y. All
optimisations of onnxruntime are off. The versions of the packages are those of README.md.
"""

import io
import pathlib
import sys
import zipfile

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FILE = pathlib.Path(__file__).resolve().parent / "odd_numbers.npz"
NAN, INF = np.float32("nan"), np.float32("inf")
TINY, HUGE = np.float32(1e-40), np.float32(3e38)
# A row for everything that acts on single elements.
ROW = np.array([NAN, -INF, INF, -0.0, 0.0, TINY, -TINY, HUGE, -HUGE, 1.5, -2.5, 90.0, -90.0], np.float32)


def model(op, x, weights=(), opset=17, **attributes):
    names = ["x"] + [f"w{i}" for i in range(len(weights))]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(w), f"w{i}") for i, w in enumerate(weights)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def normalised(x, w, mean, var):
    """A convolution and the batch norm that compilers fold into it, without an epsilon."""
    ones, zeros = np.ones(len(w), np.float32), np.zeros(len(w), np.float32)
    weights = {"w": w, "ones": ones, "zeros": zeros, "mean": mean, "var": var}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
            helper.make_node("BatchNormalization", ["c", "ones", "zeros", "mean", "var"], ["y"], epsilon=0.0),
        ],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def image(*special):
    """A 2-channel image of 5 by 5 with these numbers spread over it."""
    x = (np.arange(50, dtype=np.float32) % 7 - 3).reshape(1, 2, 5, 5)
    for i, value in enumerate(special):
        x.reshape(-1)[(i * 17 + 6) % 50] = value
    return x


def f(*numbers):
    return np.array(numbers, np.float32)


def cases():
    for op in ["Relu", "Sigmoid", "Tanh", "Exp", "Sqrt", "Abs", "Neg", "Floor", "Ceil", "Round", "HardSwish",
               "HardSigmoid", "Elu", "Selu", "Softplus", "Softsign", "Reciprocal", "Erf", "Sign", "Log"]:
        yield op.lower(), model(op, ROW), ROW
    yield "leaky_relu", model("LeakyRelu", ROW, alpha=0.1), ROW
    yield "clip", model("Clip", ROW, [f(-1)[0], f(6)[0]]), ROW
    for op in ["Add", "Sub", "Mul", "Div", "Max", "Min"]:
        for name, w in [("nan", NAN), ("inf", INF), ("zero", np.float32(0)), ("one", np.float32(1))]:
            yield f"{op.lower()}_{name}", model(op, ROW, [f(w)]), ROW
    weights = (np.arange(36, dtype=np.float32) % 5 - 2).reshape(2, 2, 3, 3) / 4
    plain, odd = image(), image(NAN, INF)
    spoilt = weights.copy()
    spoilt[0, 0, 0, 0], spoilt[1, 1, 2, 2] = NAN, INF
    for pads in [0, 1]:
        yield f"conv_input_pads_{pads}", model("Conv", odd, [weights], pads=[pads] * 4), odd
        yield f"conv_weights_pads_{pads}", model("Conv", plain, [spoilt], pads=[pads] * 4), plain
    yield "conv_bias", model("Conv", plain, [weights, f(NAN, -INF)]), plain
    deep = np.ascontiguousarray(spoilt[:, :1])
    yield "conv_depthwise", model("Conv", image(INF), [deep], pads=[1] * 4, group=2), image(INF)
    points = np.ascontiguousarray(spoilt[:, :, :1, :1])
    yield "conv_pointwise", model("Conv", image(-INF), [points]), image(-INF)
    for op in ["AveragePool", "MaxPool"]:
        for name, x in [("inf", image(INF, -INF)), ("low", np.full((1, 2, 5, 5), -INF, np.float32))]:
            yield f"{op.lower()}_{name}", model(op, x, kernel_shape=[3, 3], pads=[1] * 4), x
    yield "averagepool_nan", model("AveragePool", odd, kernel_shape=[2, 2]), odd
    for op in ["GlobalAveragePool", "GlobalMaxPool"]:
        yield op.lower(), model(op, image(INF)), image(INF)
    yield "globalaveragepool_nan", model("GlobalAveragePool", odd), odd
    scale, shift = f(1, 2), f(0.5, -0.5)
    for name, mean, var in [("nan", f(NAN, 0), f(1, 1)), ("var_zero", f(0, 0), f(0, 0)), ("var_inf", f(0, 0), f(INF, 1)),
                            ("var_negative", f(0, 0), f(-1, 1))]:
        yield f"batch_norm_{name}", model("BatchNormalization", plain, [scale, shift, mean, var]), plain
    yield "conv_batch_norm_var_zero", normalised(plain, weights, f(0, 0), f(0, 1)), plain
    yield "conv_batch_norm_mean_inf", normalised(plain, weights, f(INF, 0), f(1, 1)), plain
    for op in ["ReduceSum", "ReduceMean"]:
        for name, x in [("nan", odd), ("inf", image(INF)), ("both", image(INF, -INF))]:
            yield f"{op.lower()}_{name}", model(op, x, opset=11, axes=[2, 3]), x
    rows = np.stack([f(1, 2, 3), f(1, NAN, 3), f(INF, 1, 2), f(-INF, 1, 2), f(-INF, -INF, -INF), f(HUGE, -HUGE, 0)])
    for op in ["Softmax", "LogSoftmax"]:
        yield op.lower(), model(op, rows, axis=1), rows
    matrix = np.array([[1, NAN], [INF, 0], [2, 3]], np.float32)
    yield "matmul", model("MatMul", rows, [matrix]), rows
    yield "gemm", model("Gemm", rows, [matrix, f(-INF, 1)], alpha=0.5), rows
    # Images that a rectangle of NaN covers in part, through a layer that kernels do by tiles.
    wide = (np.arange(8 * 144, dtype=np.float32) % 11 - 5).reshape(1, 8, 12, 12)
    wide[0, 3, 4:6, 4:6] = NAN
    wide[0, 5, 11, 11] = INF
    w = ((np.arange(16 * 8 * 9) % 13 - 6) / 16).astype(np.float32).reshape(16, 8, 3, 3)
    yield "conv_wide", model("Conv", wide, [w], pads=[1] * 4), wide
    yield "conv_wide_strided", model("Conv", wide, [w], pads=[1] * 4, strides=[2, 2]), wide


def make():
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    arrays = {}
    for name, proto, x in cases():
        data = proto.SerializeToString()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        arrays[f"{name}.model"] = np.frombuffer(data, np.uint8)
        arrays[f"{name}.x"] = x
        arrays[f"{name}.y"] = session.run(None, {"x": x})[0]
    return arrays


def write(arrays):
    """The same arrays give the same bytes."""
    with zipfile.ZipFile(FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue(), zipfile.ZIP_DEFLATED)


def main():
    arrays = make()
    if "--check" not in sys.argv:
        write(arrays)
        print(f"{len(arrays) // 3} cases, {FILE.stat().st_size} bytes")
        return
    committed = np.load(FILE)
    assert sorted(committed.files) == sorted(arrays), "other cases"
    wrong = [name for name, array in arrays.items() if not np.array_equal(committed[name], array, equal_nan=array.dtype == np.float32)]
    sys.exit(f"different: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
