"""Convolutions over one, two and three axes, with constant weights and with weights that come in a run."""

from layers.model import Row


def conv(shape, outputs, kernel, groups=1, constant=True, bias=True, act=None, **attributes):
    """A convolution of an input of this shape, padded so that strides of 1 keep its extents, unless pads are given."""
    dilations = attributes.get("dilations", [1] * len(kernel))
    if "pads" not in attributes:
        ends = [(size - 1) * step // 2 for size, step in zip(kernel, dilations)]
        attributes["pads"] = ends + ends

    def make(g):
        x = g.input(*shape)
        form = (outputs, shape[1] // groups, *kernel)
        w = g.weights(*form) if constant else g.input(*form)
        y = g.node("Conv", x, w, *([g.weights(outputs)] if bias else []), kernel_shape=kernel, group=groups, **attributes)
        return act(g, y) if act else y

    return make


def silu(g, x):
    return g.node("Mul", x, g.node("Sigmoid", x))


def relu(g, x):
    return g.node("Relu", x)


def rows():
    yield from planes()
    yield from depthwise()
    yield from from_the_run()
    yield from signals()
    yield from volumes()
    yield from deformable()


def planes():
    for name, *arguments in [
        ("7x7/2 3→64 at 224", (1, 3, 224, 224), 64, [7, 7], {"strides": [2, 2], "act": relu}),
        ("3x3/2 3→32 at 225", (1, 3, 225, 225), 32, [3, 3], {"strides": [2, 2]}),
        ("4x4/4 3→96 at 224", (1, 3, 224, 224), 96, [4, 4], {"strides": [4, 4], "pads": [0] * 4}),
        ("16x16/16 3→768 at 224", (1, 3, 224, 224), 768, [16, 16], {"strides": [16, 16], "pads": [0] * 4}),
        ("3x3 64→64 at 56", (1, 64, 56, 56), 64, [3, 3], {"act": relu}),
        ("3x3 128→128 at 28", (1, 128, 28, 28), 128, [3, 3], {"act": relu}),
        ("3x3 256→256 at 14", (1, 256, 14, 14), 256, [3, 3], {"act": relu}),
        ("3x3 512→512 at 7", (1, 512, 7, 7), 512, [3, 3], {"act": relu}),
        ("3x3 64→64 at 56, batch 8", (8, 64, 56, 56), 64, [3, 3], {}),
        ("3x3/2 64→128 at 56", (1, 64, 56, 56), 128, [3, 3], {"strides": [2, 2]}),
        ("3x3 64→64 at 80, SiLU", (1, 64, 80, 80), 64, [3, 3], {"act": silu}),
        ("3x3 256→256 at 28, dilated 2", (1, 256, 28, 28), 256, [3, 3], {"dilations": [2, 2]}),
        ("3x3 256→256 at 33, dilated 12", (1, 256, 33, 33), 256, [3, 3], {"dilations": [12, 12]}),
        ("5x5 32→64 at 28", (1, 32, 28, 28), 64, [5, 5], {}),
        ("1x7 128→128 at 17", (1, 128, 17, 17), 128, [1, 7], {}),
        ("7x1 128→128 at 17", (1, 128, 17, 17), 128, [7, 1], {}),
        ("3x3 37→53 at 31x29", (1, 37, 31, 29), 53, [3, 3], {}),
        ("1x1 256→64 at 56", (1, 256, 56, 56), 64, [1, 1], {}),
        ("1x1 64→256 at 56", (1, 64, 56, 56), 256, [1, 1], {"act": relu}),
        ("1x1 512→2048 at 7", (1, 512, 7, 7), 2048, [1, 1], {}),
        ("1x1 37→53 at 31x29", (1, 37, 31, 29), 53, [1, 1], {}),
        ("1x1 96→576 at 14, batch 8", (8, 96, 14, 14), 576, [1, 1], {}),
        ("1x1/2 256→512 at 56", (1, 256, 56, 56), 512, [1, 1], {"strides": [2, 2]}),
        ("1x1 960→240 at 1", (1, 960, 1, 1), 240, [1, 1], {"act": relu}),
    ]:
        options = arguments.pop()
        yield Row("Conv", name, conv(*arguments, **options))
    for name, *arguments in [
        ("3x3 128→128 at 56, 32 groups", (1, 128, 56, 56), 128, [3, 3], 32),
        ("3x3 240→240 at 28, 3 groups", (1, 240, 28, 28), 240, [3, 3], 3),
        ("1x1 240→60 at 28, 3 groups", (1, 240, 28, 28), 60, [1, 1], 3),
        ("3x3 64→64 at 56, 4 groups, batch 8", (8, 64, 56, 56), 64, [3, 3], 4),
    ]:
        yield Row("Conv, groups", name, conv(*arguments))


def depthwise():
    for name, shape, kernel, options in [
        ("3x3 32 at 112", (1, 32, 112, 112), [3, 3], {}),
        ("3x3/2 96 at 112", (1, 96, 112, 112), [3, 3], {"strides": [2, 2]}),
        ("3x3 144 at 56, batch 8", (8, 144, 56, 56), [3, 3], {}),
        ("3x3 37 at 31x29", (1, 37, 31, 29), [3, 3], {}),
        ("5x5 240 at 28", (1, 240, 28, 28), [5, 5], {}),
        ("5x5/2 240 at 28", (1, 240, 28, 28), [5, 5], {"strides": [2, 2]}),
        ("7x7 96 at 56", (1, 96, 56, 56), [7, 7], {}),
        ("5x5 64 at 56, dilated 2", (1, 64, 56, 56), [5, 5], {"dilations": [2, 2]}),
        ("7x7 64 at 56, dilated 3", (1, 64, 56, 56), [7, 7], {"dilations": [3, 3]}),
        ("3x3 512 at 7", (1, 512, 7, 7), [3, 3], {}),
        ("1x11 64 at 64", (1, 64, 64, 64), [1, 11], {}),
    ]:
        yield Row("Conv, depthwise", name, conv(shape, shape[1], kernel, shape[1], **options))
    for name, shape, times, kernel, options in [
        ("3x3 64→128 at 56", (1, 64, 56, 56), 2, [3, 3], {}),
        ("3x3/2 64→128 at 56", (1, 64, 56, 56), 2, [3, 3], {"strides": [2, 2]}),
        ("5x5 32→64 at 28, batch 8", (8, 32, 28, 28), 2, [5, 5], {}),
        ("3x3 3→24 at 112", (1, 3, 112, 112), 8, [3, 3], {}),
    ]:
        yield Row("Conv, depthwise multiplied", name, conv(shape, shape[1] * times, kernel, shape[1], **options))


def from_the_run():
    for name, *arguments, options in [
        ("3x3 64→64 at 56", (1, 64, 56, 56), 64, [3, 3], {}),
        ("1x1 256→64 at 56", (1, 256, 56, 56), 64, [1, 1], {}),
        ("3x3 37→53 at 31x29", (1, 37, 31, 29), 53, [3, 3], {}),
        ("3x3 of 8 samples as groups, 32 channels at 28", (1, 256, 28, 28), 256, [3, 3], {"groups": 8}),
        ("k9 64→64 x2000", (1, 64, 2000), 64, [9], {}),
    ]:
        yield Row("Conv, weights from the run", name, conv(*arguments, constant=False, bias=False, **options))
    for name, shape, kernel, pads in [
        ("7x7 over 256x31x31", (1, 256, 31, 31), [7, 7], [0] * 4),
        ("5x5 over 256x29x29", (1, 256, 29, 29), [5, 5], [0] * 4),
        ("3x3 over 64x56x56, padded", (1, 64, 56, 56), [3, 3], [1] * 4),
    ]:
        make = conv(shape, shape[1], kernel, shape[1], constant=False, bias=False, pads=pads)
        yield Row("Conv, depthwise cross-correlation", name, make)


def signals():
    for name, *arguments, options in [
        ("k9 64→64 x2000", (1, 64, 2000), 64, [9], {}),
        ("k3 64→128 x1000", (1, 64, 1000), 128, [3], {"act": relu}),
        ("k3/2 64→128 x1000", (1, 64, 1000), 128, [3], {"strides": [2]}),
        ("k3 80→384 x3000", (1, 80, 3000), 384, [3], {}),
        ("k3/2 384→384 x3000", (1, 384, 3000), 384, [3], {"strides": [2]}),
        ("k3 64→64 x2000, dilated 4", (1, 64, 2000), 64, [3], {"dilations": [4]}),
        ("k3 128→128 x1000, 4 groups", (1, 128, 1000), 128, [3], {"groups": 4}),
        ("k1 256→512 x500", (1, 256, 500), 512, [1], {}),
        ("k10/5 1→512 x16000", (1, 1, 16000), 512, [10], {"strides": [5], "pads": [0, 0]}),
        ("k5 37→53 x777", (1, 37, 777), 53, [5], {}),
        ("k9 64→64 x500, batch 8", (8, 64, 500), 64, [9], {}),
        ("k128/64 1→258 x576", (1, 1, 576), 258, [128], {"strides": [64], "pads": [0, 0], "bias": False}),
    ]:
        yield Row("Conv1d", name, conv(*arguments, **options))
    for name, channels, length, kernel, options in [
        ("k31 256 x500", 256, 500, 31, {}),
        ("k3 128 x1000", 128, 1000, 3, {}),
        ("k3 512 x500, dilated 8", 512, 500, 3, {"dilations": [8]}),
        ("k4 768 x197, causal", 768, 197, 4, {"pads": [3, 0]}),
        ("k15 37 x777", 37, 777, 15, {}),
    ]:
        yield Row("Conv1d, depthwise", name, conv((1, channels, length), channels, [kernel], channels, **options))


def volumes():
    for name, *arguments, options in [
        ("3x3x3 16→32 at 16x28x28", (1, 16, 16, 28, 28), 32, [3, 3, 3], {}),
        ("3x3x3 64→64 at 4x14x14", (1, 64, 4, 14, 14), 64, [3, 3, 3], {}),
        ("3x7x7/122 3→32 at 8x56x56", (1, 3, 8, 56, 56), 32, [3, 7, 7], {"strides": [1, 2, 2]}),
        ("1x3x3 32→32 at 8x28x28", (1, 32, 8, 28, 28), 32, [1, 3, 3], {}),
        ("3x1x1 32→32 at 8x28x28", (1, 32, 8, 28, 28), 32, [3, 1, 1], {}),
        ("1x1x1 64→128 at 8x14x14", (1, 64, 8, 14, 14), 128, [1, 1, 1], {}),
        ("3x3x3 13→17 at 9x15x11", (1, 13, 9, 15, 11), 17, [3, 3, 3], {}),
        ("3x3x3 depthwise 54 at 8x28x28", (1, 54, 8, 28, 28), 54, [3, 3, 3], {"groups": 54}),
        ("3x3x3/2 16→32 at 16x28x28, batch 2", (2, 16, 16, 28, 28), 32, [3, 3, 3], {"strides": [2, 2, 2]}),
    ]:
        yield Row("Conv3d", name, conv(*arguments, **options))


def deformable():
    for name, shape, outputs, stride, masked in [
        ("3x3 64→64 at 28", (1, 64, 28, 28), 64, 1, False),
        ("3x3 64→64 at 28, mask", (1, 64, 28, 28), 64, 1, True),
        ("3x3/2 32→64 at 56, mask", (1, 32, 56, 56), 64, 2, True),
        ("3x3 13→17 at 15x11, mask", (1, 13, 15, 11), 17, 1, True),
    ]:
        yield Row("DeformConv", name, deform(shape, outputs, stride, masked))


def deform(shape, outputs, stride, masked):
    there = [(extent - 1) // stride + 1 for extent in shape[2:]]

    def make(g):
        x, w = g.input(*shape), g.weights(outputs, shape[1], 3, 3)
        offset = g.input(shape[0], 18, *there)
        mask = [g.input(shape[0], 9, *there, low=0, high=1)] if masked else []
        return g.node(
            "DeformConv", x, w, offset, g.weights(outputs), *mask, kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2
        )

    return make
