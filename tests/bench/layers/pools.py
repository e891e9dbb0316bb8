"""Pools of windows and of whole images."""

from layers.model import Row


def rows():
    for op, name, shape, kernel, stride, pad, options in [
        ("MaxPool", "3x3/1 192 at 28", (1, 192, 28, 28), [3, 3], 1, 1, {}),
        ("MaxPool", "3x3/2 64 at 112", (1, 64, 112, 112), [3, 3], 2, 1, {}),
        ("MaxPool", "2x2/2 64 at 112", (1, 64, 112, 112), [2, 2], 2, 0, {}),
        ("MaxPool", "2x2/2 64 at 28, batch 8", (8, 64, 28, 28), [2, 2], 2, 0, {}),
        ("MaxPool", "5x5/1 256 at 20", (1, 256, 20, 20), [5, 5], 1, 2, {}),
        ("MaxPool", "13x13/1 256 at 13", (1, 256, 13, 13), [13, 13], 1, 6, {}),
        ("MaxPool", "3x3/2 37 at 31x29, ceil", (1, 37, 31, 29), [3, 3], 2, 0, {"ceil_mode": 1}),
        ("MaxPool", "1-D 4/4 64 x2000", (1, 64, 2000), [4], 4, 0, {}),
        ("MaxPool", "3-D 2/2 32 at 16x28x28", (1, 32, 16, 28, 28), [2, 2, 2], 2, 0, {}),
        ("AveragePool", "3x3/1 192 at 28", (1, 192, 28, 28), [3, 3], 1, 1, {}),
        ("AveragePool", "2x2/2 128 at 56", (1, 128, 56, 56), [2, 2], 2, 0, {}),
        ("AveragePool", "7x7/7 64 at 56, batch 8", (8, 64, 56, 56), [7, 7], 7, 0, {}),
        ("AveragePool", "3x3/2 37 at 31x29, padding counts", (1, 37, 31, 29), [3, 3], 2, 1, {"count_include_pad": 1}),
        ("AveragePool", "1-D 2/2 64 x2000", (1, 64, 2000), [2], 2, 0, {}),
        ("AveragePool", "3-D 2/2 32 at 16x28x28", (1, 32, 16, 28, 28), [2, 2, 2], 2, 0, {}),
        ("LpPool", "2x2/2 64 at 56", (1, 64, 56, 56), [2, 2], 2, 0, {"p": 2}),
        ("LpPool", "3x3/1 37 at 31x29", (1, 37, 31, 29), [3, 3], 1, 1, {"p": 2}),
    ]:
        yield Row(op, name, pool(op, shape, kernel, stride, pad, options))
    for op, shape in [
        ("GlobalAveragePool", (1, 2048, 7, 7)),
        ("GlobalAveragePool", (1, 96, 56, 56)),
        ("GlobalAveragePool", (8, 37, 31, 29)),
        ("GlobalAveragePool", (1, 256, 2000)),
        ("GlobalMaxPool", (1, 2048, 7, 7)),
        ("GlobalMaxPool", (1, 96, 56, 56)),
        ("GlobalLpPool", (1, 96, 56, 56)),
    ]:
        told = "x".join(map(str, shape))
        yield Row("Global pool", f"{op} {told}", lambda g, op=op, shape=shape: g.node(op, g.input(*shape)))


def pool(op, shape, kernel, stride, pad, options):
    attributes = {"kernel_shape": kernel, "strides": [stride] * len(kernel), "pads": [pad] * 2 * len(kernel)}
    return lambda g: g.node(op, g.input(*shape), **attributes, **options)
