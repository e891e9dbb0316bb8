"""The kinds of layers of fuzz_quantised.py: each makes a few nodes of random numbers, shapes and attributes.

    bytes ─ DequantizeLinear ─┐
    weights ─ Dequantize… ────┼─ Conv ─ Relu ─ QuantizeLinear ─ bytes        QDQ
    bias ─ DequantizeLinear ──┘
    bytes ─ QLinearConv ─ bytes                                              QOperator
    floats ─ DynamicQuantizeLinear ─ ConvInteger ─ Cast ─ Mul ─ floats       dynamic

The scale of a result is taken from the largest real number that the layer makes of its input, so that results spread over all steps.
"""

import dataclasses
import zlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
OPSET = 21
BYTES = [np.uint8, np.uint8, np.uint8, np.int8, np.int8]
WORDS = [np.uint16, np.int16]


@dataclasses.dataclass(frozen=True)
class Layer:
    kind: str
    name: str
    what: str
    """The nodes, in a line."""
    nodes: list
    inputs: list
    outputs: list
    constants: list
    arrays: dict
    steps: int
    """How far a result may be off."""


@dataclasses.dataclass(frozen=True)
class Steps:
    """What a step is worth, and which one stands for 0."""

    scale: float
    zero: int
    dtype: type

    @property
    def ends(self):
        info = np.iinfo(self.dtype)
        return info.min, info.max

    def real(self, q):
        return (q.astype(np.float64) - self.zero) * self.scale


class Untaken(Exception):
    """onnxruntime has no kernel for it."""


class Maker:
    """Adds nodes, whose values have names of their own."""

    def __init__(self, name, random):
        self.name, self.random = name, random
        self.nodes, self.inputs, self.constants, self.arrays = [], [], [], {}
        self.steps = 1
        self._count = 0

    def new(self, stem):
        self._count += 1
        return f"{self.name}_{stem}{self._count}"

    def pick(self, *of):
        return of[self.random.integers(len(of))]

    def chance(self, one_in):
        return self.random.integers(one_in) == 0

    def extent(self, most):
        """Small ones are as frequent as large ones."""
        return int(min(most, 2 ** self.random.uniform(0, np.log2(most + 1))))

    def constant(self, values, dtype=None):
        name = self.new("c")
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def f32(self, value):
        return self.constant(value, np.float32)

    def given(self, values):
        name = self.new("x")
        values = np.ascontiguousarray(values)
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, kind, values.shape))
        self.arrays[name] = values
        return name

    def node(self, op, *operands, results=1, domain="", **attributes):
        names = [self.new("v") for _ in range(results)]
        node = helper.make_node(op, [name or "" for name in operands], names, domain=domain, **attributes)
        self.nodes.append(node)
        return names[0] if results == 1 else names

    def scale(self, about=1.0):
        """Powers of two, round decimals, anything."""
        about *= float(np.exp(self.random.uniform(-1, 1)))
        return float(
            np.float32(
                self.pick(
                    2.0 ** round(np.log2(about)),
                    float(f"{about:.1g}"),
                    about,
                    about,
                )
            )
        )

    def steps_of(self, dtype, about=None):
        """A scale and a zero point for data between about -1 and 1, or so."""
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        middle = (low + high + 1) // 2
        zero = self.pick(middle, low, int(self.random.integers(low, high + 1)), middle + 1, high if self.chance(4) else middle)
        return Steps(self.scale(about or 2 / (high - low)), int(zero), dtype)

    def operands(self, steps):
        return self.f32(steps.scale), self.constant(steps.zero, steps.dtype)

    def domain(self):
        """Sixteen bits came late to ONNX's own; onnxruntime's have them for long."""
        return self.pick("", "", "", MICROSOFT)

    def dequantize(self, q, steps, **attributes):
        zero = None if steps.zero == 0 and self.chance(2) else self.constant(steps.zero, steps.dtype)
        return self.node("DequantizeLinear", q, self.f32(steps.scale), *[zero] if zero else [], domain=self.domain(), **attributes)

    def data(self, shape, dtype):
        """Bytes over the whole range, or, as behind a Relu, many of the same."""
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        values = self.random.integers(low, high + 1, shape)
        if self.chance(3):
            values = np.clip(self.random.normal((low + high) / 2, (high - low) / 8, shape), low, high)
        return values.astype(dtype)

    def input(self, *shape, dtype=None):
        """The numbers of an input in bytes: their name, and what they are."""
        steps = self.steps_of(dtype or self.pick(*BYTES))
        q = self.data(shape, steps.dtype)
        return self.dequantize(self.given(q), steps), steps.real(q)

    def quantized(self, y, dtype=None):
        """A value as steps."""
        dtype = dtype or self.pick(*BYTES)
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        steps = self.steps_of(dtype, (2.4 if self.chance(2) else 1.2) * max(self.largest(y), 1e-6) / (high - low))
        return self.node("QuantizeLinear", y, *self.operands(steps), domain=self.domain())

    def largest(self, y):
        """The largest number that the nodes up to here make, by onnxruntime."""
        values = np.abs(self.values(y))
        return float(np.max(values, where=np.isfinite(values), initial=0.0))

    def values(self, y):
        import onnxruntime

        model = build(self.nodes, self.inputs, [y], self.constants)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return session.run(None, self.arrays)[0]
        except Exception as error:  # its exceptions have no other base
            raise Untaken from error

    def weights(self, shape, axis):
        """Weights: bytes, scales and zero points; one for all, or one for each index along an axis."""
        dtype = self.pick(np.int8, np.int8, np.uint8)
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        seven = self.chance(4)
        values = self.random.integers(low // 2 if seven else low, high // 2 + 1 if seven else high + 1, shape).astype(dtype)
        each = self.chance(2)
        count = shape[axis] if each else ()
        inner = max(int(np.prod(shape)) // max(shape[axis], 1), 1)
        scales = np.float32([self.scale(1 / 64 / inner**0.5) for _ in range(count)] if each else self.scale(1 / 64 / inner**0.5))
        if dtype == np.int8 and not self.chance(4):
            zeros = np.zeros(count, dtype)
        else:
            middle = 0 if dtype == np.int8 else 128
            zeros = np.asarray(middle + self.random.integers(-8, 9, count)).astype(dtype)
        return values, scales, zeros

    def dequantized_weights(self, shape, axis):
        values, scales, zeros = self.weights(shape, axis)
        attributes = {"axis": axis} if scales.ndim else {}
        operands = [self.constant(values), self.constant(scales)]
        if zeros.any() or self.chance(2):
            operands.append(self.constant(zeros))
        return self.node("DequantizeLinear", *operands, **attributes), scales

    def bias(self, count, scales, x_scale):
        """None, floats, or steps of the products."""
        form = self.pick("none", "floats", "steps", "steps")
        if form == "none":
            return None
        if form == "floats":
            return self.constant(self.random.normal(0, 0.5, count).astype(np.float32))
        products = np.broadcast_to(np.float32(scales) * np.float32(x_scale), (count,)).copy()
        steps = np.clip(self.random.normal(0, 0.5, count) / np.maximum(products, 1e-9), -1e6, 1e6).astype(np.int32)
        if scales.ndim == 0:
            operands = [self.constant(steps), self.constant(products[0])]
            return self.node("DequantizeLinear", *operands)
        return self.node("DequantizeLinear", self.constant(steps), self.constant(products), axis=0)

    def bounded(self, y):
        """A Relu or a Clip behind a layer, perhaps."""
        form = self.pick("none", "none", "relu", "clip", "leaky", "batch norm")
        if form == "relu":
            return self.node("Relu", y)
        if form == "clip":
            return self.node("Clip", y, self.f32(self.pick(0.0, -0.3)), self.f32(self.pick(6.0, 0.7)))
        if form == "leaky":
            return self.node("LeakyRelu", y, alpha=0.1)
        if form == "batch norm":
            return y if not (shape := np.shape(self.values(y)))[1:] else self.batch_norm(y, shape[1])
        return y

    def batch_norm(self, y, channels):
        numbers = [
            self.random.uniform(0.5, 2, channels),
            self.random.normal(0, 1, channels),
            self.random.normal(0, 1, channels),
            self.random.uniform(0.5, 2, channels),
        ]
        return self.node("BatchNormalization", y, *[self.constant(v.astype(np.float32)) for v in numbers])


def build(nodes, inputs, outputs, constants):
    graph = helper.make_graph(nodes, "layers", inputs, [helper.make_empty_tensor_value_info(name) for name in outputs], constants)
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def model(layers):
    """One model of all these layers."""
    joined = [sum((getattr(layer, part) for layer in layers), []) for part in ("nodes", "inputs", "outputs", "constants")]
    return build(*joined)


def layer(kind, seed, number):
    """A layer, always the same for these numbers; None if onnxruntime does not take it."""
    random = np.random.default_rng([seed, number, zlib.crc32(kind.encode())])
    maker = Maker(f"s{seed}n{number}", random)
    try:
        outputs = KINDS[kind](maker)
    except Untaken:
        return None
    outputs = [outputs] if isinstance(outputs, str) else outputs
    name = f"{maker.name}-{''.join(c if c.isalnum() else '-' for c in kind)}"
    constants = {tensor.name: f"{numpy_helper.to_array(tensor).dtype}{list(tensor.dims)}" for tensor in maker.constants}
    what = "; ".join(describe(node, constants, maker.arrays) for node in maker.nodes)
    return Layer(kind, name, what, maker.nodes, maker.inputs, outputs, maker.constants, maker.arrays, maker.steps)


def describe(node, constants, arrays):
    def operand(name):
        if name in arrays:
            return f"{arrays[name].dtype}{list(arrays[name].shape)}"
        return constants.get(name, "·" if name else "-")

    attributes = ", ".join(f"{a.name}={helper.get_attribute_value(a)}" for a in node.attribute)
    return f"{node.op_type}({', '.join(map(operand, node.input))}{' | ' + attributes if attributes else ''})"


# Windows


def window(m, rank, inner):
    """Attributes of a window over these extents, such that it fits."""
    kernel = [int(m.pick(1, 1, 2, 3, 3, 3, 5)) for _ in range(rank)]
    strides = [int(m.pick(1, 1, 1, 2, 3))] * rank if m.chance(2) else [int(m.pick(1, 1, 2)) for _ in range(rank)]
    dilations = [int(m.pick(1, 1, 1, 2)) for _ in range(rank)]
    pads = [int(m.random.integers(0, k)) if not m.chance(3) else k // 2 for k in kernel * 2]
    for axis, extent in enumerate(inner):
        if (kernel[axis] - 1) * dilations[axis] + 1 > extent + pads[axis] + pads[axis + rank]:
            kernel[axis], pads[axis], pads[axis + rank] = 1, 0, 0
    return {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}


def image(m, rank=2):
    most = {1: 60, 2: 20, 3: 7}[rank]
    return [m.extent(most) + m.pick(0, 3) for _ in range(rank)]


def groups(m):
    """Channels in, channels out, groups."""
    form = m.pick("plain", "plain", "grouped", "depthwise", "multiplied")
    if form == "plain":
        return m.extent(70), m.extent(70), 1
    count = m.extent(40)
    if form == "grouped":
        count = m.extent(6)
        return count * m.extent(12), count * m.extent(12), count
    return count, count * (1 if form == "depthwise" else m.pick(2, 3)), count


def conv(rank):
    def make(m):
        c, out, group = groups(m)
        inner = image(m, rank)
        attributes = window(m, rank, inner) | {"group": group}
        x_steps = m.steps_of(m.pick(*BYTES))
        x = m.dequantize(m.given(m.data([m.pick(1, 1, 2), c, *inner], x_steps.dtype)), x_steps)
        w, scales = m.dequantized_weights([out, c // group, *attributes["kernel_shape"]], 0)
        b = m.bias(out, scales, x_steps.scale)
        y = m.bounded(m.node("Conv", x, w, *[b] if b else [], **attributes))
        return y if m.chance(8) else m.quantized(y)

    return make


def conv_of_words(m):
    c, out, group = groups(m)
    inner = image(m)
    attributes = window(m, 2, inner) | {"group": group}
    x, _ = m.input(1, c, *inner, dtype=m.pick(*WORDS))
    w, _ = m.dequantized_weights([out, c // group, *attributes["kernel_shape"]], 0)
    # Steps of 16 bits are as fine as f32 adds up.
    m.steps = 4
    return m.quantized(m.node("Conv", x, w, **attributes), m.pick(*WORDS, np.uint8))


def conv_transposed(m):
    rank = m.pick(1, 2, 2, 2)
    group = m.pick(1, 1, 1, 2, 4)
    c, out = group * m.extent(20), m.extent(12)
    inner = image(m, rank)
    kernel = [int(m.pick(1, 2, 3, 4)) for _ in range(rank)]
    strides = [int(m.pick(1, 2, 2, 3)) for _ in range(rank)]
    pads = [min(int(m.random.integers(0, k)), (n - 1) * s // 2) for k, n, s in zip(kernel * 2, inner * 2, strides * 2)]
    x_steps = m.steps_of(m.pick(*BYTES))
    x = m.dequantize(m.given(m.data([1, c, *inner], x_steps.dtype)), x_steps)
    w, scales = m.dequantized_weights([c, out, *kernel], 1 if group == 1 else 0)
    b = m.bias(out * group, scales, x_steps.scale) if scales.ndim == 0 or group == 1 else None
    y = m.node("ConvTranspose", x, w, *[b] if b else [], kernel_shape=kernel, strides=strides, pads=pads, group=group)
    return m.quantized(m.bounded(y))


# Products


def gemm(m):
    rows, k, n = m.extent(40), m.extent(150), m.extent(90)
    a_t, b_t = (int(m.chance(2)) for _ in range(2))
    a_t = a_t if m.chance(3) else 0
    x_steps = m.steps_of(m.pick(*BYTES))
    x = m.dequantize(m.given(m.data([k, rows] if a_t else [rows, k], x_steps.dtype)), x_steps)
    w, scales = m.dequantized_weights([n, k] if b_t else [k, n], 0 if b_t else 1)
    b = m.bias(n, scales, x_steps.scale)
    attributes = {"alpha": 0.5, "beta": 2.0} if m.chance(4) else {}
    y = m.node("Gemm", x, w, *[b] if b else [], transA=a_t, transB=b_t, **attributes)
    return m.quantized(m.bounded(y))


def mat_mul(m):
    rows, k, n = m.extent(40), m.extent(150), m.extent(70)
    batch = [m.extent(4) for _ in range(m.pick(0, 1, 1, 2))]
    x, _ = m.input(*batch, rows, k)
    w, _ = m.dequantized_weights([k, n], 1)
    y = m.node("MatMul", x, w)
    if m.chance(2):
        y = m.node("Add", y, m.constant(m.random.normal(0, 0.5, n).astype(np.float32)))
    return m.quantized(y)


def mat_mul_of_two(m):
    rows, k, n = m.extent(40), m.extent(70), m.extent(40)
    batch = [m.extent(4) for _ in range(m.pick(0, 1, 2))]
    a, _ = m.input(*batch, rows, k)
    b, _ = m.input(*m.pick(batch, []), k, n)
    return m.quantized(m.node("MatMul", a, b))


def mat_mul_of_blocks(m):
    """Weights of 4 or 8 bits with a scale for each block of a column."""
    rows, n, block = m.extent(20), m.extent(40), m.pick(16, 32)
    k = block * m.extent(6)
    kind = m.pick(TensorProto.INT4, TensorProto.UINT4, TensorProto.INT8, TensorProto.UINT8)
    low, high = {
        TensorProto.INT4: (-8, 8),
        TensorProto.UINT4: (0, 16),
        TensorProto.INT8: (-128, 128),
        TensorProto.UINT8: (0, 256),
    }[kind]
    def integers(shape):
        name = m.new("c")
        values = m.random.integers(low, high, shape)
        m.constants.append(helper.make_tensor(name, kind, shape, values.ravel().tolist()))
        return name

    w = integers([k, n])
    scales = np.float32(m.random.uniform(0.5, 1.5, [k // block, n]) / (high - low) / k**0.5)
    zero = [integers([k // block, n])] if m.chance(2) or low == 0 else []
    w = m.node("DequantizeLinear", w, m.constant(scales), *zero, axis=0, block_size=block)
    x = m.input(rows, k)[0] if m.chance(2) else m.given(m.random.normal(0, 1, [rows, k]).astype(np.float32))
    y = m.node("MatMul", x, w)
    return m.quantized(y) if m.chance(2) else y


# Functions of elements


def binary(op):
    def make(m):
        a_shape = [m.extent(3), m.extent(20), m.extent(9), m.extent(9)][m.pick(0, 0, 1, 2) :]
        b_shape = list(a_shape)
        for axis in range(len(b_shape)):
            if m.chance(4):
                b_shape[axis] = 1
        b_shape = b_shape[m.pick(0, 0, 0, 1) :]
        types = WORDS if m.chance(8) else BYTES
        a, b = m.input(*a_shape, dtype=m.pick(*types))[0], m.input(*b_shape, dtype=m.pick(*types))[0]
        if op == "Div":
            b = m.node("Clip", b, m.f32(0.1))
        if m.chance(2):
            a, b = b, a
        y = m.node(op, a, b)
        if m.chance(4):
            y = m.node("Relu", y)
        return m.quantized(y, m.pick(*types))

    return make


FUNCTIONS = {
    "Sigmoid": {},
    "Tanh": {},
    "Relu": {},
    "LeakyRelu": {"alpha": 0.1},
    "HardSwish": {},
    "HardSigmoid": {},
    "Elu": {},
    "Selu": {},
    "Softplus": {},
    "Exp": {},
    "Abs": {},
    "Neg": {},
    "Erf": {},
    "Mish": {},
    "Gelu": {},
    "Softsign": {},
}


def function(m):
    op = m.pick(*FUNCTIONS)
    x, _ = m.input(m.extent(3), m.extent(20), m.extent(12), m.extent(12), dtype=m.pick(*BYTES, *WORDS))
    if m.chance(2):
        x = m.node("Mul", x, m.f32(4.0))
    return m.quantized(m.node(op, x, **FUNCTIONS[op]), m.pick(*BYTES, *WORDS))


def gated(m):
    """x · sigmoid(x), as exporters write it, quantised in between or not."""
    x, _ = m.input(1, m.extent(20), m.extent(12), m.extent(12))
    gate = m.node(m.pick("Sigmoid", "HardSigmoid", "Tanh"), x)
    if m.chance(2):
        steps = m.steps_of(np.uint8, 1 / 255)
        gate = m.dequantize(m.node("QuantizeLinear", gate, *m.operands(steps)), steps)
    return m.quantized(m.node("Mul", x, gate))


def slopes(m):
    channels = m.extent(20)
    x, _ = m.input(1, channels, m.extent(9), m.extent(9))
    slope = m.constant(m.random.uniform(0, 0.5, [channels, 1, 1]).astype(np.float32))
    return m.quantized(m.node("PRelu", x, slope))


# Pools and others


def pool(op):
    def make(m):
        rank = m.pick(1, 2, 2, 2, 3)
        inner = image(m, rank)
        attributes = window(m, rank, inner)
        pads, kernel = attributes["pads"], attributes["kernel_shape"]
        # Windows must touch the picture.
        attributes["pads"] = [min(pad, k // 2) for pad, k in zip(pads, kernel * 2)]
        attributes["ceil_mode"] = int(m.chance(3))
        if op == "AveragePool":
            attributes["count_include_pad"] = int(m.chance(2))
        for axis, extent in enumerate(inner):
            reach = (kernel[axis] - 1) * attributes["dilations"][axis] + 1
            if reach > extent:
                kernel[axis] = attributes["dilations"][axis] = 1
                attributes["pads"][axis] = attributes["pads"][axis + rank] = 0
        x, _ = m.input(m.pick(1, 1, 2), m.extent(40), *inner)
        return m.quantized(m.node(op, x, **attributes))

    return make


def global_pool(m):
    x, _ = m.input(m.pick(1, 1, 2), m.extent(60), *image(m, m.pick(1, 2, 2, 3)))
    return m.quantized(m.node(m.pick("GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool"), x))


def reduction(m):
    shape = [m.extent(3), m.extent(20), m.extent(9), m.extent(9)]
    axes = sorted({int(m.random.integers(4)) for _ in range(m.pick(1, 2))})
    x, _ = m.input(*shape)
    op = m.pick("ReduceMean", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")
    return m.quantized(m.node(op, x, m.constant(axes, np.int64), keepdims=int(m.chance(2))))


def concat(m):
    shape, axis = [m.extent(3), m.extent(20), m.extent(9), m.extent(9)], int(m.random.integers(1, 4))
    parts = []
    for _ in range(m.pick(2, 2, 3, 4)):
        own = list(shape)
        own[axis] = m.extent(20)
        parts.append(m.input(*own)[0])
    return m.quantized(m.node("Concat", *parts, axis=axis))


def resize(m):
    inner = image(m)
    x, _ = m.input(1, m.extent(20), *inner)
    sizes = m.constant([1.0, 1.0, *(m.pick(2.0, 2.0, 1.5, 3.0, 0.5) if n > 1 else 2.0 for n in inner)], np.float32)
    mode = m.pick("nearest", "nearest", "linear", "linear", "cubic")
    coordinates = m.pick("asymmetric", "half_pixel", "align_corners" if mode != "nearest" else "asymmetric")
    return m.quantized(m.node("Resize", x, None, sizes, mode=mode, coordinate_transformation_mode=coordinates))


def softmax(m):
    shape = [m.extent(3), m.extent(12), m.extent(40)]
    x, _ = m.input(*shape)
    if m.chance(2):
        x = m.node("Mul", x, m.f32(5.0))
    return m.quantized(m.node("Softmax", x, axis=m.pick(-1, -1, 1)))


def norm(m):
    rows, columns = m.extent(20), m.extent(90)
    x, _ = m.input(m.extent(3), rows, columns)
    form = m.pick("LayerNormalization", "LayerNormalization", "InstanceNormalization", "BatchNormalization")
    if form == "BatchNormalization":
        return m.quantized(m.batch_norm(x, rows))
    count = columns if form == "LayerNormalization" else rows
    scale, shift = (m.constant(m.random.uniform(0.5, 1.5, count).astype(np.float32)) for _ in range(2))
    return m.quantized(m.node(form, x, scale, shift))


def moved(m):
    """What only moves steps: other scales may follow."""
    shape = [m.extent(3), 2 * m.extent(10), m.extent(9), m.extent(9)]
    steps = m.steps_of(m.pick(*BYTES, *WORDS))
    x = m.dequantize(m.given(m.data(shape, steps.dtype)), steps)
    form = m.pick("Transpose", "Reshape", "Pad", "Slice", "Split", "Gather", "shuffle", "DepthToSpace", "Expand")
    if form == "Transpose":
        y = m.node(form, x, perm=m.random.permutation(4).tolist())
    elif form == "Reshape":
        y = m.node(form, x, m.constant([shape[0], -1], np.int64))
    elif form == "Pad":
        value = m.f32(m.pick(0.0, 0.5)) if m.chance(2) else None
        pads = [0, 0, 1, m.extent(3), 0, m.extent(3), 0, 1]
        mode = "edge" if value is None and m.chance(2) else "constant"
        y = m.node(form, x, m.constant(pads, np.int64), *[value] if value else [], mode=mode)
    elif form == "Slice":
        y = m.node(form, x, *(m.constant([v], np.int64) for v in (1, shape[1], 1, m.pick(1, 2))))
    elif form == "Split":
        y = m.node(form, x, axis=1, num_outputs=2, results=2)[m.pick(0, 1)]
    elif form == "Gather":
        y = m.node(form, x, m.constant(m.random.integers(0, shape[1], m.extent(20))), axis=1)
    elif form == "shuffle":
        n, c, h, w = shape
        y = m.node("Reshape", x, m.constant([n, 2, c // 2, h, w], np.int64))
        y = m.node("Transpose", y, perm=[0, 2, 1, 3, 4])
        y = m.node("Reshape", y, m.constant(shape, np.int64))
    elif form == "DepthToSpace":
        n, c, h, w = shape
        y = m.node("Reshape", x, m.constant([n, -1, 1, w], np.int64))
        y = m.node("SpaceToDepth", y, blocksize=1)
    else:
        y = m.node(form, x, m.constant([2, *shape], np.int64))
    if m.chance(2):
        return m.node("QuantizeLinear", y, *m.operands(steps), domain=m.domain())
    return m.quantized(y)


def chosen(m):
    shape = [m.extent(20), m.extent(9), m.extent(9)]
    condition = m.constant(m.random.integers(0, 2, shape).astype(bool))
    return m.quantized(m.node("Where", condition, m.input(*shape)[0], m.input(*shape)[0]))


def chain(m):
    """Layers behind one another, with bytes in between, and a residual."""
    c = m.extent(40)
    inner = image(m)
    x, _ = m.input(1, c, *inner)
    w, _ = m.dequantized_weights([c, c, 3, 3], 0)
    y = m.node("Relu", m.node("Conv", x, w, pads=[1] * 4))
    steps = m.steps_of(np.uint8, max(m.largest(y), 1e-6) / 255)
    y = m.dequantize(m.node("QuantizeLinear", y, *m.operands(steps)), steps)
    out = m.pick(c, 2 * c)
    w, _ = m.dequantized_weights([out, c, 1, 1], 0)
    z = m.node("Conv", y, w)
    steps = m.steps_of(m.pick(*BYTES), 2 * max(m.largest(z), 1e-6) / 255)
    z = m.dequantize(m.node("QuantizeLinear", z, *m.operands(steps)), steps)
    form = m.pick("add", "pool", "upsample", "gate")
    # One step of the first layer may be some of what follows.
    m.steps = 6
    if form == "add" and out == c:
        z = m.node("Add", z, m.pick(x, y))
    elif form == "gate":
        z = m.node("Mul", z, m.node("Sigmoid", z))
    elif form == "upsample":
        z = m.node("Resize", z, None, m.constant([1, 1, 2, 2], np.float32), mode="nearest")
    else:
        z = m.node("GlobalAveragePool", z)
    return m.quantized(z)


def picture(m):
    """A picture of bytes, prepared in the model, and the first layer."""
    c, inner, last = m.pick(1, 3, 3, 4), image(m), m.chance(2)
    x = m.given(m.data([1, *inner, c] if last else [1, c, *inner], np.uint8))
    y = m.node("Cast", x, to=TensorProto.FLOAT)
    turned_first = m.chance(2)
    if last and turned_first:
        y = m.node("Transpose", y, perm=[0, 3, 1, 2])
    each = [c] if last and not turned_first else [c, 1, 1]
    if m.chance(3):
        mean, scale = m.random.uniform(90, 140, each), m.random.uniform(0.01, 0.02, each)
    else:
        mean, scale = m.pick((0, 1 / 255), (127.5, 1 / 127.5), (128, 1 / 128), (127.5, 127.5), (0, 255), (100, 1), (0, 1))
    if np.any(mean):
        y = m.node("Sub", y, m.f32(mean))
    if np.any(np.asarray(scale) != 1):
        y = m.node("Div" if np.max(scale) > 1 else "Mul", y, m.f32(scale))
    if last and not turned_first:
        y = m.node("Transpose", y, perm=[0, 3, 1, 2])
    if not m.chance(3):
        low, high = float(m.values(y).min()), float(m.values(y).max())
        most = max(high - low, 1e-3) / 255
        usual = [(scale, zero) for scale, zero in [(1 / 255, 0), (2 / 255, 128), (1 / 128, 128)] if 0.5 < scale / most < 2]
        steps = Steps(*m.pick(*usual, (most, 100)), np.uint8)
        y = m.dequantize(m.node("QuantizeLinear", y, *m.operands(steps)), steps)
    attributes = window(m, 2, inner)
    w, _ = m.dequantized_weights([m.extent(40), c, *attributes["kernel_shape"]], 0)
    return m.quantized(m.bounded(m.node("Conv", y, w, **attributes)))


# QOperator forms


def steps_and_input(m, *shape):
    steps = m.steps_of(m.pick(np.uint8, np.int8))
    return m.given(m.data(shape, steps.dtype)), steps


def range_of(m, y, dtype):
    """Steps for a value of floats."""
    return m.steps_of(dtype, 2 * max(m.largest(y), 1e-6) / 255)


def q_linear_conv(m):
    c, out, group = groups(m)
    inner = image(m, m.pick(1, 2, 2, 2))
    attributes = window(m, len(inner), inner) | {"group": group}
    x, steps = steps_and_input(m, m.pick(1, 2), c, *inner)
    values, scales, zeros = m.weights([out, c // group, *attributes["kernel_shape"]], 0)
    if steps.dtype == np.int8:  # onnxruntime multiplies signed bytes by signed ones
        values, zeros = values.astype(np.int8), np.zeros_like(zeros, np.int8)
    bias = [m.constant(m.random.integers(-2000, 2000, out).astype(np.int32))] if m.chance(2) else []
    most = steps.scale * float(np.max(scales)) * 60 * 60 * np.prod(values.shape[1:]) ** 0.5
    to = m.steps_of(steps.dtype, most / 255)
    if zeros.ndim and not (zeros == zeros[0]).all():
        zeros = np.full_like(zeros, zeros[0])
    operands = [x, *m.operands(steps), m.constant(values), m.constant(scales), m.constant(zeros), *m.operands(to), *bias]
    return m.node("QLinearConv", *operands, **attributes)


def q_linear_mat_mul(m):
    batch = [m.extent(3) for _ in range(m.pick(0, 1))]
    rows, k, n = m.extent(30), m.extent(90), m.extent(50)
    a, a_steps = steps_and_input(m, *batch, rows, k)
    values, scales, zeros = m.weights([k, n], 1)
    if a_steps.dtype == np.int8:
        values, zeros = values.astype(np.int8), np.zeros_like(zeros, np.int8)
    to = m.steps_of(a_steps.dtype, a_steps.scale * float(np.max(scales)) * 60 * 60 * k**0.5 / 100)
    operands = [a, *m.operands(a_steps), m.constant(values), m.constant(scales), m.constant(zeros), *m.operands(to)]
    return m.node("QLinearMatMul", *operands)


def q_gemm(m):
    rows, k, n = m.extent(30), m.extent(90), m.extent(50)
    a, a_steps = steps_and_input(m, rows, k)
    turned = int(m.chance(2))
    values, scales, zeros = m.weights([n, k] if turned else [k, n], 0 if turned else 1)
    values, zeros = values.astype(np.int8), np.zeros_like(zeros, np.int8)
    c = m.constant(m.random.integers(-2000, 2000, n).astype(np.int32)) if m.chance(2) else None
    to = m.steps_of(a_steps.dtype, a_steps.scale * float(np.max(scales)) * 60 * 60 * k**0.5 / 100)
    tail = m.operands(to) if not m.chance(4) else []
    operands = [a, *m.operands(a_steps), m.constant(values), m.constant(scales), m.constant(zeros), c, *tail]
    return m.node("QGemm", *operands, domain=MICROSOFT, transB=turned, alpha=m.pick(1.0, 1.0, 0.5))


def q_linear_binary(op):
    def make(m):
        shape = [m.extent(20), m.extent(9), m.extent(9)]
        other = [n if m.chance(2) else 1 for n in shape] if m.chance(3) else shape
        dtype = m.pick(np.uint8, np.int8)
        a_steps, b_steps = m.steps_of(dtype), m.steps_of(dtype)
        a, b = (m.given(m.data(s, dtype)) for s in (shape, other))
        to = m.steps_of(dtype, (a_steps.scale + b_steps.scale) if op == "Add" else a_steps.scale * b_steps.scale * 100)
        operands = [a, *m.operands(a_steps), b, *m.operands(b_steps), *m.operands(to)]
        return m.node(f"QLinear{op}", *operands, domain=MICROSOFT)

    return make


def q_linear_other(m):
    dtype = m.pick(np.uint8, np.int8)
    steps = m.steps_of(dtype)
    shape = [m.pick(1, 2), m.extent(30), *image(m)]
    x = m.given(m.data(shape, dtype))
    form = m.pick("Sigmoid", "LeakyRelu", "GlobalAveragePool", "AveragePool", "ReduceMean", "Softmax", "Concat", "Where")
    options = {"domain": MICROSOFT}
    if form == "Concat":
        other = m.steps_of(dtype)
        y = m.given(m.data([shape[0], m.extent(9), *shape[2:]], dtype))
        to = m.steps_of(dtype)
        operands = [*m.operands(to), x, *m.operands(steps), y, *m.operands(other)]
        return m.node("QLinearConcat", *operands, axis=1, **options)
    if form == "Where":
        other, to = m.steps_of(dtype), m.steps_of(dtype)
        condition = m.given(m.random.integers(0, 2, shape).astype(bool))
        operands = [condition, x, *m.operands(steps), m.given(m.data(shape, dtype)), *m.operands(other), *m.operands(to)]
        return m.node("QLinearWhere", *operands, **options)
    to = m.steps_of(dtype)
    if form == "LeakyRelu":
        options["alpha"] = 0.1
    if form == "AveragePool":
        options |= {"kernel_shape": [min(2, shape[2]), min(3, shape[3])], "strides": [2, 2]}
    if form == "ReduceMean":
        options |= {"axes": [2, 3], "keepdims": 1}
    if form == "Softmax":
        options |= {"axis": -1, "opset": 13}
        # As onnxruntime's quantiser has it.
        to = Steps(1 / 256, int(np.iinfo(dtype).min), dtype)
    return m.node(f"QLinear{form}", x, *m.operands(steps), *m.operands(to), **options)


# Dynamic forms


def dynamic(m):
    """Scales of activations are those of the run."""
    form = m.pick("MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
    if form == "ConvInteger":
        c, out, group = groups(m)
        inner = image(m)
        shape = [1, c, *inner]
    else:
        k, n = m.extent(90), m.extent(50)
        shape = [*[m.extent(3)][: m.pick(0, 1)], m.extent(30), k]
    x = m.given(m.random.normal(m.pick(0, 0.5), 1, shape).astype(np.float32))
    values, scales, zeros = m.weights([k, n] if form != "ConvInteger" else [out, c // group, 3, 3], 1 if form != "ConvInteger" else 0)
    if zeros.ndim and form == "ConvInteger":
        zeros = zeros[0]
        scales = scales[0]
    if form == "DynamicQuantizeMatMul":
        bias = [m.constant(m.random.normal(0, 1, n).astype(np.float32))] if m.chance(2) else []
        operands = [x, m.constant(values), m.constant(scales), m.constant(zeros), *bias]
        return m.node(form, *operands, domain=MICROSOFT)
    q, scale, zero = m.node("DynamicQuantizeLinear", x, results=3)
    if form == "MatMulIntegerToFloat":
        operands = [q, m.constant(values), scale, m.constant(scales), zero, m.constant(zeros)]
        return m.node(form, *operands, domain=MICROSOFT)
    operands = [q, m.constant(values), zero, m.constant(zeros)]
    if form == "ConvInteger":
        y = m.node(form, *operands, group=group, pads=[1] * 4, kernel_shape=[3, 3])
    else:
        y = m.node(form, *operands)
    y = m.node("Cast", y, to=TensorProto.FLOAT)
    factor = m.node("Mul", scale, m.constant(scales))
    y = m.node("Mul", y, factor)
    if m.chance(2) and form != "ConvInteger":
        y = m.node("Add", y, m.constant(m.random.normal(0, 1, n).astype(np.float32)))
    return m.node("Relu", y) if m.chance(2) else y


KINDS = {
    "Conv 1-D": conv(1),
    "Conv": conv(2),
    "Conv again": conv(2),
    "Conv 3-D": conv(3),
    "Conv of 16 bits": conv_of_words,
    "ConvTranspose": conv_transposed,
    "Gemm": gemm,
    "MatMul": mat_mul,
    "MatMul of two": mat_mul_of_two,
    "MatMul by blocks": mat_mul_of_blocks,
    "Add": binary("Add"),
    "Mul": binary("Mul"),
    "Sub": binary("Sub"),
    "Div": binary("Div"),
    "function": function,
    "gate": gated,
    "PRelu": slopes,
    "MaxPool": pool("MaxPool"),
    "AveragePool": pool("AveragePool"),
    "global pool": global_pool,
    "reduction": reduction,
    "Concat": concat,
    "Resize": resize,
    "Softmax": softmax,
    "normalisation": norm,
    "moves": moved,
    "Where": chosen,
    "chain": chain,
    "picture": picture,
    "QLinearConv": q_linear_conv,
    "QLinearMatMul": q_linear_mat_mul,
    "QGemm": q_gemm,
    "QLinearAdd": q_linear_binary("Add"),
    "QLinearMul": q_linear_binary("Mul"),
    "QLinear others": q_linear_other,
    "dynamic": dynamic,
}
