#!/usr/bin/env python3
"""Makes detectors.npz: what onnxruntime computes for the ends of detectors as exporters write them, behind NonMaxSuppression and NonZero.

    python3 tests/goldens/make_detectors.py            write the file
    python3 tests/goldens/make_detectors.py --check    compare with the committed file instead

For each case the file has CASE.model (the bytes of an ONNX model), and for each run CASE.RUN.in.NAME and CASE.RUN.out.NAME. The runs have some
detections, none, and as many as can be. All optimisations of onnxruntime are off. The versions of the packages are those of README.md.
"""

import io
import pathlib
import sys
import zipfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FILE = pathlib.Path(__file__).resolve().parent / "detectors.npz"
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
random = np.random.default_rng(14)


class Tail:
    """A model under construction: `tail.Relu(x)` adds a node and gives the name of its result."""

    def __init__(self):
        self.nodes, self.constants, self.inputs, self.outputs, self.made = [], [], [], [], 0

    def input(self, name, *shape):
        self.inputs.append(helper.make_tensor_value_info(name, FLOAT, shape))
        return name

    def const(self, value):
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        self.constants.append(numpy_helper.from_array(array, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def __getattr__(self, op):
        def node(*inputs, results=1, **attributes):
            self.made += 1
            names = [f"{op}{self.made}_{i}" for i in range(results)]
            inputs = [i if isinstance(i, str) else self.const(i) for i in inputs]
            self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}{self.made}", **attributes))
            return names[0] if results == 1 else names

        return node

    def output(self, name, value):
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(onnx.ValueInfoProto(name=name))

    def model(self):
        graph = helper.make_graph(self.nodes, "tail", self.inputs, self.outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def column(self, rows, index):
        """A column of a matrix, as a list."""
        return self.Squeeze(self.Slice(rows, [index], [index + 1], [1]), [1])


def boxes(*shape):
    low = random.uniform(0, 50, (*shape, 2))
    return np.concatenate([low, low + random.uniform(4, 20, (*shape, 2))], -1).astype(np.float32)


def runs(shape, classes, **others):
    """Boxes and scores, of which some, none and all are above 0.5; and some that are NaN."""
    for name, low, high in [("some", 0.0, 1.0), ("none", 0.0, 0.4), ("all", 0.6, 1.0), ("nan", 0.0, 1.0)]:
        batch, count = shape
        scores = random.uniform(low, high, (batch, classes, count)).astype(np.float32)
        places = boxes(batch, count)
        if name == "nan":
            scores[:, :, ::5], places[:, 1] = np.nan, np.nan
        yield name, {"boxes": places, "scores": scores} | {k: make() for k, make in others.items()}


def selected(tail, batch, classes, count, most):
    places, scores = tail.input("boxes", batch, count, 4), tail.input("scores", batch, classes, count)
    return places, scores, tail.NonMaxSuppression(places, scores, [most], [0.5], [0.5])


def yolo(tail):
    """Rows of image, box, class and score, and how many each image has."""
    places, scores, chosen = selected(tail, 2, 3, 20, 6)
    image, label = tail.Slice(chosen, [0], [1], [1]), tail.Slice(chosen, [1], [2], [1])
    box = tail.GatherND(places, tail.Gather(chosen, [0, 2], axis=1))
    score = tail.Unsqueeze(tail.GatherND(scores, chosen), [1])
    parts = [tail.Cast(image, to=FLOAT), box, tail.Cast(label, to=FLOAT), score]
    tail.output("rows", tail.Concat(*parts, axis=1))
    equal = tail.Equal(image, np.array([[0, 1]]))
    tail.output("counts", tail.ReduceSum(tail.Cast(equal, to=INT64), [0], keepdims=0))
    return runs((2, 20), 3)


def padded(tail):
    """The best of an image, padded with zeros to ten, as TensorFlow's combined suppression has it."""
    places, scores, chosen = selected(tail, 1, 3, 24, 8)
    score = tail.GatherND(scores, chosen)
    count = tail.Cast(tail.Shape(chosen, start=0, end=1), to=FLOAT)
    k = tail.Cast(tail.Min(count, [10.0]), to=INT64)
    best, order = tail.TopK(score, k, results=2)
    lack = tail.Sub([10], k)
    tail.output("scores_", tail.Unsqueeze(tail.Pad(best, tail.Concat([0], lack, axis=0)), [0]))
    label = tail.Gather(tail.Cast(tail.column(chosen, 1), to=FLOAT), order, axis=0)
    tail.output("labels", tail.Unsqueeze(tail.Pad(label, tail.Concat([0], lack, axis=0)), [0]))
    box = tail.Gather(tail.GatherND(places, tail.Gather(chosen, [0, 2], axis=1)), order, axis=0)
    tail.output("boxes_", tail.Unsqueeze(tail.Pad(box, tail.Concat([0, 0], lack, [0], axis=0)), [0]))
    tail.output("count", k)
    # The other spelling: rows of zeros behind, then the first ten.
    longer = tail.Concat(box, tail.ConstantOfShape([10, 4]), axis=0)
    tail.output("first", tail.Slice(longer, [0], [10], [0]))
    return runs((1, 24), 3)


def torchvision(tail):
    """Scores above a threshold, boxes that are large enough, and classes apart from each other by an offset."""
    count, classes = 30, 4
    places, scores = tail.input("boxes", count, 4), tail.input("scores", count, classes)
    high = tail.NonZero(tail.Greater(scores, np.float32(0.5)))
    row, label = tail.Gather(high, np.int64(0), axis=0), tail.Gather(high, np.int64(1), axis=0)
    score = tail.GatherND(scores, tail.Transpose(high, perm=[1, 0]))
    box = tail.Gather(places, row, axis=0)
    size = tail.Sub(tail.Slice(box, [2], [4], [1]), tail.Slice(box, [0], [2], [1]))
    large = tail.GreaterOrEqual(tail.ReduceMin(size, axes=[1], keepdims=0), np.float32(6))
    keep = tail.Squeeze(tail.Transpose(tail.NonZero(large), perm=[1, 0]), [1])
    box, score, label = (tail.Gather(value, keep, axis=0) for value in (box, score, label))
    offset = tail.Mul(tail.Cast(label, to=FLOAT), tail.Add(tail.ReduceMax(box, keepdims=0), np.float32(1)))
    apart = tail.Add(box, tail.Unsqueeze(offset, [1]))
    chosen = tail.NonMaxSuppression(
        tail.Unsqueeze(apart, [0]), tail.Unsqueeze(score, [0, 1]), [np.iinfo(np.int64).max], [0.5]
    )
    keep = tail.Slice(tail.column(chosen, 2), [0], [12], [0])
    for name, value in (("boxes_", box), ("labels", label), ("scores_", score)):
        tail.output(name, tail.Gather(value, keep, axis=0))
    for name, given in runs((1, count), classes):
        if name != "nan":
            yield name, {"boxes": given["boxes"][0], "scores": given["scores"][0].T.copy()}


def paddle(tail):
    """Suppression by class, the best of all classes together, and those in the order of their classes."""
    places, scores, chosen = selected(tail, 1, 3, 24, 8)
    label, box = tail.column(chosen, 1), tail.column(chosen, 2)
    flat = tail.Add(tail.Mul(label, [24]), box)
    score = tail.Gather(tail.Reshape(scores, [-1]), flat, axis=0)
    counts = tail.Cast(tail.Concat(tail.Shape(score), [10], axis=0), to=FLOAT)
    k = tail.Cast(tail.ReduceMin(counts, axes=[0], keepdims=1), to=INT64)
    best, order = tail.TopK(score, k, results=2)
    label, box = tail.Gather(label, order, axis=0), tail.Gather(box, order, axis=0)
    place = tail.Gather(tail.Squeeze(places, [0]), box, axis=0)
    kind = tail.Cast(label, to=FLOAT)
    rows = tail.Concat(tail.Unsqueeze(kind, [1]), tail.Unsqueeze(best, [1]), place, axis=1)
    _, order = tail.TopK(kind, tail.Shape(kind), results=2, largest=0)
    tail.output("rows", tail.Gather(rows, order, axis=0))
    tail.output("count", tail.Cast(tail.Shape(rows, start=0, end=1), to=TensorProto.INT32))
    return runs((1, 24), 3)


def regions(tail):
    """A second stage: a network over the regions that the first one found, and a mask of the best class of each."""
    image = tail.input("image", 1, 3, 16, 16)
    places, _, chosen = selected(tail, 1, 1, 20, 10)
    box = tail.Gather(tail.Squeeze(places, [0]), tail.column(chosen, 2), axis=0)
    which = tail.ConstantOfShape(tail.Shape(box, start=0, end=1), value=numpy_helper.from_array(np.array([0])))
    crops = tail.RoiAlign(
        image, box, which, output_height=4, output_width=4, sampling_ratio=2, spatial_scale=0.25
    )
    hidden = tail.Relu(tail.Conv(crops, random.normal(size=(5, 3, 3, 3)), pads=[1] * 4))
    logits = tail.Gemm(tail.Flatten(hidden), random.normal(size=(80, 4)) / 9, random.normal(size=4))
    tail.output("classes", tail.Softmax(logits, axis=1))
    best = tail.ArgMax(logits, axis=1, keepdims=0)
    masks = tail.ConvTranspose(hidden, random.normal(size=(5, 4, 2, 2)) / 3, strides=[2, 2])
    rows = tail.Range(np.int64(0), tail.Squeeze(tail.Shape(best)), np.int64(1))
    at = tail.Concat(tail.Unsqueeze(rows, [1]), tail.Unsqueeze(best, [1]), axis=1)
    tail.output("masks", tail.Sigmoid(tail.GatherND(masks, at)))
    deltas = tail.Reshape(tail.Gemm(tail.Flatten(hidden), random.normal(size=(80, 16)) / 9), [-1, 4, 4])
    tail.output("refined", tail.Add(box, tail.GatherND(deltas, at)))
    given = runs((1, 20), 1, image=lambda: random.normal(size=(1, 3, 16, 16)).astype(np.float32))
    return (run for run in given if run[0] in ("some", "all"))


def matrix_suppression(tail):
    """Scores that fall by how much better boxes of any class share with a box."""
    places, scores, chosen = selected(tail, 1, 2, 24, 10)
    score = tail.GatherND(scores, chosen)
    order = tail.TopK(score, tail.Shape(score), results=2)[1]
    box = tail.Gather(tail.GatherND(places, tail.Gather(chosen, [0, 2], axis=1)), order, axis=0)
    score = tail.Gather(score, order, axis=0)
    low, high = tail.Slice(box, [0], [2], [1]), tail.Slice(box, [2], [4], [1])
    def both(op, corner):
        return op(tail.Unsqueeze(corner, [1]), tail.Unsqueeze(corner, [0]))
    shared = tail.ReduceProd(tail.Relu(tail.Sub(both(tail.Min, high), both(tail.Max, low))), axes=[2], keepdims=0)
    area = tail.ReduceProd(tail.Sub(high, low), axes=[1], keepdims=1)
    union = tail.Sub(tail.Add(area, tail.Transpose(area, perm=[1, 0])), shared)
    share = tail.Trilu(tail.Div(shared, union), np.int64(1))
    most = tail.ReduceMax(share, axes=[0], keepdims=0)
    tail.output("scores_", tail.Mul(score, tail.Exp(tail.Neg(tail.Mul(most, most)))))
    keep = tail.Less(most, np.float32(0.3))
    tail.output("kept", tail.Compress(box, keep, axis=0))
    return (run for run in runs((1, 24), 2) if run[0] in ("some", "all"))


def arrays():
    found = {}
    for case in (yolo, padded, torchvision, paddle, regions, matrix_suppression):
        tail = Tail()
        given = list(case(tail))
        model = tail.model().SerializeToString()
        found[f"{case.__name__}.model"] = np.frombuffer(model, np.uint8)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for run, inputs in given:
            for name, array in inputs.items():
                found[f"{case.__name__}.{run}.in.{name}"] = array
            names = [output.name for output in session.get_outputs()]
            for name, array in zip(names, session.run(names, inputs)):
                found[f"{case.__name__}.{run}.out.{name}"] = array
    return found


def main():
    found = arrays()
    if "--check" in sys.argv:
        with np.load(FILE) as file:
            known = dict(file)
        assert known.keys() == found.keys(), known.keys() ^ found.keys()
        for name, array in found.items():
            if array.dtype == np.float32:
                np.testing.assert_allclose(array, known[name], 1e-5, 1e-6, err_msg=name)
            else:
                assert name.endswith(".model") or np.array_equal(array, known[name]), name
        print(f"{len(found)} arrays agree")
        return
    with zipfile.ZipFile(FILE, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in found.items():
            data = io.BytesIO()
            np.save(data, array)
            # A fixed date, so that the same arrays make the same file.
            file.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), data.getvalue(), zipfile.ZIP_DEFLATED)
    print(f"{len(found)} arrays in {FILE.name}")


if __name__ == "__main__":
    main()
