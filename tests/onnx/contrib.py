"""Cases of ONNX Runtime's own operators (domain com.microsoft), one node each, with what onnxruntime computes for them.

fetch.py writes them beside ONNX's cases. Models are run without optimisations, on one thread. Where the kernels of onnxruntime take a
shorter way than their formula and may be off by one step, the formula is what is expected, computed in double precision here, and
onnxruntime may be one step from it. Where it has no kernel for CPUs, there is the formula alone.
"""

import dataclasses
import math

import numpy as np

MICROSOFT = "com.microsoft"
# ONNX's own operators are of this version, unless a case says otherwise.
OPSET = 17
TYPES = {"u8": np.uint8, "i8": np.int8, "u16": np.uint16, "i16": np.int16, "i32": np.int32}


@dataclasses.dataclass
class Case:
    name: str
    op: str
    model: object
    inputs: list
    outputs: list
    rtol: float
    atol: float


class Cases:
    """Cases in the making."""

    def __init__(self):
        self.list = []

    def add(self, name, op, operands, attributes=None, outputs=1, **how):
        """A node with operands by name, in order; `None` leaves one out. `how` is as for `single`."""
        case = single(name, op, operands, attributes or {}, outputs, **how)
        if any(other.name == case.name for other in self.list):
            raise SystemExit(f"contrib.py: two cases are named {case.name}")
        self.list.append(case)


def single(
    name,
    op,
    operands,
    attributes,
    outputs,
    constants=(),
    domain=MICROSOFT,
    opset=OPSET,
    formula=None,
    kernel=True,
    rtol=1e-4,
    atol=1e-5,
):
    """A case of one node. Of its `outputs`, a list says which are there. Operands in `constants` are initializers. With a `formula`,
    that is what is expected; without a `kernel`, onnxruntime is not asked."""
    from onnx import helper, numpy_helper

    present = [True] * outputs if isinstance(outputs, int) else outputs
    names = [f"y{index}" if there else "" for index, there in enumerate(present)]
    node = helper.make_node(op, [key if value is not None else "" for key, value in operands.items()], names, domain=domain)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    given = {key: np.asarray(value) for key, value in operands.items() if value is not None}
    inputs = {key: value for key, value in given.items() if key not in constants}
    graph = helper.make_graph(
        [node],
        name,
        [port(key, value) for key, value in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in names if name],
        [numpy_helper.from_array(value, key) for key, value in given.items() if key in constants],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    results = run(model, inputs) if kernel else None
    if formula is not None:
        expected = [np.asarray(value) for value in formula]
        if results is not None:
            near(name, results, expected)
        results = expected
    for declared, value in zip(model.graph.output, results):
        declared.CopyFrom(port(declared.name, value))
    return Case(f"{name}", op, model, list(inputs.values()), results, rtol, atol)


def port(name, value):
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def run(model, inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, inputs)


def near(name, results, expected):
    """A kernel is at most one step from its formula."""
    for result, value in zip(results, expected):
        if result.shape != value.shape or result.dtype != value.dtype:
            raise SystemExit(f"contrib.py: {name}: onnxruntime has {result.dtype}{result.shape}, the formula {value.dtype}{value.shape}")
        apart = np.abs(result.astype(np.float64) - value.astype(np.float64))
        if value.dtype.kind in "iu" and apart.max(initial=0) > 1 or value.dtype.kind == "f" and apart.max(initial=0) > 1e-4:
            raise SystemExit(f"contrib.py: {name}: onnxruntime is {apart.max()} from the formula")


class Numbers:
    """Numbers that are random, and the same for everybody."""

    def __init__(self, seed):
        self.random = np.random.RandomState(seed)

    def floats(self, *shape, scale=1.0):
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def bytes(self, kind, *shape):
        info = np.iinfo(TYPES[kind])
        return self.random.randint(info.min, int(info.max) + 1, shape).astype(TYPES[kind])

    def below(self, bound, *shape, dtype=np.int32):
        return self.random.randint(0, bound, shape).astype(dtype)


def f32(number):
    return np.array(number, np.float32)


def zero(kind, number):
    return np.array(number, TYPES[kind])


def quantised(x, scale, zero_point):
    """To the nearest, to even, within the type."""
    info = np.iinfo(zero_point.dtype)
    steps = np.rint(np.asarray(x, np.float64) / np.float64(scale)) + np.float64(zero_point)
    return np.clip(steps, info.min, info.max).astype(zero_point.dtype)


def real(q, scale, zero_point):
    return (q.astype(np.float64) - np.float64(zero_point)) * np.float64(scale)


# Kinds of scales: products and quotients of the first are exact in any order, and many results lie halfway between two steps.
SCALES = {"even": (0.25, 0.5, 1.0), "odd": (0.0173, 0.0251, 0.0389)}


def quantised_binary(cases):
    shapes = {
        "same": ((1, 3, 5, 7), (1, 3, 5, 7)),
        "rows": ((2, 3, 17), (3, 1)),
        "rows_of_A": ((3, 1, 1), (2, 3, 17, 1)),
        "scalar": ((33,), ()),
        "outer": ((2, 1, 8), (1, 3, 8)),
    }
    for op in ("QLinearAdd", "QLinearMul"):
        for kind in ("u8", "i8"):
            for scales, (sa, sb, sc) in {**SCALES, "decimal": (0.01, 0.02, 0.04)}.items():
                if op == "QLinearMul":
                    sc = {"even": 64.0, "odd": 0.9, "decimal": 0.05}[scales]
                for shape, (a_shape, b_shape) in shapes.items():
                    numbers = Numbers(1)
                    za, zb, zc = (zero(kind, number) for number in ((120, 7, 131) if kind == "u8" else (-3, 11, 5)))
                    operands = dict(
                        a=numbers.bytes(kind, *a_shape),
                        sa=f32(sa),
                        za=za,
                        b=numbers.bytes(kind, *b_shape),
                        sb=f32(sb),
                        zb=zb,
                        sc=f32(sc),
                        zc=zc,
                    )
                    constants = [key for key in operands if key not in "ab"]
                    # Of powers of two, all kernels compute the same.
                    formula = None if scales == "even" else [as_with_avx2(op, *operands.values())]
                    cases.add(f"{op}_{kind}_{scales}_{shape}", op, operands, constants=constants, formula=formula)
    # Scales that come from outside.
    numbers = Numbers(2)
    a, b = numbers.bytes("u8", 4, 9), numbers.bytes("u8", 4, 9)
    operands = dict(a=a, sa=f32(0.5), za=zero("u8", 3), b=b, sb=f32(0.25), zb=zero("u8", 9), sc=f32(1.0), zc=zero("u8", 1))
    cases.add("QLinearAdd_all_given", "QLinearAdd", operands)


def as_with_avx2(op, a, sa, za, b, sb, zb, sc, zc):
    """What the kernels for x86-64 with AVX2 compute, in f32; those for other processors may be one step off."""
    if op == "QLinearMul":
        product = (a.astype(np.int32) - int(za)) * (b.astype(np.int32) - int(zb))
        steps = product.astype(np.float32) * (sa * sb / sc) + zc.astype(np.float32)
    else:
        ra, rb = sa / sc, sb / sc
        steps = zc.astype(np.float32) - added(za, ra, zb.astype(np.float32) * rb)
        # What is one number for a row comes first.
        first = next((pair for pair in zip(a.shape[::-1], (b.shape or (1,))[::-1]) if pair != (1, 1)), (2, 2))
        for x, ratio in [(a, ra), (b, rb)] if first[0] == 1 else [(b, rb), (a, ra)]:
            steps = added(x, ratio, steps)
    info = np.iinfo(zc.dtype)
    return np.clip(np.rint(steps), info.min, info.max).astype(zc.dtype)


def added(x, factor, more):
    """A product and a sum, rounded once."""
    return (x.astype(np.float64) * np.float64(factor) + more.astype(np.float64)).astype(np.float32)


def quantised_unary(cases):
    for kind in ("u8", "i8"):
        for scales, (sx, _, sy) in SCALES.items():
            numbers = Numbers(3)
            x, zx, zy = numbers.bytes(kind, 2, 5, 13), zero(kind, 100 if kind == "u8" else -9), zero(kind, 6)
            sx, sy = f32(sx), f32(sy)
            operands = dict(x=x, sx=sx, zx=zx, sy=sy, zy=zy)
            constants = ["sx", "zx", "sy", "zy"]
            for alpha in (None, 0.3):
                attributes = {} if alpha is None else {"alpha": alpha}
                cases.add(f"QLinearLeakyRelu_{kind}_{scales}_{alpha}", "QLinearLeakyRelu", operands, attributes, constants=constants)
            operands = dict(x=x, sx=sx, zx=zx, sy=f32(1 / 256), zy=zero(kind, np.iinfo(TYPES[kind]).min))
            cases.add(f"QLinearSigmoid_{kind}_{scales}", "QLinearSigmoid", operands, constants=constants)
            axes = [0, 1, -1] + ([None] if kind == "u8" else [])
            for opset in (12, 13):
                for axis in axes:
                    where = -1 if axis is None else axis
                    expected = quantised(softmax(real(x, sx, zx), where, opset), f32(1 / 256), operands["zy"])
                    attributes = {"opset": opset} | ({} if axis is None else {"axis": axis})
                    name = f"QLinearSoftmax_{kind}_{scales}_{opset}_{axis}"
                    cases.add(name, "QLinearSoftmax", operands, attributes, formula=[expected], constants=constants)
            for axes, keep in (([1], 1), ([0, 2], 0), ([-1], 1)):
                expected = quantised(real(x, sx, zx).mean(axis=tuple(axes), keepdims=bool(keep)), sy, zy)
                operands_of_mean = dict(x=x, sx=sx, zx=zx, sy=sy, zy=zy)
                attributes = {"axes": axes, "keepdims": keep}
                name = f"QLinearReduceMean_{kind}_{scales}_{'_'.join(map(str, axes))}"
                cases.add(name, "QLinearReduceMean", operands_of_mean, attributes, formula=[expected], kernel=False, constants=constants)


def softmax(x, axis, opset):
    shape = x.shape
    if opset < 13:
        x = x.reshape(int(np.prod(shape[: axis % len(shape)])), -1)
        axis = 1
    x = np.exp(x - x.max(axis=axis, keepdims=True))
    return (x / x.sum(axis=axis, keepdims=True)).reshape(shape)


def quantised_pools(cases):
    for kind in ("u8", "i8"):
        for scales, (sx, _, sy) in SCALES.items():
            for last in (0, 1):
                numbers = Numbers(4)
                shape = (2, 9, 7, 5) if last else (2, 5, 9, 7)
                operands = dict(
                    x=numbers.bytes(kind, *shape),
                    sx=f32(sx),
                    zx=zero(kind, 90 if kind == "u8" else 4),
                    sy=f32(sy),
                    zy=zero(kind, 3),
                )
                constants = ["sx", "zx", "sy", "zy"]
                name = f"{kind}_{scales}_{'last' if last else 'second'}"
                attributes = {"channels_last": last} if last else {}
                cases.add(f"QLinearGlobalAveragePool_{name}", "QLinearGlobalAveragePool", operands, attributes, constants=constants)
                windows = {
                    "plain": {"kernel_shape": [3, 2]},
                    "padded": {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "strides": [2, 1]},
                    "counted": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
                    "ceil": {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
                }
                for window, more in windows.items():
                    full = f"QLinearAveragePool_{name}_{window}"
                    cases.add(full, "QLinearAveragePool", operands, attributes | more, constants=constants)
        x = Numbers(5).bytes(kind, 2, 8, 9, 5)
        cases.add(f"NhwcMaxPool_{kind}", "NhwcMaxPool", dict(x=x), {"kernel_shape": [3, 3], "pads": [1, 1, 0, 0], "strides": [2, 2]})
        cases.add(f"NhwcMaxPool_{kind}_dilated", "NhwcMaxPool", dict(x=x), {"kernel_shape": [2, 2], "dilations": [2, 3], "ceil_mode": 1})


def quantised_data(cases):
    for kind in ("u8", "i8"):
        numbers = Numbers(6)
        parts = [numbers.bytes(kind, 2, rows, 3) for rows in (4, 1, 5)]
        scales = [f32(0.0173), f32(0.0251), f32(0.0173)]
        zeros = [zero(kind, 3), zero(kind, 8), zero(kind, 3)]
        operands = dict(sy=scales[0], zy=zeros[0])
        for index, (part, scale, point) in enumerate(zip(parts, scales, zeros)):
            operands |= {f"x{index}": part, f"s{index}": scale, f"z{index}": point}
        constants = [key for key in operands if key[0] in "sz"]
        cases.add(f"QLinearConcat_{kind}", "QLinearConcat", operands, {"axis": 1}, constants=constants)
        cases.add(f"QLinearConcat_{kind}_from_behind", "QLinearConcat", operands, {"axis": -2}, constants=constants)
        x, y = numbers.bytes(kind, 2, 7), numbers.bytes(kind, 2, 1)
        condition = numbers.below(2, 1, 7).astype(bool)
        operands = dict(c=condition, x=x, sx=f32(0.02), zx=zero(kind, 5), y=y, sy=f32(0.03), zy=zero(kind, 2), sz=f32(0.025), zz=zero(kind, 9))
        constants = [key for key in operands if key[0] in "sz"]
        cases.add(f"QLinearWhere_{kind}", "QLinearWhere", operands, constants=constants)
    x = Numbers(7).floats(3, 4, 5, scale=40)
    for kind in ("u8", "i8", "u16", "i16"):
        large = kind.endswith("16")
        scale, point = f32(0.01 if large else 0.5), zero(kind, 100)
        cases.add(f"QuantizeLinear_{kind}", "QuantizeLinear", dict(x=x, s=scale, z=point))
        scales = np.array([0.5, 0.25, 1.5, 2.0], np.float32)
        points = np.array([1, 2, 3, 4], TYPES[kind])
        cases.add(f"QuantizeLinear_{kind}_axis", "QuantizeLinear", dict(x=x, s=scales, z=points), {"axis": 1}, constants=["s", "z"])
        q = Numbers(8).bytes(kind, 3, 4, 5)
        cases.add(f"DequantizeLinear_{kind}", "DequantizeLinear", dict(x=q, s=scale, z=point))
        cases.add(f"DequantizeLinear_{kind}_axis", "DequantizeLinear", dict(x=q, s=scales, z=points), {"axis": -2}, constants=["s", "z"])
    q = Numbers(9).below(10000, 3, 4) - 5000
    cases.add("DequantizeLinear_i32", "DequantizeLinear", dict(x=q.astype(np.int32), s=f32(0.01)))
    half = np.linspace(-8, 8, 33, dtype=np.float32)
    cases.add("QuantizeLinear_halves", "QuantizeLinear", dict(x=half, s=f32(1.0), z=zero("i8", 0)))


def quantised_conv(cases):
    for kind in ("u8", "i8"):
        for last in (0, 1):
            numbers = Numbers(10)
            x = numbers.bytes(kind, *((1, 7, 6, 4) if last else (1, 4, 7, 6)))
            w = numbers.bytes("i8", 6, 2, 3, 3)
            operands = dict(
                x=x,
                sx=f32(0.02),
                zx=zero(kind, 7),
                w=w,
                sw=np.abs(numbers.floats(6, scale=0.01)) + f32(0.001),
                zw=np.zeros(6, np.int8),
                sy=f32(0.9),
                zy=zero(kind, 12),
                b=numbers.below(2000, 6) - 1000,
            )
            operands["b"] = operands["b"].astype(np.int32)
            attributes = {"group": 2, "pads": [1, 1, 0, 1], "strides": [2, 1], "channels_last": last}
            constants = [key for key in operands if key != "x"]
            cases.add(f"QLinearConv_{kind}_{'last' if last else 'second'}", "QLinearConv", operands, attributes, constants=constants)


def quantised_products(cases):
    for kind in ("u8", "i8"):
        numbers = Numbers(11)
        a, b = numbers.bytes(kind, 5, 17), numbers.bytes("i8" if kind == "i8" else "u8", 17, 6)
        c = (numbers.below(4000, 6) - 2000).astype(np.int32)
        bk = "i8" if kind == "i8" else "u8"
        columns = np.linspace(0.01, 0.03, 6).astype(np.float32)
        point = np.arange(6).astype(TYPES[bk])
        for name, (sb, zb) in {"one": (f32(0.02), zero(bk, 5)), "columns": (columns, point)}.items():
            for trans in (0, 1):
                operands = dict(
                    a=a.T.copy() if trans else a, sa=f32(0.03), za=zero(kind, 9), b=b.T.copy() if trans else b, sb=sb, zb=zb, c=c
                )
                attributes = {"transA": trans, "transB": trans, "alpha": 0.5 if trans else 1.0}
                constants = ["sa", "za", "b", "sb", "zb", "c"]
                floats = dict(constants=constants, rtol=1e-5)
                cases.add(f"QGemm_{kind}_{name}_{trans}_floats", "QGemm", operands, attributes, **floats)
                operands |= dict(sy=f32(0.9), zy=zero(kind, 20))
                cases.add(f"QGemm_{kind}_{name}_{trans}", "QGemm", operands, attributes, constants=constants + ["sy", "zy"])
            operands = dict(a=a, b=b, sa=f32(0.03), sb=sb, za=zero(kind, 9), zb=zb, bias=numbers.floats(6))
            cases.add(f"MatMulIntegerToFloat_{kind}_{name}", "MatMulIntegerToFloat", operands, constants=["b", "sb", "zb", "bias"])
            operands = dict(a=numbers.floats(3, 5, 17), b=b, sb=sb, zb=zb, bias=numbers.floats(6))
            cases.add(f"DynamicQuantizeMatMul_{kind}_{name}", "DynamicQuantizeMatMul", operands, constants=["b", "sb", "zb", "bias"])
        operands = dict(a=a, b=b, sa=f32(0.03), sb=f32(0.01))
        cases.add(f"MatMulIntegerToFloat_{kind}_plain", "MatMulIntegerToFloat", operands)
        operands = dict(a=numbers.floats(5, 17), b=b, sb=f32(0.01))
        cases.add(f"DynamicQuantizeMatMul_{kind}_plain", "DynamicQuantizeMatMul", operands, constants=["b"])
    numbers = Numbers(12)
    cases.add("MatMulInteger16", "MatMulInteger16", dict(a=numbers.bytes("i16", 3, 4), b=numbers.bytes("i16", 4, 5)))


def quantised_lstm(cases):
    steps, size, hidden = 4, 5, 3
    kinds = {"u8": 2**7, "i8": 0}
    for kind, middle in kinds.items():
        for direction in ("forward", "reverse", "bidirectional"):
            for name, per in {"one": (), "columns": (4 * hidden,)}.items():
                numbers = Numbers(20)
                count = 2 if direction == "bidirectional" else 1
                scale = np.abs(numbers.floats(2, count, *per, scale=0.002)) + f32(0.004)
                operands = dict(
                    x=numbers.floats(steps, 1, size),
                    w=numbers.bytes(kind, count, size, 4 * hidden),
                    r=numbers.bytes(kind, count, hidden, 4 * hidden),
                    b=numbers.floats(count, 8 * hidden, scale=0.3),
                    lens=None,
                    h=numbers.floats(count, 1, hidden, scale=0.5),
                    c=numbers.floats(count, 1, hidden, scale=0.5),
                    p=None,
                    ws=scale[0],
                    wz=np.full((count, *per), middle, TYPES[kind]),
                    rs=scale[1],
                    rz=np.full((count, *per), middle, TYPES[kind]),
                )
                attributes = {"hidden_size": hidden, "direction": direction}
                constants = ["w", "r", "b", "ws", "wz", "rs", "rz"]
                full = f"DynamicQuantizeLSTM_{kind}_{direction}_{name}"
                cases.add(full, "DynamicQuantizeLSTM", operands, attributes, 3, constants=constants)
    operands |= dict(x=numbers.floats(steps, 2, size), h=None, c=None, p=numbers.floats(count, 3 * hidden))
    attributes = {"hidden_size": hidden, "direction": direction, "clip": 0.8}
    cases.add("DynamicQuantizeLSTM_batch", "DynamicQuantizeLSTM", operands, attributes, 3, constants=[*constants, "p"])


def packed_weights(cases):
    for bits in (4, 8, 2):
        for k, block in ((32, 16), (40, 16), (64, 32)):
            numbers = Numbers(13)
            columns, blocks = 5, -(-k // block)
            a = numbers.floats(3, k)
            q = numbers.below(1 << bits, columns, blocks * block, dtype=np.uint8)
            b = pack(q, bits).reshape(columns, blocks, block * bits // 8)
            scales = np.abs(numbers.floats(columns * blocks, scale=0.1)) + f32(0.01)
            attributes = {"K": k, "N": columns, "bits": bits, "block_size": block, "accuracy_level": 1}
            zeros = numbers.below(1 << bits, columns, blocks, dtype=np.uint8)
            per_byte = 8 // bits
            padded = np.zeros((columns, -(-blocks // per_byte) * per_byte), np.uint8)
            padded[:, :blocks] = zeros
            for name, points in {"middle": None, "packed": pack(padded, bits).reshape(-1), "floats": None}.items():
                numbers_of_zero = np.full((columns, blocks), 1 << (bits - 1)) if points is None else zeros
                operands = dict(a=a, b=b, s=scales, z=points)
                if name == "floats":
                    if bits != 4:
                        continue
                    points = numbers.floats(columns * blocks)
                    operands["z"], numbers_of_zero = points, points.reshape(columns, blocks)
                real_weights = (q.reshape(columns, blocks, block).astype(np.float64) - numbers_of_zero[:, :, None]) * scales.reshape(
                    columns, blocks, 1
                )
                expected = a.astype(np.float64) @ real_weights.reshape(columns, -1)[:, :k].T
                cases.add(
                    f"MatMulNBits_{bits}_{k}_{block}_{name}",
                    "MatMulNBits",
                    operands,
                    attributes,
                    constants=["b", "s", "z"],
                    formula=[expected.astype(np.float32)],
                    kernel=bits != 2,
                )
    numbers = Numbers(14)
    operands = dict(
        a=numbers.floats(2, 3, 32),
        b=numbers.bytes("u8", 8, 2, 8),
        s=np.abs(numbers.floats(16, scale=0.1)),
        z=None,
        g=None,
        bias=numbers.floats(8),
    )
    attributes = {"K": 32, "N": 8, "bits": 4, "block_size": 16}
    cases.add("MatMulNBits_bias", "MatMulNBits", operands, attributes, constants=["s", "bias"])


def pack(q, bits):
    """The lowest bits of a byte first."""
    per_byte = 8 // bits
    q = q.reshape(*q.shape[:-1], -1, per_byte).astype(np.uint16)
    return sum(q[..., place] << (place * bits) for place in range(per_byte)).astype(np.uint8)


def fused(cases):
    numbers = Numbers(15)
    x, w, b = numbers.floats(1, 4, 6, 6), numbers.floats(5, 4, 3, 3, scale=0.3), numbers.floats(5)
    z = numbers.floats(1, 5, 6, 6)
    window = {"pads": [1, 1, 1, 1]}
    activations = {
        "Relu": None,
        "Tanh": None,
        "Sigmoid": None,
        "LeakyRelu": [0.2],
        "Clip": [-0.5, 0.75],
        "HardSigmoid": [0.3, 0.4],
    }
    for activation, parameters in activations.items():
        attributes = window | {"activation": activation} | ({"activation_params": parameters} if parameters else {})
        cases.add(f"FusedConv_{activation}", "FusedConv", dict(x=x, w=w, b=b), attributes, constants=["w", "b"])
    plain = window | {"activation": "Relu"}
    cases.add("FusedConv_residual", "FusedConv", dict(x=x, w=w, b=b, z=z), plain, constants=["w", "b"])
    cases.add("FusedConv_residual_no_bias", "FusedConv", dict(x=x, w=w, b=None, z=z), plain, constants=["w"])
    cases.add("FusedConv_no_activation", "FusedConv", dict(x=x, w=w, b=b, z=z), window, constants=["w", "b"])
    grouped = dict(x=x, w=numbers.floats(8, 2, 3, 2, scale=0.4), b=numbers.floats(8))
    more = {"group": 2, "strides": [2, 1], "auto_pad": "SAME_UPPER", "activation": "Relu"}
    cases.add("FusedConv_grouped", "FusedConv", grouped, more, constants=["w", "b"])
    line = dict(x=numbers.floats(2, 3, 11), w=numbers.floats(4, 3, 3))
    cases.add("FusedConv_line", "FusedConv", line, {"activation": "Relu", "strides": [2]}, constants=["w"])

    a, b, c = numbers.floats(3, 7), numbers.floats(7, 4), numbers.floats(4)
    for activation, parameters in {"Relu": {}, "LeakyRelu": {"alpha": 0.3}, "Sigmoid": {}, "Tanh": {}, "Elu": {"alpha": 0.7}}.items():
        attributes = {"activation": activation, "alpha": 0.5, "beta": 2.0} | {f"activation_{key}": v for key, v in parameters.items()}
        cases.add(f"FusedGemm_{activation}", "FusedGemm", dict(a=a, b=b, c=c), attributes, constants=["b", "c"])
    turned = {"transA": 1, "transB": 1, "activation": "Relu"}
    cases.add("FusedGemm_turned", "FusedGemm", dict(a=a.T.copy(), b=b.T.copy()), turned)

    for trans_a in (0, 1):
        for trans_b in (0, 1):
            a, b = numbers.floats(2, 3, 4, 5), numbers.floats(2, 3, 5, 6)
            a = a.swapaxes(2, 3).copy() if trans_a else a
            b = b.swapaxes(2, 3).copy() if trans_b else b
            attributes = {"transA": trans_a, "transB": trans_b, "alpha": 0.25}
            cases.add(f"FusedMatMul_{trans_a}{trans_b}", "FusedMatMul", dict(a=a, b=b), attributes)
            # The batch between rows and columns: [M, batch, K].
            first = a.transpose(2, 0, 1, 3).copy()
            second = b.transpose(2, 0, 1, 3).copy()
            batches = attributes | {"transBatchA": 1, "transBatchB": 1}
            cases.add(f"FusedMatMul_{trans_a}{trans_b}_batches", "FusedMatMul", dict(a=first, b=second), batches)
    cases.add("FusedMatMul_vector", "FusedMatMul", dict(a=numbers.floats(5), b=numbers.floats(5, 3)), {"transA": 1})
    cases.add("FusedMatMul_broadcast", "FusedMatMul", dict(a=numbers.floats(2, 3, 4, 5), b=numbers.floats(5, 2)), {"alpha": 2.0})
    cases.add("TransposeMatMul", "TransposeMatMul", dict(a=numbers.floats(5, 3), b=numbers.floats(5, 2)), {"transA": 1})
    a, b = numbers.floats(2, 4, 3), numbers.floats(2, 4, 5)
    expected = np.maximum(0.5 * (a.swapaxes(1, 2).astype(np.float64) @ b), 0).astype(np.float32)
    attributes = {"transA": 1, "alpha": 0.5, "activation": "Relu"}
    cases.add("FusedMatMulActivation", "FusedMatMulActivation", dict(a=a, b=b), attributes, formula=[expected], kernel=False)


def activations(cases):
    numbers = Numbers(16)
    x, bias = numbers.floats(2, 3, 8, scale=3), numbers.floats(8)
    cases.add("Gelu", "Gelu", dict(x=x))
    cases.add("FastGelu", "FastGelu", dict(x=x))
    cases.add("FastGelu_bias", "FastGelu", dict(x=x, b=bias), constants=["b"])
    cases.add("BiasGelu", "BiasGelu", dict(x=x, b=bias))
    cases.add("QuickGelu", "QuickGelu", dict(x=x))
    cases.add("QuickGelu_alpha", "QuickGelu", dict(x=x), {"alpha": 1.0})
    cases.add("QuickGelu_other", "QuickGelu", dict(x=x), {"alpha": -0.5})
    # Operators without a kernel for CPUs.
    wide, w, skip = x.astype(np.float64), numbers.floats(8, 5), numbers.floats(2, 3, 8)
    product = wide @ w.astype(np.float64)
    approximated = 0.5 * product * (1 + np.tanh(np.sqrt(2 / np.pi) * (product + 0.044715 * product**3)))
    cases.add("GemmFastGelu", "GemmFastGelu", dict(x=x, w=w), formula=[approximated.astype(np.float32)], kernel=False)
    cases.add("BiasAdd", "BiasAdd", dict(x=x, b=bias, skip=skip), formula=[x + bias + skip], kernel=False)
    left, right = np.split(wide + bias, 2, axis=-1)
    gate = 0.5 * right * (1 + np.vectorize(math.erf)(right / np.sqrt(2)))
    cases.add("BiasSplitGelu", "BiasSplitGelu", dict(x=x, b=bias), formula=[(left * gate).astype(np.float32)], kernel=False)


def norms(cases):
    numbers = Numbers(17)
    x, skip = numbers.floats(2, 3, 16), numbers.floats(2, 3, 16)
    gamma, beta, bias = numbers.floats(16), numbers.floats(16), numbers.floats(16)
    constants = ["gamma", "beta", "bias"]
    for domain, opset in (("", 11), ("", 16)):
        for axis in (-1, 1):
            scale = numbers.floats(*x.shape[axis:]) if axis == 1 else gamma
            attributes = {"axis": axis, "epsilon": 1e-3}
            operands = dict(x=x, gamma=scale, beta=numbers.floats(*scale.shape))
            name = f"{opset}_{axis % 3}"
            cases.add(f"LayerNormalization_{name}", "LayerNormalization", operands, attributes, 3, domain=domain, opset=opset)
            operands = dict(x=x, gamma=scale)
            simple = "SimplifiedLayerNormalization"
            cases.add(f"{simple}_{name}", simple, operands, attributes, 2, domain=domain, opset=opset)
    skips = {"same": skip, "batch": numbers.floats(1, 3, 16), "none": numbers.floats(3, 16)}
    for name, residual in skips.items():
        operands = dict(x=x, skip=residual, gamma=gamma, beta=beta, bias=bias)
        there = [True, False, False, True]
        cases.add(f"SkipLayerNormalization_{name}", "SkipLayerNormalization", operands, {"epsilon": 1e-2}, there, constants=constants)
        operands = dict(x=x, skip=residual, gamma=gamma, bias=bias)
        op = "SkipSimplifiedLayerNormalization"
        cases.add(f"{op}_{name}", op, operands, {"epsilon": 1e-2}, there, constants=constants)
    cases.add("SkipLayerNormalization_plain", "SkipLayerNormalization", dict(x=x[0], skip=skip[0], gamma=gamma))
    op = "SkipSimplifiedLayerNormalization"
    cases.add(f"{op}_plain", op, dict(x=x[0], skip=skip[0], gamma=gamma))

    tables = dict(words=numbers.floats(20, 16), places=numbers.floats(9, 16), kinds=numbers.floats(2, 16))
    ids, segments = numbers.below(20, 2, 6), numbers.below(2, 2, 6)
    mask = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]], np.int32)
    operands = dict(ids=ids, segments=segments, **tables, gamma=gamma, beta=beta, mask=mask)
    constants = [*tables, "gamma", "beta"]
    op = "EmbedLayerNormalization"
    cases.add(op, op, operands, {"epsilon": 1e-4}, 3, constants=constants)
    operands = dict(ids=ids, segments=None, words=tables["words"], places=tables["places"], kinds=None, gamma=gamma, beta=beta)
    cases.add(f"{op}_no_segments", op, operands, {}, 2, constants=constants)
    operands |= dict(mask=None, positions=numbers.below(9, 2, 6))
    cases.add(f"{op}_positions", op, operands, {}, [True, True], constants=constants)


def attentions(cases):
    numbers = Numbers(18)
    batch, length, width, heads = 2, 4, 12, 3
    size = width // heads
    x = numbers.floats(batch, length, width)
    weights, bias = numbers.floats(width, 3 * width, scale=0.4), numbers.floats(3 * width)
    masks = {
        "none": None,
        "lengths": np.array([2, 4], np.int32),
        "ends": np.array([3, 4, 1, 2], np.int32),
        "keys": np.array([[1, 1, 0, 0], [0, 1, 1, 1]], np.int32),
        "pairs": numbers.below(2, batch, length, length),
    }
    past = numbers.floats(2, batch, heads, 5, size)
    for name, mask in masks.items():
        for causal in (0, 1):
            attributes = {"num_heads": heads, "unidirectional": causal}
            operands = dict(x=x, w=weights, b=bias, mask=mask)
            constants = ["w", "b"]
            cases.add(f"Attention_{name}_{causal}", "Attention", operands, attributes, 2, constants=constants)
    for causal in (0, 1):
        attributes = {"num_heads": heads, "unidirectional": causal}
        operands = dict(x=x, w=weights, b=bias, mask=None, past=past)
        cases.add(f"Attention_past_{causal}", "Attention", operands, attributes, 2, constants=["w", "b"])
    added = numbers.floats(batch, heads, length, length)
    operands = dict(x=x, w=weights, b=bias, mask=masks["keys"], past=None, added=added)
    attributes = {"num_heads": heads, "scale": 0.3, "mask_filter_value": -50.0}
    cases.add("Attention_added", "Attention", operands, attributes, constants=["w", "b"])
    operands["added"] = added[:1, :1]
    cases.add("Attention_added_to_all", "Attention", operands, attributes, constants=["w", "b"])
    narrow = numbers.floats(width, 12 + 12 + 6, scale=0.4)
    operands = dict(x=x, w=narrow, b=numbers.floats(30))
    cases.add("Attention_sizes", "Attention", operands, {"num_heads": heads, "qkv_hidden_sizes": [12, 12, 6]}, constants=["w", "b"])

    q = numbers.bytes("u8", batch, length, width)
    for kind in ("u8", "i8"):
        w = numbers.bytes(kind, width, 3 * width)
        for name in ("none", "keys", "lengths"):
            operands = dict(x=q, w=w, b=bias, sx=f32(0.01), sw=f32(0.01), mask=masks[name], zx=zero("u8", 7), zw=zero(kind, 3))
            constants = ["w", "b", "sx", "sw", "zx", "zw"]
            cases.add(f"QAttention_{kind}_{name}", "QAttention", operands, {"num_heads": heads}, constants=constants)
        operands = dict(x=q, w=w, b=bias, sx=f32(0.01), sw=f32(0.01), mask=None, zx=zero("u8", 7), zw=zero(kind, 0), past=past)
        attributes = {"num_heads": heads, "unidirectional": 1}
        cases.add(f"QAttention_{kind}_past", "QAttention", operands, attributes, 2, constants=constants)

    keys = 6
    query = numbers.floats(batch, length, width)
    key, found = numbers.floats(batch, keys, width), numbers.floats(batch, keys, 6)
    bias = numbers.floats(width + width + 6)
    masks = {
        "none": None,
        "lengths": np.array([2, 6], np.int32),
        "keys": numbers.below(2, batch, keys) | (np.arange(keys) == 0).astype(np.int32),
        "pairs": numbers.below(2, batch, length, keys),
    }
    op = "MultiHeadAttention"
    for name, mask in masks.items():
        operands = dict(q=query, k=key, v=found, b=bias, mask=mask)
        cases.add(f"{op}_{name}", op, operands, {"num_heads": heads}, 3, constants=["b"])
    operands = dict(q=query, k=key, v=found, b=None, mask=None, added=numbers.floats(1, heads, length, keys))
    cases.add(f"{op}_added", op, operands, {"num_heads": heads, "scale": 0.2})
    own = numbers.floats(batch, length, width)
    operands = dict(q=query, k=own, v=own, b=None, mask=None, added=None)
    cases.add(f"{op}_causal", op, operands, {"num_heads": heads, "unidirectional": 1})
    operands |= dict(pk=numbers.floats(batch, heads, 3, size), pv=numbers.floats(batch, heads, 3, size))
    cases.add(f"{op}_past", op, operands, {"num_heads": heads}, 3)
    cases.add(f"{op}_past_causal", op, operands, {"num_heads": heads, "unidirectional": 1}, 3)
    encoded = dict(q=query, k=numbers.floats(batch, heads, keys, size), v=numbers.floats(batch, heads, keys, size))
    cases.add(f"{op}_encoded", op, encoded, {"num_heads": heads})


def older(cases):
    numbers = Numbers(19)
    x = numbers.floats(3, 4)
    cases.add("ExpandDims", "ExpandDims", dict(x=x, axis=np.array(1, np.int32)), constants=["axis"])
    cases.add("ExpandDims_behind", "ExpandDims", dict(x=x, axis=np.array(-1, np.int32)), constants=["axis"])
    pads = np.array([1, 0, 2, 1], np.int64)
    cases.add("Pad", "Pad", dict(x=x, p=pads, v=np.array([0.5], np.float32)), {"mode": "constant"}, constants=["p", "v"])
    cases.add("Pad_edge", "Pad", dict(x=x, p=pads), {"mode": "edge"}, constants=["p"])
    indices = np.array([[2, 1], [0, 3]], np.int64)
    cases.add("GatherND", "GatherND", dict(x=x, i=indices), constants=["i"])
    cases.add("Range", "Range", dict(a=f32(1), b=f32(4)), constants=["a", "b"])
    cases.add("Range_step", "Range", dict(a=f32(5), b=f32(1), c=f32(-1.5)), constants=["a", "b", "c"])
    cases.add("Trilu", "Trilu", dict(x=numbers.floats(2, 4, 4), k=np.array(1, np.int64)), {"upper": 1}, constants=["k"])
    for metric in ("sqeuclidean", "euclidean"):
        cases.add(f"CDist_{metric}", "CDist", dict(a=x, b=numbers.floats(5, 4)), {"metric": metric})


FAMILIES = [
    quantised_binary,
    quantised_unary,
    quantised_pools,
    quantised_data,
    quantised_conv,
    quantised_products,
    quantised_lstm,
    packed_weights,
    fused,
    activations,
    norms,
    attentions,
    older,
]


def cases():
    made = Cases()
    for family in FAMILIES:
        family(made)
    return made.list
