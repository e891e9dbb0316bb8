"""Models for the tests, made by the package onnx; what they should compute, onnxruntime says."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def encode(nodes, inputs, outputs, constants=None, **about):
    """The bytes of a model."""
    initializers = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    ports = [[helper.make_tensor_value_info(*port) for port in ports] for ports in (inputs, outputs)]
    graph = helper.make_graph(nodes, "test", *ports, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test", **about)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def convolution(shape):
    """A convolution, its activation and a mean over the picture; `shape` may have names of dims."""
    seeds = np.random.default_rng(1)
    constants = {"w": seeds.normal(size=(8, 3, 3, 3)).astype("f4"), "b": seeds.normal(size=8).astype("f4")}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["y"]),
    ]
    batch, _, height, width = shape
    return encode(nodes, [("x", FLOAT, shape)], [("y", FLOAT, [batch, 8, 1, 1]), ("r", FLOAT, [batch, 8, height, width])], constants)


@pytest.fixture(scope="session")
def fixed():
    """A model whose shapes are all known."""
    return convolution([1, 3, 16, 16])


@pytest.fixture(scope="session")
def opened():
    """The same with open dims."""
    return convolution(["batch", 3, "height", "width"])


@pytest.fixture(scope="session")
def nonzero():
    """A model whose data decide how large its output is."""
    return encode([helper.make_node("NonZero", ["x"], ["y"])], [("x", FLOAT, [2, 3])], [("y", INT64, [2, "n"])])


@pytest.fixture
def picture():
    """Makes pictures."""
    seeds = np.random.default_rng(2)
    return lambda *shape: seeds.normal(size=shape or (1, 3, 16, 16)).astype("f4")
