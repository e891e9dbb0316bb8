"""Reductions, running sums, and what looks for the largest."""

import numpy as np
from layers.model import Row


def rows():
    yield from reductions()
    yield from largest()
    yield from running()


def reductions():
    for op in ("ReduceMax", "ReduceMean", "ReduceSum"):
        for shape, axes, where in [
            ((196, 1536), [-1], "last axis"),
            ((1, 64, 56, 56), [2, 3], "rows and columns"),
            ((64, 3136), [0], "first axis"),
            ((1, 64, 56, 56), [1], "channels"),
            ((37, 219), [-1], "last axis"),
            ((8, 128, 28, 28), [2, 3], "rows and columns"),
        ]:
            make = lambda g, op=op, s=shape, axes=axes: g.node(op, g.input(*s), g.ints(*axes), keepdims=1)
            yield Row("Reduce", f"{op} {by(shape)}, {where}", make)
    for op, shape, axes, where in [
        ("ReduceL2", (196, 512), [-1], "last axis"),
        ("ReduceProd", (196, 512), [-1], "last axis"),
        ("ReduceMin", (1, 64, 56, 56), [2, 3], "rows and columns"),
        ("ReduceSumSquare", (196, 512), [-1], "last axis"),
        ("ReduceLogSumExp", (196, 512), [-1], "last axis"),
        ("ReduceSum", (1, 64, 56, 56), [0, 1, 2, 3], "all"),
    ]:
        make = lambda g, op=op, s=shape, axes=axes: g.node(op, g.input(*s, low=0.5, high=1.4), g.ints(*axes), keepdims=1)
        yield Row("Reduce", f"{op} {by(shape)}, {where}", make)


def largest():
    for op, shape, axis, where in [
        ("ArgMax", (1, 21, 128, 128), 1, "channels"),
        ("ArgMax", (8, 19, 33, 31), 1, "channels"),
        ("ArgMax", (1, 150, 128, 128), 1, "channels"),
        ("ArgMax", (50, 6625), -1, "last axis"),
        ("ArgMax", (1, 1000), -1, "last axis"),
        ("ArgMax", (8400, 80), -1, "last axis"),
        ("ArgMin", (37, 219), -1, "last axis"),
    ]:
        yield Row(
            "ArgMax", f"{op} {by(shape)}, {where}", lambda g, op=op, s=shape, axis=axis: g.node(op, g.input(*s), axis=axis)
        )
    for k, shape, axis in [
        (100, (1, 8400), -1),
        (5, (1, 1000), -1),
        (300, (1, 8400), -1),
        (1000, (1, 50000), -1),
        (8, (197, 64), -1),
        (20, (197, 1600), -1),
        (3, (1, 21, 64, 64), 1),
        (50, (1, 50257), -1),
    ]:
        make = lambda g, k=k, s=shape, axis=axis: g.node("TopK", different(g, *s), g.ints(k), axis=axis, results=2)
        yield Row("TopK", f"{k} of {by(shape)}" + (", channels" if axis == 1 else ""), make)


def different(g, *shape):
    """Numbers of which no two are equal, so that the order of the largest is one only."""
    count = int(np.prod(shape))
    return g.given(np.random.default_rng(2).permutation(count).astype(np.float32).reshape(shape) / count)


def running():
    for shape, axis, options in [
        ((64, 1024), 1, {}),
        ((1024, 64), 0, {}),
        ((8, 37, 129), 1, {"reverse": 1}),
        ((1, 16000), 1, {}),
        ((1, 128), 1, {"exclusive": 1}),
    ]:
        told = "".join(f", {name}" for name in options)
        make = lambda g, s=shape, axis=axis, options=options: g.node(
            "CumSum", g.input(*s), g.constant(axis, np.int64), **options
        )
        yield Row("CumSum", f"{by(shape)}, axis {axis}{told}", make)


def by(shape):
    return "x".join(map(str, shape))
