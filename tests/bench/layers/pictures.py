"""Resampling: Resize, GridSample."""

import numpy as np
from layers.model import Row


def rows():
    yield from resizes()
    yield from grids()


def resizes():
    half, corners, floor = "half_pixel", "align_corners", "asymmetric"
    for mode, how, shape, sizes, options in [
        ("linear", half, (1, 64, 28, 28), (56, 56), {}),
        ("linear", half, (1, 64, 28, 28), (56, 56), {"batch": 8}),
        ("linear", corners, (1, 256, 16, 16), (64, 64), {}),
        ("linear", half, (1, 3, 128, 128), (256, 256), {}),
        ("linear", half, (1, 19, 37, 53), (61, 97), {}),
        ("linear", half, (1, 3, 256, 256), (112, 112), {}),
        ("linear", half, (1, 21, 65, 65), (513, 513), {}),
        ("linear", half, (1, 3, 448, 448), (224, 224), {"antialias": 1}),
        ("nearest", floor, (1, 64, 28, 28), (56, 56), {"nearest_mode": "floor"}),
        ("nearest", floor, (1, 256, 20, 20), (40, 40), {"nearest_mode": "floor"}),
        ("nearest", floor, (8, 64, 28, 28), (56, 56), {"nearest_mode": "floor"}),
        ("nearest", half, (1, 19, 37, 53), (61, 97), {}),
        ("nearest", floor, (1, 64, 56, 56), (28, 28), {"nearest_mode": "floor"}),
        ("cubic", half, (1, 64, 28, 28), (56, 56), {"cubic_coeff_a": -0.5}),
        ("cubic", half, (1, 3, 256, 256), (112, 112), {}),
        ("cubic", half, (1, 768, 14, 14), (16, 16), {}),
    ]:
        shape = (options.pop("batch", shape[0]), *shape[1:])
        told = (
            f"{mode} {by(shape)} → {by(sizes)}"
            + (", corners" if how == corners else "")
            + (", antialias" if "antialias" in options else "")
        )
        yield Row("Resize", told, resize(mode, how, shape, sizes, options))


def resize(mode, how, shape, sizes, options):
    return lambda g: g.node(
        "Resize",
        g.input(*shape),
        None,
        None,
        g.ints(*shape[:2], *sizes),
        mode=mode,
        coordinate_transformation_mode=how,
        **options,
    )


def grids():
    for shape, there, options in [
        ((1, 16, 64, 64), (64, 64), {}),
        ((8, 16, 32, 32), (32, 32), {}),
        ((1, 3, 256, 256), (256, 256), {"padding_mode": "border"}),
        ((1, 13, 31, 29), (17, 23), {"align_corners": 1}),
        ((1, 16, 64, 64), (64, 64), {"mode": "nearest"}),
        ((1, 16, 64, 64), (64, 64), {"mode": "cubic"}),
        ((1, 16, 64, 64), (64, 64), {"padding_mode": "reflection"}),
        ((8, 32, 50, 50), (300, 4), {}),
    ]:
        told = "".join(f", {value}" if isinstance(value, str) else f", {name}" for name, value in options.items())
        make = lambda g, s=shape, t=there, o=options: g.node("GridSample", g.input(*s), points(g, s[0], *t), **o)
        yield Row("GridSample", f"{by(shape)} at {by(there)}{told}", make)


def points(g, batch, height, width):
    """A picture's places, moved a little: most are inside. None is near the middle between two pixels, where engines' roundings
    would choose different neighbours."""
    rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    still = np.stack([columns, rows], -1)[np.newaxis]
    moved = still + np.random.default_rng(3).uniform(-0.1, 0.1, (batch, height, width, 2))
    return g.given((np.round(moved * 512) / 512 + 1 / 4096).astype(np.float32))


def by(shape):
    return "x".join(map(str, shape))
