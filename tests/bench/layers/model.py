"""Writing small models: values are names, and each call adds what it names.

    def make(m):                                        x ─┐
        x = m.input(1, 64, 56, 56)                         ├─ Conv ─ Relu ─▶
        y = m.node("Conv", x, m.weights(64, 64, 3, 3))  w ─┘
        return m.node("Relu", y)

All numbers come from one seed, so the same calls make the same model and the same inputs.
"""

import dataclasses
import typing

import numpy as np
from onnx import helper, numpy_helper

OPSET = 20


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table, whose model is made when it is measured."""

    kind: str
    name: str
    make: typing.Callable
    """Adds the nodes to a `Model`; returns the name of its output, or names of several."""
    opset: int = OPSET
    tolerance: float = 1e-3
    """The largest difference between engines, of the largest value of an output."""
    steps: int = 0
    """The largest difference between engines where outputs are integers."""


class Model:
    def __init__(self):
        self.arrays = {}
        """The inputs' values, by name."""
        self._random = np.random.default_rng(1)
        self._inputs, self._constants, self._nodes = [], [], []
        self._names = 0

    def input(self, *shape, low=-2.0, high=2.0, dtype=np.float32):
        """An input of evenly distributed numbers; of integers, `high` is not one of them."""
        dtype = np.dtype(dtype)
        if dtype.kind in "iu":
            return self.given(self._random.integers(int(low), int(high), shape, dtype))
        if dtype.kind == "b":
            return self.given(self._random.integers(0, 2, shape).astype(bool))
        return self.given(self._random.uniform(low, high, shape).astype(dtype))

    def given(self, values):
        """An input with these values."""
        values = np.ascontiguousarray(values)
        name = self._new("in")
        element = helper.np_dtype_to_tensor_dtype(values.dtype)
        self._inputs.append(helper.make_tensor_value_info(name, element, values.shape))
        self.arrays[name] = values
        return name

    def weights(self, *shape, sums=None, dtype=np.float32):
        """Constants of a size that keeps sums over them near to 1; over how many, if not over all axes but the first."""
        count = sums or int(np.prod(shape[1:])) or 1
        return self.constant(self._random.normal(0, count**-0.5, shape).astype(dtype))

    def constant(self, values, dtype=None):
        name = self._new("const")
        self._constants.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def ints(self, *values):
        """A constant shape, list of axes or of bounds."""
        return self.constant(values, np.int64)

    def f32(self, value):
        """A constant number."""
        return self.constant(value, np.float32)

    def node(self, op, *operands, results=1, **attributes):
        """The name of the node's result, or a list of names. An operand that is None is left out."""
        names = [self._new(op.lower()) for _ in range(results)]
        self._nodes.append(helper.make_node(op, [name or "" for name in operands], names, **attributes))
        return names[0] if results == 1 else names

    def proto(self, outputs, opset):
        """The model. Its outputs' types are inferred."""
        from onnx import shape_inference

        outputs = [outputs] if isinstance(outputs, str) else outputs
        graph = helper.make_graph(self._nodes, "row", self._inputs, [], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        inferred = shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
        known = {value.name: value.type for value in [*self._inputs, *inferred]}
        for node in self._nodes:
            if node.op_type == "GroupNormalization":  # ONNX does not infer it
                known[node.output[0]] = known[node.input[0]]
        model.graph.output.extend(helper.make_value_info(name, known[name]) for name in outputs)
        return model

    def _new(self, stem):
        self._names += 1
        return f"{stem}{self._names}"


def build(row):
    """The model of a row, and its inputs."""
    model = Model()
    return model.proto(row.make(model), row.opset), model.arrays


def size_of(proto, arrays):
    """Bytes that a run has to move at least: the inputs, what it needs of the constants, the outputs."""
    outputs = 0
    for value in proto.graph.output:
        kind = value.type.tensor_type
        extents = [dim.dim_value for dim in kind.shape.dim]
        outputs += int(np.prod(extents, dtype=np.int64)) * helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
    # Of a table that is gathered from, only some rows are read, as many as are written.
    table = {node.input[0] for node in proto.graph.node if node.op_type.startswith("Gather")}
    constants = sum(len(tensor.raw_data) for tensor in proto.graph.initializer if tensor.name not in table)
    return sum(array.nbytes for array in arrays.values()) + outputs + constants
