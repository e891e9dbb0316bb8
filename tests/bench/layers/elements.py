"""Functions of one element, of two, choices, conversions, and chains of them."""

import numpy as np
from layers.convolutions import silu
from layers.model import Row
from onnx import TensorProto

MAP = (1, 64, 56, 56)
TOKENS = (1, 197, 3072)
ODD = (1, 37, 31, 29)
BATCH = (8, 64, 28, 28)


def rows():
    yield Row("Call", "Neg of one element", lambda g: g.node("Neg", g.input(1)))
    yield from functions()
    yield from of_two()
    yield from choices()
    yield from casts()
    yield from chains()


def functions():
    for op, low, high, attributes in [
        ("Abs", -2, 2, {}),
        ("Cos", -9, 9, {}),
        ("Elu", -4, 4, {}),
        ("Erf", -3, 3, {}),
        ("Exp", -9, 9, {}),
        ("Floor", -9, 9, {}),
        ("Gelu", -4, 4, {}),
        ("HardSigmoid", -4, 4, {}),
        ("HardSwish", -4, 4, {}),
        ("LeakyRelu", -2, 2, {"alpha": 0.1}),
        ("Log", 0.01, 9, {}),
        ("Mish", -9, 9, {}),
        ("Neg", -2, 2, {}),
        ("Reciprocal", 0.1, 9, {}),
        ("Relu", -2, 2, {}),
        ("Round", -9, 9, {}),
        ("Selu", -4, 4, {}),
        ("Sigmoid", -9, 9, {}),
        ("Sin", -9, 9, {}),
        ("Softplus", -9, 9, {}),
        ("Softsign", -9, 9, {}),
        ("Sqrt", 0, 9, {}),
        ("Tanh", -4, 4, {}),
        ("Atan", -4, 4, {}),
    ]:
        yield Row("Function", f"{op} {by(MAP)}", function(op, MAP, low, high, attributes))
    for op, shape, attributes in [
        ("Gelu", TOKENS, {}),
        ("Gelu", TOKENS, {"approximate": "tanh"}),
        ("Tanh", TOKENS, {}),
        ("Exp", ODD, {}),
        ("Erf", ODD, {}),
        ("Sigmoid", ODD, {}),
        ("Sigmoid", BATCH, {}),
        ("HardSwish", BATCH, {}),
        ("Tanh", (1, 512), {}),
        ("Sigmoid", (1, 32, 320, 320), {}),
        ("Relu", (1, 32, 320, 320), {}),
    ]:
        told = ", tanh" if attributes else ""
        yield Row("Function", f"{op} {by(shape)}{told}", function(op, shape, -4, 4, attributes))
    yield Row("Function", f"PRelu {by(MAP)}, by channel", lambda g: g.node("PRelu", g.input(*MAP), g.weights(64, 1, 1)))
    yield Row("Function", f"Clip {by(MAP)}", lambda g: g.node("Clip", g.input(*MAP, high=9), g.f32(0), g.f32(6)))


def function(op, shape, low, high, attributes):
    return lambda g: g.node(op, g.input(*shape, low=low, high=high), **attributes)


def of_two():
    for op, first, second in [
        ("Add", MAP, MAP),
        ("Add", MAP, (1, 64, 1, 1)),
        ("Add", (1, 197, 768), (768,)),
        ("Add", ODD, ODD),
        ("Add", BATCH, BATCH),
        ("Add", (1, 128, 1), (1, 1, 128)),
        ("Mul", MAP, (1, 64, 1, 1)),
        ("Mul", MAP, (1, 1, 56, 56)),
        ("Mul", MAP, ()),
        ("Sub", MAP, MAP),
        ("Div", MAP, MAP),
        ("Max", MAP, MAP),
        ("Min", MAP, ()),
        ("Pow", MAP, MAP),
    ]:
        low = 0.1 if op in ("Div", "Pow") else -2
        make = lambda g, op=op, a=first, b=second, low=low: g.node(op, g.input(*a, low=low), g.input(*b, low=low))
        yield Row("Two operands", f"{op} {by(first)}, {by(second)}", make)
    for power in (2.0, 3.0, 0.5, 0.45):
        make = lambda g, power=power: g.node("Pow", g.input(*MAP, low=0), g.f32(power))
        yield Row("Two operands", f"Pow {by(MAP)}, {power}", make)
    make = lambda g: g.node("Mod", g.input(64, 3136, low=0, high=99, dtype=np.int64), g.constant(7, np.int64))
    yield Row("Two operands", "Mod i64 64x3136, 7", make)


def choices():
    yield Row("Choice", f"Where {by(MAP)}", lambda g: g.node("Where", g.input(*MAP, dtype=bool), g.input(*MAP), g.input(*MAP)))
    yield Row(
        "Choice",
        "Where 12x197x197, row mask and constant",
        lambda g: g.node("Where", g.input(1, 1, 197, dtype=bool), g.input(12, 197, 197), g.f32(-1e9)),
    )
    yield Row("Choice", f"Where {by(ODD)}", lambda g: g.node("Where", g.input(*ODD, dtype=bool), g.input(*ODD), g.f32(0)))
    i64 = lambda g, *shape: g.input(*shape, low=0, high=5, dtype=np.int64)
    yield Row("Choice", "Equal i64 64x3136", lambda g: g.node("Equal", i64(g, 64, 3136), i64(g, 64, 3136)))
    yield Row("Choice", "Equal i64 8x512, 0", lambda g: g.node("Equal", i64(g, 8, 512), g.constant(0, np.int64)))
    yield Row("Choice", f"Greater {by(MAP)}, 0.5", lambda g: g.node("Greater", g.input(*MAP), g.f32(0.5)))
    yield Row("Choice", "And 64x3136", lambda g: g.node("And", g.input(64, 3136, dtype=bool), g.input(64, 3136, dtype=bool)))
    yield Row("Choice", "Not 64x3136", lambda g: g.node("Not", g.input(64, 3136, dtype=bool)))


def casts():
    for name, source, target, options in [
        ("f32 → f16", np.float32, TensorProto.FLOAT16, {}),
        ("f16 → f32", np.float16, TensorProto.FLOAT, {}),
        ("i64 → f32", np.int64, TensorProto.FLOAT, {}),
        ("f32 → i64", np.float32, TensorProto.INT64, {"low": -99, "high": 99}),
        ("f32 → u8", np.float32, TensorProto.UINT8, {"low": 0, "high": 255}),
        ("u8 → f32", np.uint8, TensorProto.FLOAT, {"low": 0, "high": 256}),
        ("f32 → i32", np.float32, TensorProto.INT32, {"low": -99, "high": 99}),
        ("bool → f32", bool, TensorProto.FLOAT, {}),
        ("i32 → i64", np.int32, TensorProto.INT64, {"low": -99, "high": 99}),
        ("f32 → bool", np.float32, TensorProto.BOOL, {}),
    ]:
        make = lambda g, source=source, target=target, options=options: g.node(
            "Cast", g.input(64, 3136, dtype=source, **options), to=target
        )
        yield Row("Cast", f"{name} 64x3136", make)
    yield Row("Cast", "f32 → f16 37x1013", lambda g: g.node("Cast", g.input(37, 1013), to=TensorProto.FLOAT16))


def chains():
    yield Row("Chain", f"x · sigmoid(x) + y {by(MAP)}", lambda g: g.node("Add", silu(g, g.input(*MAP)), g.input(*MAP)))
    yield Row("Chain", f"SiLU {by(MAP)}", lambda g: silu(g, g.input(*MAP)))
    yield Row("Chain", f"x · tanh(softplus(x)) {by(MAP)}", mish)
    yield Row("Chain", "gate: a · sigmoid(b) of halves, 197x1536", gate)
    yield Row(
        "Chain",
        "30 · tanh(x / 30) 8x4096",
        lambda g: g.node("Mul", g.node("Tanh", g.node("Div", g.input(8, 4096, low=-90, high=90), g.f32(30))), g.f32(30)),
    )
    yield Row(
        "Chain",
        f"√(a² + b²) {by(MAP)}",
        lambda g: g.node("Sqrt", g.node("Add", *(g.node("Pow", g.input(*MAP), g.f32(2)) for _ in range(2)))),
    )
    yield Row("Chain", f"sin(x)² / y + x {by(ODD)}", snake)
    yield Row("Chain", "u8 picture 224x224x3 → normalised planes", picture)
    yield Row("Chain", "u8 pictures 8x224x224x3 → normalised planes", lambda g: picture(g, 8))


def mish(g):
    x = g.input(*MAP)
    return g.node("Mul", x, g.node("Tanh", g.node("Softplus", x)))


def gate(g):
    a, b = g.node("Split", g.input(197, 1536), axis=-1, num_outputs=2, results=2)
    return g.node("Mul", a, g.node("Sigmoid", b))


def snake(g):
    x = g.input(*ODD)
    return g.node("Add", x, g.node("Div", g.node("Pow", g.node("Sin", x), g.f32(2)), g.input(*ODD, low=0.5)))


def picture(g, batch=1):
    x = g.input(batch, 224, 224, 3, low=0, high=256, dtype=np.uint8)
    x = g.node("Div", g.node("Cast", x, to=TensorProto.FLOAT), g.f32(255))
    x = g.node("Div", g.node("Sub", x, g.f32([0.485, 0.456, 0.406])), g.f32([0.229, 0.224, 0.225]))
    return g.node("Transpose", x, perm=[0, 3, 1, 2])


def by(shape):
    return "x".join(map(str, shape)) or "scalar"
