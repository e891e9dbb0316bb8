"""Sessions compute what onnxruntime computes, whatever the arrays, shapes and threads."""

import threading

import numpy as np
import onnxruntime
import pytest
from conftest import FLOAT, INT64, encode
from onnx import TensorProto, helper

import nnc


def expected(model, feed):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feed)


def agree(model, feed, **keywords):
    found = nnc.InferenceSession(model, **keywords).run(None, feed)
    for one, other in zip(found, expected(model, feed), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    return found


def test_it_computes_what_onnxruntime_computes(fixed, picture):
    agree(fixed, {"x": picture()})


def test_a_model_is_read_from_a_file(fixed, picture, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(fixed)
    x = picture()
    for name in (path, str(path)):
        np.testing.assert_array_equal(nnc.InferenceSession(name).run(["y"], {"x": x})[0], agree(fixed, {"x": x})[0])


def test_every_shape_is_compiled_once_and_weights_are_there_once(opened, picture):
    session = nnc.InferenceSession(opened)
    assert session.usage == {"programs": 0, "constant_bytes": 0, "compiled": 0, "evicted": 0}
    for size in (16, 24, 16, 24):
        x = picture(2, 3, size, size)
        found = session.run(None, {"x": x})
        np.testing.assert_allclose(found[0], expected(opened, {"x": x})[0], rtol=1e-4, atol=1e-5)
    assert session.usage["compiled"] == session.usage["programs"] == 2


def test_a_model_of_known_shapes_is_compiled_when_the_session_is_made(fixed, opened):
    assert nnc.InferenceSession(fixed).usage["compiled"] == 1
    session = nnc.InferenceSession(opened, shapes={"x": (1, 3, 16, 16)})
    assert session.usage["compiled"] == 1 and session.get_inputs()[0].shape == [1, 3, 16, 16]
    options = nnc.SessionOptions()
    for name, extent in {"batch": 1, "height": 16, "width": 16}.items():
        options.add_free_dimension_override_by_name(name, extent)
    assert nnc.InferenceSession(opened, options).usage["compiled"] == 1
    assert nnc.InferenceSession(opened, dims={"batch": 1, "height": 8, "width": 8}).usage["compiled"] == 1


@pytest.mark.parametrize("how", ["fortran", "strided", "reversed", "swapped", "shifted"])
def test_arrays_in_any_layout_are_taken(fixed, picture, how):
    dense = picture()
    shifted = np.frombuffer(b"\0" + dense.tobytes(), np.uint8)[1:].view("f4").reshape(dense.shape)
    layouts = {
        "fortran": np.asfortranarray(dense),
        "strided": np.repeat(dense, 2, axis=3)[:, :, :, ::2],
        "reversed": dense[:, :, ::-1].copy()[:, :, ::-1],
        "swapped": dense.astype(">f4"),
        "shifted": shifted,
    }
    session = nnc.InferenceSession(fixed)
    np.testing.assert_array_equal(session.run(["y"], {"x": layouts[how]})[0], session.run(["y"], {"x": dense})[0])


TYPES = ["float32", "float64", "float16", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "bool", "bfloat16"]


@pytest.mark.parametrize("kind", TYPES)
def test_every_element_type_goes_in_and_comes_out(kind):
    import ml_dtypes

    dtype = np.dtype(ml_dtypes.bfloat16) if kind == "bfloat16" else np.dtype(kind)
    element = helper.np_dtype_to_tensor_dtype(dtype)
    nodes = [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])]
    session = nnc.InferenceSession(encode(nodes, [("x", element, [2, 3])], [("y", element, [3, 2])]))
    assert session.get_inputs()[0].type == {"float32": "tensor(float)", "float64": "tensor(double)"}.get(kind, f"tensor({kind})")
    x = np.arange(6).reshape(2, 3).astype(dtype)
    (y,) = session.run(None, {"x": x})
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.astype("f8"), x.T.astype("f8"))


def test_lists_and_scalars_become_arrays_of_the_type_that_the_input_takes():
    nodes = [helper.make_node("Add", ["x", "n"], ["y"])]
    model = encode(nodes, [("x", TensorProto.INT32, [2, 2]), ("n", TensorProto.INT32, [])], [("y", TensorProto.INT32, [2, 2])])
    session = nnc.InferenceSession(model)
    for n in (5, np.int32(5), np.array(5, "i4")):
        np.testing.assert_array_equal(session.run(None, {"x": [[1, 2], [3, 4]], "n": n})[0], [[6, 7], [8, 9]])
    with pytest.raises(nnc.InputError, match="a list cannot be taken as an array of int32: Cannot cast"):
        session.run(None, {"x": [[0.5, 1], [2, 3]], "n": 5})


def test_outputs_are_asked_for_by_name_in_any_order(fixed, picture):
    session = nnc.InferenceSession(fixed)
    assert [array.shape for array in session.run(["r", "y"], {"x": picture()})] == [(1, 8, 16, 16), (1, 8, 1, 1)]
    assert len(session.run([], {"x": picture()})) == 2


def test_outputs_are_written_into_arrays_that_are_given(fixed, picture):
    session, x, room = nnc.InferenceSession(fixed), picture(), np.empty((1, 8, 16, 16), "f4")
    r, y = session.run(["r", "y"], {"x": x}, out={"r": room})
    assert r is room
    np.testing.assert_array_equal(room, session.run(["r"], {"x": x})[0])
    assert y.shape == (1, 8, 1, 1)


@pytest.mark.parametrize(
    ("room", "says"),
    [
        (lambda x: {"r": np.empty((1, 8, 16, 15), "f4")}, r'output "r" is f32\[1, 8, 16, 15\]; pass one that is f32\[1, 8, 16, 16\]'),
        (lambda x: {"y": np.empty((1, 8, 1, 1), "f8")}, r'output "y" is f64'),
        (lambda x: {"r": np.empty((1, 8, 16, 32), "f4")[..., ::2]}, "not dense and row-major"),
        (lambda x: {"r": np.broadcast_to(np.float32(0), (1, 8, 16, 16))}, "not dense and row-major"),
        (lambda x: {"y": frozen()}, "is read-only"),
        (lambda x: {"y": [0.0] * 8}, "is no array of NumPy"),
        (lambda x: {"y": x.reshape(-1)[:8].reshape(1, 8, 1, 1)}, "shares memory with another array"),
        (lambda x: {"z": np.empty(1, "f4")}, 'has no output "z"; it has "y", "r"'),
    ],
)
def test_arrays_that_cannot_take_an_output_are_refused(fixed, picture, room, says):
    x = picture()
    with pytest.raises(nnc.InputError, match=says):
        nnc.InferenceSession(fixed).run(None, {"x": x}, out=room(x))


def frozen():
    array = np.empty((1, 8, 1, 1), "f4")
    array.flags.writeable = False
    return array


def test_data_decide_how_large_an_output_is(nonzero):
    session = nnc.InferenceSession(nonzero)
    assert session.get_outputs()[0].shape == [2, "n"]
    for x in ([[0, 1, 2], [0, 0, 3]], [[0, 0, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]]):
        x = np.array(x, "f4")
        (y,) = session.run(None, {"x": x})
        np.testing.assert_array_equal(y, np.array(np.nonzero(x)))
    with pytest.raises(nnc.InputError, match="only the run tells how large that output is"):
        session.run(None, {"x": x}, out={"y": np.empty((2, 6), "i8")})


def test_an_input_that_decides_a_shape_may_change_from_run_to_run():
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y"])]
    session = nnc.InferenceSession(encode(nodes, [("x", FLOAT, [1]), ("shape", INT64, [2])], [("y", FLOAT, ["a", "b"])]))
    for shape in ([2, 3], [4, 1], [2, 3]):
        (y,) = session.run(None, {"x": np.array([7], "f4"), "shape": np.array(shape)})
        np.testing.assert_array_equal(y, np.full(shape, 7, "f4"))
    assert session.usage["compiled"] == 2


def test_only_the_last_values_that_decide_are_kept():
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y"])]
    session = nnc.InferenceSession(encode(nodes, [("x", FLOAT, [1]), ("shape", INT64, [1])], [("y", FLOAT, ["a"])]))
    for extent in range(1, 31):
        assert session.run(None, {"x": np.array([7], "f4"), "shape": np.array([extent])})[0].shape == (extent,)
    assert session.usage["programs"] == 16


def test_threads_share_a_session(opened, picture):
    session = nnc.InferenceSession(opened)
    xs = [picture(1, 3, size, size) for size in (16, 20, 24, 28)]
    wanted = [session.run(["y"], {"x": x})[0] for x in xs]
    faults = []

    def work(x, y):
        for _ in range(50):
            if not np.array_equal(session.run(["y"], {"x": x})[0], y):
                faults.append(x.shape)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(xs, wanted, strict=True) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert faults == []


def test_the_interpreter_goes_on_while_a_model_runs(picture):
    from conftest import convolution

    session, x = nnc.InferenceSession(convolution([1, 3, 1024, 1024])), picture(1, 3, 1024, 1024)
    ended, counted = threading.Event(), [0]

    def work():
        for _ in range(5):
            session.run(None, {"x": x})
        ended.set()

    threading.Thread(target=work).start()
    # A thread that held the lock for all of its runs would let this one do a handful of rounds.
    while not ended.is_set():
        counted[0] += 1
    assert counted[0] > 1000


def test_the_number_of_threads_changes_no_bit(fixed, picture):
    options, x = nnc.SessionOptions(), picture()
    results = []
    for threads in (0, 1, 2, 3):
        options.intra_op_num_threads = threads
        session = nnc.InferenceSession(fixed, options)
        assert threads == 0 or f"{threads} threads" in repr(session)
        results.append(session.run(None, {"x": x})[1])
    assert all(np.array_equal(result, results[0]) for result in results)


def test_a_session_runs_on_a_thread_of_its_own(fixed, picture):
    session, x, told = nnc.InferenceSession(fixed), picture(), {}
    for feed in ({"x": x}, {}):
        done = threading.Event()
        session.run_async(["y"], feed, lambda *result: (told.update({len(feed): result}), done.set()), "mine")
        assert done.wait(60)
    np.testing.assert_array_equal(told[1][0][0], session.run(["y"], {"x": x})[0])
    assert told[1][1:] == ("mine", "")
    assert told[0] == ([], "mine", "the model has 1 inputs but got 0; pass each once")


def test_a_model_says_what_goes_in_and_what_comes_out(opened):
    session = nnc.InferenceSession(opened)
    assert session.get_inputs() == [nnc.NodeArg("x", "tensor(float)", ["batch", 3, "height", "width"])]
    assert [port.name for port in session.get_outputs()] == ["y", "r"]
    assert session.get_overridable_initializers() == []


def test_a_model_says_what_it_is():
    nodes = [helper.make_node("Neg", ["x"], ["y"])]
    model = encode(nodes, [("x", FLOAT, [1])], [("y", FLOAT, [1])], doc_string="turns signs", producer_version="7", domain="org.test", model_version=3)
    found, other = nnc.InferenceSession(model).get_modelmeta(), onnxruntime.InferenceSession(model).get_modelmeta()
    for name in ("producer_name", "domain", "description", "graph_name", "graph_description", "version", "custom_metadata_map"):
        assert getattr(found, name) == getattr(other, name), name
    assert found.producer_version == "7"


def test_a_cache_keeps_what_was_compiled(fixed, picture, tmp_path):
    x = picture()
    first = nnc.InferenceSession(fixed, cache=tmp_path).run(["y"], {"x": x})[0]
    (entry,) = tmp_path.iterdir()
    written = entry.stat().st_mtime_ns
    np.testing.assert_array_equal(nnc.InferenceSession(fixed, cache=tmp_path).run(["y"], {"x": x})[0], first)
    assert entry.stat().st_mtime_ns == written
