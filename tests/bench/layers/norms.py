"""Normalisations, as operators and written out, and softmaxes."""

from layers.model import Row


def rows():
    yield from norms()
    yield from softmaxes()


def norms():
    for shape in [(1, 64, 56, 56), (1, 32, 256, 256), (8, 64, 28, 28), (1, 37, 31, 29), (1, 80, 1000)]:
        yield Row(
            "InstanceNormalization",
            by(shape),
            lambda g, s=shape: g.node("InstanceNormalization", g.input(*s), g.weights(s[1]), g.weights(s[1])),
        )
    for shape in [(1, 196, 384), (1, 197, 768), (1, 1, 768), (8, 196, 384), (1, 37, 219), (1, 56, 56, 96)]:
        yield Row(
            "LayerNormalization",
            by(shape),
            lambda g, s=shape: g.node("LayerNormalization", g.input(*s), g.weights(s[-1]), g.weights(s[-1])),
        )
    yield Row("LayerNormalization", "1x197x768, written out", written_out(1, 197, 768))
    yield Row("LayerNormalization", "1x64x56x56 over channels, written out", over_channels(1, 64, 56, 56))
    for shape, groups in [((1, 256, 28, 28), 32), ((1, 64, 56, 56), 8), ((8, 64, 28, 28), 16), ((1, 39, 31, 29), 3)]:
        make = lambda g, s=shape, n=groups: g.node(
            "GroupNormalization", g.input(*s), g.weights(s[1]), g.weights(s[1]), num_groups=n
        )
        yield Row("GroupNormalization", f"{by(shape)}, {groups} groups", make, opset=21)
    yield Row("GroupNormalization", "1x256x28x28, 32 groups, as PyTorch exports it", group_by_instance(1, 256, 28, 28, 32))
    for shape in [(1, 128, 768), (1, 1, 2048), (8, 33, 129)]:
        yield Row("RMSNorm, written out", by(shape), rms(*shape))
    for shape in [(1, 64, 56, 56), (1, 37, 31, 29), (8, 64, 28, 28), (197, 768)]:
        yield Row("BatchNormalization", by(shape), batch_norm(*shape))
    yield Row("LRN", "1x96x27x27, 5 channels", lambda g: g.node("LRN", g.input(1, 96, 27, 27), size=5))
    yield Row("LpNormalization", "196x512, last axis", lambda g: g.node("LpNormalization", g.input(196, 512), axis=-1, p=2))


def scaled(g, x, width):
    return g.node("Add", g.node("Mul", x, g.weights(width)), g.weights(width))


def written_out(*shape):
    def make(g):
        x = g.input(*shape)
        centred = g.node("Sub", x, g.node("ReduceMean", x, g.ints(-1)))
        variance = g.node("ReduceMean", g.node("Pow", centred, g.f32(2)), g.ints(-1))
        return scaled(g, g.node("Div", centred, g.node("Sqrt", g.node("Add", variance, g.f32(1e-6)))), shape[-1])

    return make


def over_channels(*shape):
    def make(g):
        x = g.input(*shape)
        centred = g.node("Sub", x, g.node("ReduceMean", x, g.ints(1)))
        variance = g.node("ReduceMean", g.node("Mul", centred, centred), g.ints(1))
        y = g.node("Div", centred, g.node("Sqrt", g.node("Add", variance, g.f32(1e-6))))
        return g.node("Add", g.node("Mul", y, g.weights(shape[1], 1, 1)), g.weights(shape[1], 1, 1))

    return make


def group_by_instance(batch, channels, height, width, groups):
    def make(g):
        x = g.node("Reshape", g.input(batch, channels, height, width), g.ints(batch, groups, -1))
        ones, zeros = g.f32([1.0] * groups), g.f32([0.0] * groups)
        y = g.node("Reshape", g.node("InstanceNormalization", x, ones, zeros), g.ints(batch, channels, height, width))
        return g.node("Add", g.node("Mul", y, g.weights(channels, 1, 1)), g.weights(channels, 1, 1))

    return make


def rms(*shape):
    def make(g):
        x = g.input(*shape)
        mean = g.node("ReduceMean", g.node("Pow", x, g.f32(2)), g.ints(-1))
        y = g.node("Mul", x, g.node("Reciprocal", g.node("Sqrt", g.node("Add", mean, g.f32(1e-6)))))
        return g.node("Mul", y, g.weights(shape[-1]))

    return make


def batch_norm(*shape):
    def make(g):
        count = shape[1]
        mean, variance = g.weights(count), g.f32([0.5 + i % 7 for i in range(count)])
        return g.node("BatchNormalization", g.input(*shape), g.weights(count), g.weights(count), mean, variance)

    return make


def softmaxes():
    for op, shape, axis in [
        ("Softmax", (6, 196, 196), -1),
        ("Softmax", (12, 197, 197), -1),
        ("Softmax", (1, 1000), -1),
        ("Softmax", (8, 6, 196, 196), -1),
        ("Softmax", (40, 6625), -1),
        ("Softmax", (1024, 49), -1),
        ("Softmax", (12, 1, 513), -1),
        ("Softmax", (1, 8400, 4, 16), -1),
        ("Softmax", (1, 21, 128, 128), 1),
        ("Softmax", (1, 16, 4, 8400), 1),
        ("Softmax", (8, 19, 33, 31), 1),
        ("LogSoftmax", (1, 1000), -1),
        ("LogSoftmax", (50, 6625), -1),
        ("LogSoftmax", (1, 21, 128, 128), 1),
        ("LogSoftmax", (37, 219), -1),
    ]:
        where = "last axis" if axis == -1 else "channels"
        make = lambda g, op=op, s=shape, axis=axis: g.node(op, g.input(*s, low=-9, high=9), axis=axis)
        yield Row(op, f"{by(shape)}, {where}", make)


def by(shape):
    return "x".join(map(str, shape))
