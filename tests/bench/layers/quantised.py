"""What onnxruntime's quantiser writes. A result that is a step off is not wrong.

The rows of `low_precision.py` go from f32 to f32. These go from bytes to bytes, as layers inside of a quantised network do:

    bytes ─ DequantizeLinear ─┐
    weights ─ Dequantize… ────┼─ Conv ─ QuantizeLinear ─ bytes
    bias ─ DequantizeLinear ──┘
"""

import dataclasses

import numpy as np
from layers.model import Row


@dataclasses.dataclass(frozen=True)
class Bytes:
    """How a tensor is quantised: what a byte stands for is (byte - zero) * scale."""

    scale: float
    zero: int = 128
    dtype: type = np.uint8

    def operands(self, g):
        return g.f32(self.scale), g.constant(self.zero, self.dtype)

    def input(self, g, *shape):
        """Bytes of all values, as numbers."""
        ends = np.iinfo(self.dtype)
        low = max(ends.min, -127)
        return self.numbers(g, g.input(*shape, low=low, high=ends.max + 1, dtype=self.dtype))

    def numbers(self, g, x):
        return g.node("DequantizeLinear", x, *self.operands(g))

    def bytes(self, g, x):
        return g.node("QuantizeLinear", x, *self.operands(g))


IN = Bytes(2 / 127)
"""Numbers from -2 to 2."""


def rows():
    for name, make in [*convolutions(), *products(), *moves()]:
        yield Row("Quantised", name, make, steps=1)


def convolutions():
    yield "QLinearConv 1x1 128→128 at 28", qlinear_conv
    positive, signed = Bytes(2 / 255, 0), Bytes(2 / 127, 0, np.int8)
    for name, *arguments in [
        ("QDQ conv 3x3 64→64 at 56, u8 from 0", (64, 56, 56), 64, 3, positive),
        ("QDQ conv 3x3 64→64 at 56, u8 around 128", (64, 56, 56), 64, 3, IN),
        ("QDQ conv 3x3 64→64 at 56, s8", (64, 56, 56), 64, 3, signed),
        ("QDQ conv 1x1 128→128 at 28", (128, 28, 28), 128, 1, IN),
        ("QDQ conv 3x3/2 3→32 at 224", (3, 224, 224), 32, 3, IN, 1, 2),
        ("QDQ depthwise 3x3 96 at 56, bytes", (96, 56, 56), 96, 3, IN, 96),
        ("QDQ depthwise 3x3/2 96 at 112", (96, 112, 112), 96, 3, IN, 96, 2),
        ("QDQ conv 1x1 240→60 at 28, 3 groups", (240, 28, 28), 60, 1, IN, 3),
    ]:
        yield name, conv(*arguments)


def products():
    yield "QDQ Gemm 1x1024 · 1024x1000", gemm(1, 1024, 1000)
    yield "QDQ Gemm 196x384 · 384x1536", gemm(196, 384, 1536)
    yield "QDQ MatMul of two inputs 6x197x64 · 6x64x197", matmul
    yield "QDQ MatMul of two inputs 6x197x197 · 6x197x64, the first from 0", attention


def moves():
    """Layers without weights."""
    image = (1, 64, 56, 56)
    yield "QDQ Add of two images 64 at 56", lambda g: Bytes(3 / 127).bytes(
        g, g.node("Add", IN.input(g, *image), Bytes(1 / 127, 120).input(g, *image))
    )
    yield "QDQ Concat 64+64+128 at 28, three scales", concat
    for name, shape, out, op, attributes in [
        ("GlobalAveragePool 1024 at 7", (1, 1024, 7, 7), Bytes(1 / 127), "GlobalAveragePool", {}),
        ("AveragePool 3x3/2 64 at 56", image, IN, "AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2]}),
        ("MaxPool 3x3/2 64 at 112", (1, 64, 112, 112), IN, "MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2]}),
        ("Sigmoid 64 at 56", image, Bytes(1 / 255, 0), "Sigmoid", {}),
    ]:
        yield f"QDQ {name}", unary(shape, out, op, attributes)
    for mode in ("nearest", "linear"):
        yield f"QDQ Resize x2 64 at 28, {mode}", resize(mode)
    yield "QDQ x·Sigmoid(x) 64 at 56", silu


def conv(image, outputs, kernel, into, groups=1, stride=1):
    def make(g):
        x = into.input(g, 1, *image)
        form = (outputs, image[0] // groups, kernel, kernel)
        w, b = weights(g, form, 0, into.scale)
        ends = [kernel // 2] * 4
        y = g.node("Conv", x, w, b, kernel_shape=[kernel] * 2, pads=ends, strides=[stride] * 2, group=groups)
        # Of what leaves the range, a quantised ReLU is made.
        out = dataclasses.replace(into, scale=into.scale * kernel / 2)
        return out.bytes(g, y)

    return make


def gemm(rows, inputs, outputs):
    def make(g):
        x = IN.input(g, rows, inputs)
        w, b = weights(g, (outputs, inputs), 0, IN.scale)
        return Bytes(1 / 127).bytes(g, g.node("Gemm", x, w, b, transB=1))

    return make


def weights(g, form, axis, scale):
    """Weights in s8 with a scale for each output, and a bias in i32 whose scales are the products, as numbers."""
    count = form[axis]
    # So that a sum over them of numbers from -2 to 2 hardly leaves -kernel to kernel.
    scales = (np.linspace(0.4, 0.6, count) / 127 / form[1] ** 0.5).astype(np.float32)
    random = np.random.default_rng(8)
    values = g.constant(random.integers(-127, 128, form, np.int8))
    w = g.node("DequantizeLinear", values, g.constant(scales), g.constant(np.zeros(count), np.int8), axis=axis)
    biases = g.constant(random.integers(-1000, 1000, count, np.int32))
    products = g.constant(scales * np.float32(scale))
    return w, g.node("DequantizeLinear", biases, products, g.constant(np.zeros(count), np.int32), axis=0)


def qlinear_conv(g):
    x = g.input(1, 128, 28, 28, low=0, high=256, dtype=np.uint8)
    random = np.random.default_rng(8)
    w = g.constant(random.integers(-127, 128, (128, 128, 1, 1), np.int8))
    scales = g.constant(np.linspace(0.4, 0.6, 128) / 127 / 128**0.5, np.float32)
    b = g.constant(random.integers(-1000, 1000, 128, np.int32))
    zeros = g.constant(np.zeros(128), np.int8)
    operands = [x, *IN.operands(g), w, scales, zeros, *Bytes(1 / 127).operands(g), b]
    return g.node("QLinearConv", *operands, kernel_shape=[1, 1])


def matmul(g):
    y = g.node("MatMul", IN.input(g, 1, 6, 197, 64), IN.input(g, 1, 6, 64, 197))
    return Bytes(32 / 127).bytes(g, y)


def attention(g):
    """The second product of attention: what Softmax gives by the values."""
    y = g.node("MatMul", Bytes(1 / 255 / 98, 0).input(g, 1, 6, 197, 197), IN.input(g, 1, 6, 197, 64))
    return Bytes(0.3 / 127).bytes(g, y)


def concat(g):
    parts = [Bytes(2 / 127), Bytes(1 / 127, 100), Bytes(3 / 255, 0)]
    inputs = [part.input(g, 1, channels, 28, 28) for part, channels in zip(parts, (64, 64, 128), strict=True)]
    return Bytes(3 / 127).bytes(g, g.node("Concat", *inputs, axis=1))


def unary(shape, out, op, attributes):
    return lambda g: out.bytes(g, g.node(op, IN.input(g, *shape), **attributes))


def resize(mode):
    def make(g):
        scales = g.constant([1, 1, 2, 2], np.float32)
        options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} if mode == "nearest" else {}
        return IN.bytes(g, g.node("Resize", IN.input(g, 1, 64, 28, 28), None, scales, mode=mode, **options))

    return make


def silu(g):
    x, gate = IN.input(g, 1, 64, 56, 56), Bytes(1 / 255, 0)
    y = gate.numbers(g, gate.bytes(g, g.node("Sigmoid", x)))
    return IN.bytes(g, g.node("Mul", x, y))
