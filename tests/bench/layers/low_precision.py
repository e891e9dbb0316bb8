"""Bytes and half floats: what quantisers write, and networks in f16. A result that is a step off is not wrong."""

import numpy as np
from layers.model import Row
from onnx import TensorProto

STEP = 1 / 100
"""More than one of 128 steps."""


def rows():
    yield Row("Quantised", "dynamic MatMul 196x384 · 384x1536", dynamic(196, 384, 1536), tolerance=STEP)
    yield Row("Quantised", "dynamic MatMul 196x384 · 384x384", dynamic(196, 384, 384), tolerance=STEP)
    yield Row("Quantised", "dynamic MatMul 1x768 · 768x3072", dynamic(1, 768, 3072), tolerance=STEP)
    yield Row("Quantised", "QDQ conv 3x3 64→64 at 28", qdq(64, 64, 28, 3), tolerance=STEP)
    yield Row("Quantised", "QDQ conv 1x1 64→256 at 28", qdq(64, 256, 28, 1), tolerance=STEP)
    yield Row("Quantised", "QDQ depthwise 3x3 96 at 56", qdq(96, 96, 56, 3, groups=96), tolerance=STEP)
    yield Row("Quantised", "MatMulInteger 196x384 · 384x1536", integers)
    yield Row(
        "Quantised",
        "QuantizeLinear 64x3136",
        lambda g: g.node("QuantizeLinear", spaced(g, 64, 3136), g.f32(0.02), g.constant(128, np.uint8)),
    )
    yield Row(
        "Quantised",
        "DequantizeLinear 64x3136",
        lambda g: g.node(
            "DequantizeLinear", g.input(64, 3136, low=0, high=256, dtype=np.uint8), g.f32(0.02), g.constant(128, np.uint8)
        ),
    )
    yield Row(
        "Half floats",
        "MatMul 196x384 · 384x1536",
        lambda g: g.node("MatMul", g.input(196, 384, dtype=np.float16), g.weights(384, 1536, sums=384, dtype=np.float16)),
        tolerance=STEP,
    )
    yield Row("Half floats", "conv 3x3 64→64 at 56, f32 around it", half_conv, tolerance=STEP)


def dynamic(rows, inputs, outputs):
    """As onnxruntime's quantiser writes it."""

    def make(g):
        x, scale, zero = g.node("DynamicQuantizeLinear", g.input(rows, inputs), results=3)
        w = bytes_of(g, inputs, outputs, dtype=np.int8, low=-127)
        sums = g.node("MatMulInteger", x, w, zero, g.constant(0, np.int8))
        return g.node("Mul", g.node("Cast", sums, to=TensorProto.FLOAT), g.node("Mul", scale, g.f32(0.001)))

    return make


def qdq(inputs, outputs, side, kernel, groups=1):
    def pair(g, x, scale):
        there = [g.f32(scale), g.constant(128, np.uint8)]
        return g.node("DequantizeLinear", g.node("QuantizeLinear", x, *there), *there)

    def make(g):
        x = pair(g, g.input(1, inputs, side, side), 2 / 127)
        form = (outputs, inputs // groups, kernel, kernel)
        w = g.node(
            "DequantizeLinear",
            bytes_of(g, *form, dtype=np.int8, low=-127),
            g.f32(0.5 / 127 / form[1] ** 0.5),
            g.constant(0, np.int8),
        )
        y = g.node("Conv", x, w, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, group=groups)
        # The largest of y are clipped, so that a step is 1/128 of them.
        return pair(g, y, kernel / 127)

    return make


def integers(g):
    x = g.input(196, 384, low=0, high=256, dtype=np.uint8)
    return g.node(
        "MatMulInteger", x, bytes_of(g, 384, 1536, dtype=np.int8, low=-127), g.constant(128, np.uint8), g.constant(0, np.int8)
    )


def half_conv(g):
    x = g.node("Cast", g.input(1, 64, 56, 56), to=TensorProto.FLOAT16)
    y = g.node("Conv", x, g.weights(64, 64, 3, 3, dtype=np.float16), pads=[1] * 4)
    return g.node("Cast", g.node("Relu", y), to=TensorProto.FLOAT)


def bytes_of(g, *shape, dtype, low):
    return g.constant(np.random.default_rng(8).integers(low, 128, shape, dtype))


def spaced(g, *shape):
    """Numbers that are not near to the middle between two steps of 0.02."""
    steps = np.random.default_rng(9).integers(-90, 90, shape)
    return g.given((steps * 0.02 + 0.003).astype(np.float32))
