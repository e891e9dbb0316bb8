"""Matrix products: by constants, of two inputs, of few rows, transposed, as Einsum."""

from layers.model import Row


def rows():
    yield from by_constants()
    yield from of_two_inputs()
    yield from einsums()
    yield from gemms()


def by_constants():
    for *batch, m, k, n in [
        (196, 384, 1536),
        (196, 1536, 384),
        (197, 768, 768),
        (50, 512, 2048),
        (3136, 96, 288),
        (128, 128, 128),
        (512, 512, 512),
        (1024, 1024, 1024),
        (37, 111, 219),
        (193, 197, 385),
        (8, 196, 384, 1536),
        (8, 33, 65, 127),
    ]:
        yield Row("MatMul", f"{by(*batch, m, k)} · {by(k, n)}", constant_product(batch, m, k, n))
    for m, k, n in [
        (1, 512, 512),
        (1, 768, 3072),
        (1, 4096, 4096),
        (1, 511, 333),
        (4, 768, 3072),
        (8, 512, 2048),
        (16, 1024, 1024),
    ]:
        yield Row("MatMul, few rows", f"{by(m, k)} · {by(k, n)}", constant_product([], m, k, n))


def constant_product(batch, m, k, n):
    return lambda g: g.node("MatMul", g.input(*batch, m, k), g.weights(k, n, sums=k))


def of_two_inputs():
    for *batch, m, k, n in [
        (8, 196, 64, 196),
        (8, 196, 196, 64),
        (12, 197, 64, 197),
        (384, 49, 32, 49),
        (12, 1, 64, 512),
        (12, 1, 512, 64),
        (7, 33, 65, 129),
        (512, 512, 512),
        (8, 6, 196, 64, 196),
        (64, 16, 16, 16),
    ]:
        a, b = [*batch, m, k], [*batch, k, n]
        yield Row("MatMul, two inputs", f"{by(*a)} · {by(*b)}", lambda g, a=a, b=b: g.node("MatMul", g.input(*a), g.input(*b)))
    yield Row(
        "MatMul, two inputs",
        "196x384 · 384x196, second transposed",
        lambda g: g.node("MatMul", g.input(196, 384), g.node("Transpose", g.input(196, 384), perm=[1, 0])),
    )
    yield Row(
        "MatMul, two inputs",
        "8x196x64 · 8x64x196, second transposed",
        lambda g: g.node("MatMul", g.input(8, 196, 64), g.node("Transpose", g.input(8, 196, 64), perm=[0, 2, 1])),
    )


def einsums():
    for equation, a, b in [
        ("bhid,bhjd->bhij", (1, 8, 196, 64), (1, 8, 196, 64)),
        ("bhid,bhjd->bhij", (8, 6, 196, 64), (8, 6, 196, 64)),
        ("bhij,bhjd->bhid", (1, 8, 196, 196), (1, 8, 196, 64)),
        ("bnhd,bmhd->bhnm", (1, 196, 8, 64), (1, 196, 8, 64)),
        ("bnd,bmd->bnm", (8, 33, 65), (8, 129, 65)),
        ("bchw,bkhw->bck", (1, 64, 28, 28), (1, 32, 28, 28)),
        ("nkctv,kvw->nctw", (1, 3, 64, 75, 25), (3, 25, 25)),
    ]:
        make = lambda g, e=equation, a=a, b=b: g.node("Einsum", g.input(*a), g.input(*b), equation=e)
        yield Row("Einsum", f"{equation} {by(*a)}, {by(*b)}", make)
    yield Row(
        "Einsum",
        "bnd,de->bne 8x196x384, constant",
        lambda g: g.node("Einsum", g.input(8, 196, 384), g.weights(384, 384), equation="bnd,de->bne"),
    )


def gemms():
    for m, k, n in [(1, 1024, 1000), (1, 2048, 1000), (1, 4096, 4096), (1, 512, 10), (1, 513, 101)]:
        yield Row("Gemm, one row", f"{k} → {n}", classifier(m, k, n))
    for m, k, n in [
        (2, 1024, 1000),
        (3, 100, 37),
        (4, 1024, 1000),
        (8, 1024, 1000),
        (8, 2048, 1000),
        (13, 511, 333),
        (16, 1024, 1000),
    ]:
        yield Row("Gemm, few rows", f"{m} rows {k} → {n}", classifier(m, k, n))
    for name, options in {
        "": {},
        ", transA": {"transA": 1},
        ", transB": {"transB": 1},
        ", both": {"transA": 1, "transB": 1},
        ", transB, alpha, beta": {"transB": 1, "alpha": 0.5, "beta": 2.0},
    }.items():
        yield Row("Gemm", f"196x384x512{name}", general(196, 384, 512, options))
    yield Row("Gemm", "129x77x65, both", general(129, 77, 65, {"transA": 1, "transB": 1}))
    for name, options in {"": {}, ", transA": {"transA": 1}, ", transB": {"transB": 1}}.items():
        yield Row("Gemm, two inputs", f"196x384x196{name}", general(196, 384, 196, options, constant=False))


def classifier(m, k, n):
    return lambda g: g.node("Gemm", g.input(m, k), g.weights(n, k), g.weights(n), transB=1)


def general(m, k, n, options, constant=True):
    a = (k, m) if options.get("transA") else (m, k)
    b = (n, k) if options.get("transB") else (k, n)

    def make(g):
        x = g.input(*a)
        return g.node("Gemm", x, g.weights(*b, sums=k) if constant else g.input(*b), g.weights(n), **options)

    return make


def by(*extents):
    return "x".join(map(str, extents))
