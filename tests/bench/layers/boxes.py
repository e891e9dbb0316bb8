"""What detectors do with boxes: NonMaxSuppression, RoiAlign, decoding."""

import numpy as np
from layers.model import Row


def rows():
    for name, boxes, classes, batch, most, threshold in [
        ("8400 boxes, 1 class", 8400, 1, 1, 100, 0.25),
        ("8400 boxes, 80 classes", 8400, 80, 1, 100, 0.9),
        ("1000 boxes, 1 class, keeps all it can", 1000, 1, 1, 1000, 0.0),
        ("1000 boxes, 4 classes, batch 8", 1000, 4, 8, 50, 0.5),
        ("333 boxes, 7 classes", 333, 7, 1, 33, 0.5),
    ]:
        yield Row("NonMaxSuppression", name, suppress(boxes, classes, batch, most, threshold))
    for name, shape, count, side, options in [
        ("100 of 7x7, 64x50x50", (1, 64, 50, 50), 100, 7, {"sampling_ratio": 2}),
        ("16 of 14x14, 256x50x50", (1, 256, 50, 50), 16, 14, {"sampling_ratio": 2}),
        ("100 of 7x7, 64x50x50, max", (1, 64, 50, 50), 100, 7, {"sampling_ratio": 2, "mode": "max"}),
        ("33 of 5x5, 13x31x29, as many samples as fit", (1, 13, 31, 29), 33, 5, {}),
    ]:
        yield Row("RoiAlign", name, align(shape, count, side, options))
    yield Row("Block", "decode YOLO boxes 64x8400", decode)


def suppress(boxes, classes, batch, most, threshold):
    def make(g):
        random = np.random.default_rng(5)
        corner, size = random.uniform(0, 600, (batch, boxes, 2)), random.uniform(8, 80, (batch, boxes, 2))
        found = g.given(np.concatenate([corner, corner + size], -1).astype(np.float32))
        # No two are equal, so that there is one order.
        scores = np.stack([random.permutation(boxes) / boxes for _ in range(batch * classes)]).reshape(batch, classes, boxes)
        limits = [g.constant(most, np.int64), g.f32(0.45), g.f32(threshold)]
        return g.node("NonMaxSuppression", found, g.given(scores.astype(np.float32)), *limits)

    return make


def align(shape, count, side, options):
    def make(g):
        random = np.random.default_rng(6)
        corner, size = random.uniform(0, 300, (count, 2)), random.uniform(30, 200, (count, 2))
        regions = g.given(np.concatenate([corner, corner + size], -1).astype(np.float32))
        options_here = {"output_height": side, "output_width": side, "spatial_scale": 1 / 16, **options}
        return g.node("RoiAlign", g.input(*shape), regions, g.given(np.zeros(count, np.int64)), **options_here)

    return make


def decode(g):
    """Distances as distributions of 16 bins to boxes."""
    x = g.node("Transpose", g.node("Reshape", g.input(1, 64, 8400), g.ints(1, 4, 16, 8400)), perm=[0, 2, 1, 3])
    bins = g.constant(np.arange(16).reshape(1, 16, 1, 1), np.float32)
    x = g.node("Reshape", g.node("Conv", g.node("Softmax", x, axis=1), bins), g.ints(1, 4, 8400))
    near, far = g.node("Split", x, axis=1, num_outputs=2, results=2)
    anchors = g.constant(np.random.default_rng(7).uniform(0, 80, (1, 2, 8400)), np.float32)
    low, high = g.node("Sub", anchors, near), g.node("Add", anchors, far)
    centre = g.node("Div", g.node("Add", low, high), g.f32(2))
    boxes = g.node("Concat", centre, g.node("Sub", high, low), axis=1)
    return g.node("Mul", boxes, g.constant(np.repeat([8.0, 16, 32], [6400, 1600, 400])[np.newaxis, np.newaxis], np.float32))
