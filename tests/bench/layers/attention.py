"""Attention and what stands around it, written out as exporters write it; blocks of networks for pictures."""

import numpy as np
from layers.convolutions import silu
from layers.model import Row


def rows():
    for name, batch, heads, tokens, extent, options in [
        ("6 heads of 196x64", 1, 6, 196, 64, {}),
        ("6 heads of 196x64, batch 8", 8, 6, 196, 64, {}),
        ("6 heads of 196x64, mask", 1, 6, 196, 64, {"mask": "input"}),
        ("6 heads of 196x64, causal", 1, 6, 196, 64, {"mask": "causal"}),
        ("12 heads of 128x64, mask", 1, 12, 128, 64, {"mask": "input"}),
        ("8 heads of 33x20", 1, 8, 33, 20, {}),
    ]:
        yield Row("Attention", name, self_attention(batch, heads, tokens, extent, **options))
    yield Row("Attention", "decoder step, 12 heads, 512 past", step(12, 512, 64))
    yield Row("Attention", "cross, 8 heads 50 by 196x64", cross(8, 50, 196, 64))
    yield Row("Attention, windows", "64 windows of 49, 3 heads of 32", windows(64, 49, 3))
    yield Row("Attention, windows", "16 windows of 49, 6 heads of 32, shifted", windows(16, 49, 6, shifted=True))
    yield Row("Attention, windows", "partition and back, 56x56x96 in 7x7", partition(56, 7, 96))
    yield Row("Block", "MLP 196x384x1536, Gelu", mlp(196, 384, 1536))
    yield Row("Block", "MLP 8x49x768x3072, Gelu", mlp(8 * 49, 768, 3072))
    yield Row("Block", "gated MLP 128x512x1376, SiLU", gated(128, 512, 1376))
    yield Row("Block", "transformer layer, 6 heads of 196x64", transformer(6, 196, 64))
    yield Row("Block", "squeeze and excite 96 at 56", squeeze(96, 24, 56))
    yield Row("Block", "inverted residual 24 · 6 at 56", inverted(24, 6, 56))
    yield Row("Block", "ConvNeXt 96 at 56", convnext(96, 56))


def heads_of(g, x, batch, tokens, heads, extent):
    return g.node("Transpose", g.node("Reshape", x, g.ints(batch, tokens, heads, extent)), perm=[0, 2, 1, 3])


def weighted(g, q, k, v, extent, add=None):
    """softmax(q·kᵀ / √extent + add) · v"""
    scores = g.node("MatMul", g.node("Mul", q, g.f32(extent**-0.5)), g.node("Transpose", k, perm=[0, 1, 3, 2]))
    if add:
        scores = g.node("Add", scores, add)
    return g.node("MatMul", g.node("Softmax", scores, axis=-1), v)


def attend(g, x, batch, heads, tokens, extent, mask=None):
    width = heads * extent
    q, k, v = (heads_of(g, linear(g, x, width, width), batch, tokens, heads, extent) for _ in range(3))
    add = None
    if mask == "causal":
        add = g.constant(np.triu(np.full((1, 1, tokens, tokens), -1e9, np.float32), 1))
    elif mask:
        there = g.node("Cast", g.input(batch, 1, 1, tokens, dtype=bool), to=1)
        add = g.node("Mul", g.node("Sub", g.f32(1), there), g.f32(-1e9))
    y = g.node("Transpose", weighted(g, q, k, v, extent, add), perm=[0, 2, 1, 3])
    return linear(g, g.node("Reshape", y, g.ints(batch, tokens, width)), width, width)


def self_attention(batch, heads, tokens, extent, mask=None):
    return lambda g: attend(g, g.input(batch, tokens, heads * extent), batch, heads, tokens, extent, mask)


def step(heads, past, extent):
    def make(g):
        q, k, v = (g.input(1, heads, 1, extent) for _ in range(3))
        keys, values = (g.node("Concat", g.input(1, heads, past, extent), new, axis=2) for new in (k, v))
        return [weighted(g, q, keys, values, extent), keys, values]

    return make


def cross(heads, queries, tokens, extent):
    def make(g):
        q, k, v = (g.input(1, heads, n, extent) for n in (queries, tokens, tokens))
        return weighted(g, q, k, v, extent)

    return make


def windows(count, tokens, heads, shifted=False, extent=32):
    def make(g):
        width = heads * extent
        x = linear(g, g.input(count, tokens, width), width, 3 * width)
        qkv = g.node("Transpose", g.node("Reshape", x, g.ints(count, tokens, 3, heads, extent)), perm=[2, 0, 3, 1, 4])
        q, k, v = (g.node("Gather", qkv, g.constant(part, np.int64), axis=0) for part in range(3))
        scores = g.node("MatMul", g.node("Mul", q, g.f32(extent**-0.5)), g.node("Transpose", k, perm=[0, 1, 3, 2]))
        scores = g.node("Add", scores, g.weights(1, heads, tokens, tokens))
        if shifted:
            scores = g.node(
                "Add", scores, g.constant(np.where(np.indices((count, 1, tokens, tokens)).sum(0) % 3, 0, -100), np.float32)
            )
        y = g.node("MatMul", g.node("Softmax", scores, axis=-1), v)
        y = g.node("Reshape", g.node("Transpose", y, perm=[0, 2, 1, 3]), g.ints(count, tokens, width))
        return linear(g, y, width, width)

    return make


def partition(side, window, width):
    """Roll by half a window, cut into windows, put together again, roll back."""
    count = side // window

    def roll(g, x, by):
        for axis in (1, 2):
            parts = [g.node("Slice", x, g.ints(start), g.ints(end), g.ints(axis)) for start, end in ((by, side), (0, by))]
            x = g.node("Concat", *parts, axis=axis)
        return x

    def make(g):
        x = roll(g, g.input(1, side, side, width), window // 2)
        x = g.node("Transpose", g.node("Reshape", x, g.ints(1, count, window, count, window, width)), perm=[0, 1, 3, 2, 4, 5])
        x = g.node("Relu", g.node("Reshape", x, g.ints(count * count, window * window, width)))
        x = g.node("Transpose", g.node("Reshape", x, g.ints(1, count, count, window, window, width)), perm=[0, 1, 3, 2, 4, 5])
        return roll(g, g.node("Reshape", x, g.ints(1, side, side, width)), side - window // 2)

    return make


def linear(g, x, inputs, outputs):
    return g.node("Add", g.node("MatMul", x, g.weights(inputs, outputs, sums=inputs)), g.weights(outputs))


def norm(g, x, width):
    return g.node("LayerNormalization", x, g.weights(width), g.weights(width), axis=-1, epsilon=1e-6)


def gelu(g, x):
    """As PyTorch's exporter writes it."""
    erf = g.node("Erf", g.node("Div", x, g.f32(2**0.5)))
    return g.node("Mul", g.node("Mul", x, g.node("Add", erf, g.f32(1))), g.f32(0.5))


def mlp(tokens, width, hidden):
    return lambda g: linear(g, gelu(g, linear(g, g.input(tokens, width), width, hidden)), hidden, width)


def gated(tokens, width, hidden):
    def make(g):
        x = g.input(tokens, width)
        gate = silu(g, g.node("MatMul", x, g.weights(width, hidden, sums=width)))
        up = g.node("MatMul", x, g.weights(width, hidden, sums=width))
        return g.node("MatMul", g.node("Mul", gate, up), g.weights(hidden, width, sums=hidden))

    return make


def transformer(heads, tokens, extent):
    width = heads * extent

    def make(g):
        x = g.input(1, tokens, width)
        x = g.node("Add", x, attend(g, norm(g, x, width), 1, heads, tokens, extent))
        y = linear(g, gelu(g, linear(g, norm(g, x, width), width, 4 * width)), 4 * width, width)
        return g.node("Add", x, y)

    return make


def point(g, x, inputs, outputs):
    return g.node("Conv", x, g.weights(outputs, inputs, 1, 1), g.weights(outputs))


def squeeze(channels, few, side):
    def make(g):
        x = g.input(1, channels, side, side)
        y = g.node("Relu", point(g, g.node("GlobalAveragePool", x), channels, few))
        return g.node("Mul", x, g.node("HardSigmoid", point(g, y, few, channels)))

    return make


def inverted(channels, times, side):
    wide = channels * times

    def make(g):
        clip = lambda y: g.node("Clip", y, g.f32(0), g.f32(6))
        x = g.input(1, channels, side, side)
        y = clip(point(g, x, channels, wide))
        y = clip(g.node("Conv", y, g.weights(wide, 1, 3, 3), g.weights(wide), group=wide, pads=[1] * 4))
        return g.node("Add", x, point(g, y, wide, channels))

    return make


def convnext(channels, side):
    def make(g):
        x = g.input(1, channels, side, side)
        y = g.node("Conv", x, g.weights(channels, 1, 7, 7), g.weights(channels), group=channels, pads=[3] * 4)
        y = norm(g, g.node("Transpose", y, perm=[0, 2, 3, 1]), channels)
        y = linear(g, gelu(g, linear(g, y, channels, 4 * channels)), 4 * channels, channels)
        return g.node("Add", x, g.node("Transpose", g.node("Mul", y, g.weights(channels)), perm=[0, 3, 1, 2]))

    return make
