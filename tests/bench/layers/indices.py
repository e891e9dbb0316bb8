"""Gathers and scatters: addresses that come from data."""

import numpy as np
from layers.model import Row


def rows():
    for name, shape, count, axis in [
        ("128 rows of 10000x512", (10000, 512), (1, 128), 0),
        ("8x64 rows of 10000x256", (10000, 256), (8, 64), 0),
        ("49x49 rows of 169x3", (169, 3), (2401,), 0),
        ("columns 300 of 64x8400", (64, 8400), (300,), 1),
        ("1 of 197x768", (197, 768), (1,), 0),
    ]:
        yield Row("Gather", name, gather(shape, count, axis))
    yield Row(
        "Gather",
        "all 37 of 37x219, backwards",
        lambda g: g.node("Gather", g.input(37, 219), g.ints(*reversed(range(37))), axis=0),
    )
    for name, shape, count, batch in [
        ("300 rows of 8400x84", (8400, 84), (300, 1), 0),
        ("4096 elements of 64x56x56", (64, 56, 56), (4096, 3), 0),
        ("100 rows of each of 8x400x64", (8, 400, 64), (8, 100, 1), 1),
    ]:
        yield Row("GatherND", name, gather_nd(shape, count, batch))
    for name, shape, count, axis in [
        ("300 rows of 8400x4", (1, 8400, 4), (1, 300, 4), 1),
        ("64x196 of 64x3136, last axis", (64, 3136), (64, 196), 1),
        ("50x37 of 129x37, first axis", (129, 37), (50, 37), 0),
    ]:
        yield Row("GatherElements", name, gather_elements(shape, count, axis))
    for name, shape, count, options in [
        ("256 rows of 3136x64", (3136, 64), 256, {}),
        ("256 rows of 3136x64, add", (3136, 64), 256, {"reduction": "add"}),
        ("37 rows of 129x33", (129, 33), 37, {}),
    ]:
        yield Row("ScatterND", name, scatter_nd(shape, count, options))
    yield Row("ScatterND", "4096 elements of 64x56x56", scatter_cells(64, 56, 56, 4096))
    for name, shape, count, axis, options in [
        ("196 of 3136 in each of 64 rows", (64, 3136), 196, 1, {}),
        ("300 rows of 8400x4", (8400, 4), 300, 0, {}),
        ("196 of 3136 in each of 64 rows, add", (64, 3136), 196, 1, {"reduction": "add"}),
    ]:
        yield Row("ScatterElements", name, scatter_elements(shape, count, axis, options))
    yield Row(
        "OneHot",
        "512 of 1000",
        lambda g: g.node(
            "OneHot", g.input(512, low=0, high=1000, dtype=np.int64), g.constant(1000, np.int64), g.f32([0, 1]), axis=-1
        ),
    )
    yield Row("NonZero", "64x3136, half of them", lambda g: g.node("NonZero", g.input(64, 3136, dtype=bool)))


def gather(shape, count, axis):
    def make(g):
        table = g.weights(*shape) if axis == 0 else g.input(*shape)
        return g.node("Gather", table, g.input(*count, low=0, high=shape[axis], dtype=np.int64), axis=axis)

    return make


def cells(g, shape, count, batch=0):
    """Indices of whole rows or cells: the last axis of `count` is how many axes they name."""
    named = shape[batch : batch + count[-1]]
    return g.given(
        np.stack([np.random.default_rng(4 + i).integers(0, extent, count[:-1]) for i, extent in enumerate(named)], -1)
    )


def gather_nd(shape, count, batch):
    return lambda g: g.node("GatherND", g.input(*shape), cells(g, shape, count, batch), batch_dims=batch)


def gather_elements(shape, count, axis):
    return lambda g: g.node(
        "GatherElements", g.input(*shape), g.input(*count, low=0, high=shape[axis], dtype=np.int64), axis=axis
    )


def scatter_nd(shape, count, options):
    def make(g):
        rows = np.random.default_rng(4).permutation(shape[0])[:count].reshape(count, 1)
        return g.node("ScatterND", g.input(*shape), g.given(rows), g.input(count, *shape[1:]), **options)

    return make


def scatter_cells(*shape_and_count):
    *shape, count = shape_and_count

    def make(g):
        chosen = np.random.default_rng(4).permutation(int(np.prod(shape)))[:count]
        return g.node("ScatterND", g.input(*shape), g.given(np.stack(np.unravel_index(chosen, shape), -1)), g.input(count))

    return make


def scatter_elements(shape, count, axis, options):
    def make(g):
        lines = [np.random.default_rng(4 + i).permutation(shape[axis])[:count] for i in range(shape[1 - axis])]
        indices = np.stack(lines, 1 - axis)
        return g.node("ScatterElements", g.input(*shape), g.given(indices), g.input(*indices.shape), axis=axis, **options)

    return make
