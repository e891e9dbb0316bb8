"""What only moves elements: transposes, concats, slices, pads, blocks, tiles."""

from layers.model import Row

MAP = (1, 64, 56, 56)


def rows():
    for name, shape, perm in [
        ("NCHW → NHWC 64 at 56", MAP, [0, 2, 3, 1]),
        ("NHWC → NCHW 64 at 56", (1, 56, 56, 64), [0, 3, 1, 2]),
        ("NCHW → NHWC 3 at 224", (1, 3, 224, 224), [0, 2, 3, 1]),
        ("NHWC → NCHW 3 at 224", (1, 224, 224, 3), [0, 3, 1, 2]),
        ("NCHW → NHWC 64 at 28, batch 8", (8, 64, 28, 28), [0, 2, 3, 1]),
        ("0213 196 x 6 x 64", (1, 196, 6, 64), [0, 2, 1, 3]),
        ("0213 6 x 196 x 64", (1, 6, 196, 64), [0, 2, 1, 3]),
        ("0213 8 x 33 x 7 x 19", (8, 33, 7, 19), [0, 2, 1, 3]),
        ("0132 12 x 197 x 64", (1, 12, 197, 64), [0, 1, 3, 2]),
        ("196 x 384", (196, 384), [1, 0]),
        ("1024 x 1024", (1024, 1024), [1, 0]),
        ("021 80 x 3000", (1, 80, 3000), [0, 2, 1]),
        ("37 x 219", (37, 219), [1, 0]),
        ("210 31 x 29 x 37", (31, 29, 37), [2, 1, 0]),
    ]:
        yield Row("Transpose", name, lambda g, s=shape, perm=perm: g.node("Transpose", g.input(*s), perm=perm))
    for name, shapes, axis in [
        ("2 of 64 channels at 56", [MAP, MAP], 1),
        ("32 + 64 + 96 channels at 28", [(1, c, 28, 28) for c in (32, 64, 96)], 1),
        ("196x192 twice, last axis", [(196, 192)] * 2, -1),
        ("8400x(4 + 1 + 80), last axis", [(1, 8400, c) for c in (4, 1, 80)], -1),
        ("class token: 1 + 196 rows of 768", [(1, 1, 768), (1, 196, 768)], 1),
        ("scales: 6400 + 1600 + 400 of 64", [(1, 64, n) for n in (6400, 1600, 400)], 2),
        ("8x(13 + 17) channels at 31x29", [(8, c, 31, 29) for c in (13, 17)], 1),
    ]:
        yield Row(
            "Concat", name, lambda g, shapes=shapes, axis=axis: g.node("Concat", *(g.input(*s) for s in shapes), axis=axis)
        )
    for name, shape, starts, ends, axes, steps in [
        ("inside 48 of 56", MAP, [4, 4], [52, 52], [2, 3], [1, 1]),
        ("every second row and column of 56", MAP, [0, 0], [56, 56], [2, 3], [2, 2]),
        ("half of 128 channels at 28", (1, 128, 28, 28), [64], [128], [1], [1]),
        ("last row of 197x768", (1, 197, 768), [196], [197], [1], [1]),
        ("rows backwards 37x219", (37, 219), [-1], [-100], [0], [-1]),
        ("columns 5 to 84 of 8400x85", (1, 8400, 85), [5], [85], [2], [1]),
    ]:
        yield Row("Slice", name, sliced(shape, starts, ends, axes, steps))
    for mode, shape, pad in [
        ("reflect", MAP, 3),
        ("constant", MAP, 1),
        ("edge", MAP, 2),
        ("reflect", (1, 37, 31, 29), 5),
        ("constant", (8, 64, 28, 28), 1),
        ("reflect", (1, 1, 16000), 256),
    ]:
        yield Row("Pad", f"{mode} {by(shape)} by {pad}", padded(mode, shape, pad))
    yield Row(
        "Space and depth", "SpaceToDepth 2, 32 at 56", lambda g: g.node("SpaceToDepth", g.input(1, 32, 56, 56), blocksize=2)
    )
    yield Row(
        "Space and depth", "SpaceToDepth 2, 3 at 640", lambda g: g.node("SpaceToDepth", g.input(1, 3, 640, 640), blocksize=2)
    )
    for mode, shape, block in [("CRD", (1, 64, 56, 56), 2), ("DCR", (1, 64, 56, 56), 2), ("CRD", (1, 27, 37, 41), 3)]:
        make = lambda g, mode=mode, s=shape, block=block: g.node("DepthToSpace", g.input(*s), blocksize=block, mode=mode)
        yield Row("Space and depth", f"DepthToSpace {block} {mode}, {by(shape)}", make)
    yield Row("Space and depth", "focus: four slices and a concat, 3 at 640", focus)
    for shape, repeats in [
        ((1, 64, 28, 28), (1, 1, 2, 2)),
        ((1, 1, 768), (8, 1, 1)),
        ((37, 19), (3, 5)),
        ((1, 8, 1, 512, 64), (1, 1, 4, 1, 1)),
    ]:
        yield Row(
            "Tile and expand",
            f"Tile {by(shape)} by {by(repeats)}",
            lambda g, s=shape, r=repeats: g.node("Tile", g.input(*s), g.ints(*r)),
        )
    for shape, to in [((1, 64, 1, 1), MAP), ((1, 8, 1, 512, 64), (1, 8, 4, 512, 64)), ((37, 1), (37, 219))]:
        yield Row(
            "Tile and expand",
            f"Expand {by(shape)} to {by(to)}",
            lambda g, s=shape, to=to: g.node("Expand", g.input(*s), g.ints(*to)),
        )
    yield Row(
        "Split",
        "3 of 64 of 192 channels at 28",
        lambda g: g.node("Split", g.input(1, 192, 28, 28), axis=1, num_outputs=3, results=3),
    )
    yield Row(
        "Split",
        "3 of 768, last axis of 197",
        lambda g: g.node("Split", g.input(1, 197, 2304), axis=-1, num_outputs=3, results=3),
    )
    yield Row("Split", "channel shuffle 3 groups of 240 at 28", shuffle)


def sliced(shape, *bounds):
    return lambda g: g.node("Slice", g.input(*shape), *(g.ints(*bound) for bound in bounds))


def padded(mode, shape, pad):
    """Pads all axes behind the channels."""
    ends = [0, 0, *[pad] * (len(shape) - 2)]
    return lambda g: g.node("Pad", g.input(*shape), g.ints(*ends, *ends), mode=mode)


def focus(g):
    x = g.input(1, 3, 640, 640)
    parts = [
        g.node("Slice", x, g.ints(row, column), g.ints(640, 640), g.ints(2, 3), g.ints(2, 2))
        for column in (0, 1)
        for row in (0, 1)
    ]
    return g.node("Concat", *parts, axis=1)


def shuffle(g):
    x = g.node("Reshape", g.input(1, 240, 28, 28), g.ints(1, 3, 80, 28, 28))
    return g.node("Reshape", g.node("Transpose", x, perm=[0, 2, 1, 3, 4]), g.ints(1, 240, 28, 28))


def by(shape):
    return "x".join(map(str, shape))
