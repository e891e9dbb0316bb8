"""ConvTranspose: decoders of pictures, signals and volumes."""

from layers.model import Row


def rows():
    for name, shape, outputs, kernel, stride, pad, options in [
        ("4x4/2 64→32 at 28", (1, 64, 28, 28), 32, 4, 2, 1, {}),
        ("4x4/2 256→128 at 16", (1, 256, 16, 16), 128, 4, 2, 1, {}),
        ("4x4/2 64→32 at 28, batch 8", (8, 64, 28, 28), 32, 4, 2, 1, {}),
        ("3x3/1 64→64 at 28", (1, 64, 28, 28), 64, 3, 1, 1, {}),
        ("2x2/2 128→64 at 56", (1, 128, 56, 56), 64, 2, 2, 0, {}),
        ("2x2/2 24→1 at 160", (1, 24, 160, 160), 1, 2, 2, 0, {}),
        ("3x3/2 64→32 at 28, output padding", (1, 64, 28, 28), 32, 3, 2, 1, {"output_padding": [1, 1]}),
        ("5x5/2 128→64 at 16, output padding", (1, 128, 16, 16), 64, 5, 2, 2, {"output_padding": [1, 1]}),
        ("3x3/2 37→19 at 17x13", (1, 37, 17, 13), 19, 3, 2, 1, {}),
        ("4x4/1 100→512 at 1", (1, 100, 1, 1), 512, 4, 1, 0, {}),
        ("8x8/8 64→21 at 28", (1, 64, 28, 28), 21, 8, 8, 0, {}),
        ("4x4/2 64→64 at 28, 4 groups", (1, 64, 28, 28), 64, 4, 2, 1, {"group": 4}),
        ("3x3/2 dilated 2 32→32 at 28", (1, 32, 28, 28), 32, 3, 2, 2, {"dilations": [2, 2]}),
        ("depthwise 4x4/2 64 at 28", (1, 64, 28, 28), 64, 4, 2, 1, {"group": 64}),
        ("depthwise 16x16/8 21 at 28", (1, 21, 28, 28), 21, 16, 8, 4, {"group": 21}),
        ("1-D 4/2 64→32 x500", (1, 64, 500), 32, 4, 2, 1, {}),
        ("1-D 16/8 256→128 x100", (1, 256, 100), 128, 16, 8, 4, {}),
        ("1-D 512/128 258→1 x100", (1, 258, 100), 1, 512, 128, 0, {}),
        ("3-D 2/2 32→16 at 8x14x14", (1, 32, 8, 14, 14), 16, 2, 2, 0, {}),
        ("3-D 4/2 32→16 at 8x14x14", (1, 32, 8, 14, 14), 16, 4, 2, 1, {}),
    ]:
        yield Row("ConvTranspose", name, transposed(shape, outputs, kernel, stride, pad, options))
    yield Row(
        "ConvTranspose", "4x4/2 64→32 at 28, weights from the run", transposed((1, 64, 28, 28), 32, 4, 2, 1, {}, constant=False)
    )


def transposed(shape, outputs, kernel, stride, pad, options, constant=True):
    axes = len(shape) - 2
    groups = options.get("group", 1)

    def make(g):
        x = g.input(*shape)
        form = (shape[1], outputs // groups, *[kernel] * axes)
        w = g.weights(*form, sums=shape[1] // groups * max(kernel // stride, 1) ** axes) if constant else g.input(*form)
        attributes = {"kernel_shape": [kernel] * axes, "strides": [stride] * axes, "pads": [pad] * 2 * axes}
        return g.node("ConvTranspose", x, w, g.weights(outputs), **attributes, **options)

    return make
