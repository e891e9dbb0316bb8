"""What is wrong is an exception that names what, where, and what to do."""

import numpy as np
import pytest
from conftest import FLOAT, encode
from onnx import helper

import nnc


def test_all_exceptions_are_one_family_and_some_are_pythons_own():
    for error in (nnc.ModelError, nnc.SettingError, nnc.InputError, nnc.ArtefactError, nnc.ResourceError):
        assert issubclass(error, nnc.Error)
    assert issubclass(nnc.InputError, ValueError) and issubclass(nnc.SettingError, ValueError)


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        (lambda x: {}, "the model has 1 inputs but got 0; pass each once"),
        (lambda x: {"z": x}, 'the model has no input "z"; it has "x"'),
        (lambda x: {"x": x[0]}, r'input "x" is f32\[batch, ?3, ?height, ?width\].*it has 3 dims; pass a tensor of 4 dims'),
        (lambda x: {"x": x[:, :2]}, "dim 1 is 2, but the model fixes it at 3; pass 3 there"),
        (lambda x: {"x": x.astype("f8")}, 'input "x" takes f32 but got f64; convert the tensor'),
        (lambda x: {"x": np.array(["a"])}, '"x" is no array of numbers or booleans'),
        (lambda x: {"x": object()}, '"x" is no array of numbers or booleans'),
        (lambda x: {"x": [[1.0], [1.0, 2.0]]}, "a list cannot be taken as an array of float32"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(opened, picture, feed, says):
    session, x = nnc.InferenceSession(opened), picture()
    with pytest.raises(nnc.InputError, match=says):
        session.run(None, feed(x))
    assert session.run(["y"], {"x": x})[0].shape == (1, 8, 1, 1)


def test_outputs_that_are_not_there_are_named(fixed, picture):
    with pytest.raises(nnc.InputError, match='the program has no output "z"; it has "y", "r"'):
        nnc.InferenceSession(fixed).run(["z"], {"x": picture()})


def test_a_program_takes_the_shape_it_was_compiled_for(opened, picture):
    session = nnc.load(nnc.compile(opened, shapes={"x": (1, 3, 8, 8)}))
    with pytest.raises(nnc.InputError, match=r'input "x" is f32\[1, 3, 8, 8\], it cannot be \[1, 3, 9, 8\]'):
        session.run(None, {"x": picture(1, 3, 9, 8)})


def test_models_that_are_none_are_refused(tmp_path, fixed):
    with pytest.raises(nnc.ModelError, match='cannot read ".*absent.onnx": No such file'):
        nnc.InferenceSession(tmp_path / "absent.onnx")
    with pytest.raises(nnc.ModelError, match="model: .*ONNX"):
        nnc.InferenceSession(b"no model at all")
    with pytest.raises(TypeError, match="the path of a file or its bytes, not int"):
        nnc.InferenceSession(7)
    program = tmp_path / "model.nnc.so"
    nnc.compile(fixed, program)
    with pytest.raises(nnc.ModelError, match="is no model but a compiled program; load it with nnc.load"):
        nnc.InferenceSession(program)


def test_operators_that_nobody_knows_are_named():
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="it", domain="org.test")
    graph = helper.make_graph([node], "g", *([helper.make_tensor_value_info(name, FLOAT, [1])] for name in "xy"))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("org.test", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    with pytest.raises(nnc.ModelError, match="Frobnicate"):
        nnc.InferenceSession(model)


def test_errors_name_keywords(opened, fixed):
    with pytest.raises(nnc.SettingError, match=r'give shapes=\{"x": \(\?, 3, \?, \?\)\}'):
        nnc.compile(opened)
    with pytest.raises(nnc.ModelError, match=r'limits=\{"nodes": \?\}'):
        nnc.compile(fixed, limits={"nodes": 1})
    with pytest.raises(nnc.SettingError, match='unknown target "x86-65"'):
        nnc.compile(fixed, target="x86-65")
    with pytest.raises(nnc.SettingError, match="there is no limit node; there are file_bytes"):
        nnc.compile(fixed, limits={"node": 1})
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y"])]
    shaped = encode(nodes, [("x", FLOAT, [1]), ("shape", 7, [2])], [("y", FLOAT, ["a", "b"])])
    with pytest.raises(nnc.Error, match=r'constants=\{"shape": array\}'):
        nnc.compile(shaped)
    assert nnc.load(nnc.compile(shaped, constants={"shape": [2, 3]})).get_outputs()[0].shape == [2, 3]


def test_absurd_numbers_of_threads_are_refused(fixed):
    options = nnc.SessionOptions()
    options.intra_op_num_threads = 100_000
    with pytest.raises(nnc.ResourceError, match="a pool takes 1 to 1024 threads, not 100000"):
        nnc.InferenceSession(fixed, options)


def test_an_index_of_the_data_that_leads_outside_is_an_error_of_the_run():
    model = encode([helper.make_node("Gather", ["x", "i"], ["y"])], [("x", FLOAT, [4]), ("i", 7, [1])], [("y", FLOAT, [1])])
    feed = {"x": np.arange(4, dtype="f4"), "i": np.array([9])}
    with pytest.raises(nnc.InputError, match="index 9 lies outside of axis 0, which has 4 elements"):
        nnc.InferenceSession(model).run(None, feed)
    assert nnc.InferenceSession(model, clamp_indices=True).run(None, feed)[0] == [3]
