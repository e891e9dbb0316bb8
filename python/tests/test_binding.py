"""Tensors of other libraries, and what is bound once and run often."""

import numpy as np
import pytest

import nnc


class Exported:
    """What another library's tensor looks like: it exports its memory, and is no array."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_tensors_that_export_their_memory_are_taken(fixed, picture):
    session, x = nnc.InferenceSession(fixed), picture()
    np.testing.assert_array_equal(session.run(["y"], {"x": Exported(x)})[0], session.run(["y"], {"x": x})[0])
    value = nnc.OrtValue.from_dlpack(Exported(x))
    assert value.data_ptr() == x.ctypes.data
    assert np.from_dlpack(value).ctypes.data == x.ctypes.data
    assert nnc.OrtValue.from_dlpack(np.array([0, 1], "u1"), is_bool_tensor=True).data_type() == "tensor(bool)"


def test_outputs_export_their_memory(fixed, picture):
    (y,) = nnc.InferenceSession(fixed).run(["y"], {"x": picture()})
    assert np.from_dlpack(y).ctypes.data == y.ctypes.data


def test_values_are_arrays_by_another_name(fixed, picture):
    x = picture()
    value = nnc.OrtValue.ortvalue_from_numpy(x)
    assert value.numpy() is x and value.is_tensor() and value.has_value()
    assert (value.shape(), value.data_type(), value.device_name()) == ([1, 3, 16, 16], "tensor(float)", "cpu")
    session = nnc.InferenceSession(fixed)
    (y,) = session.run_with_ort_values(["y"], {"x": value})
    np.testing.assert_array_equal(np.asarray(y), session.run(["y"], {"x": value})[0])
    empty = nnc.OrtValue.ortvalue_from_shape_and_type([2, 3], np.int64)
    empty.update_inplace(np.arange(6).reshape(2, 3))
    assert empty.numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(nnc.InputError, match=r"cannot take int64\[3, 2\]"):
        empty.update_inplace(np.arange(6).reshape(3, 2))
    with pytest.raises(nnc.InputError, match="there is no device 'cuda'"):
        nnc.OrtValue.ortvalue_from_numpy(x, "cuda", 0)


def test_what_is_bound_runs_without_new_arrays(fixed, picture):
    session, x = nnc.InferenceSession(fixed), picture()
    y, r = np.empty((1, 8, 1, 1), "f4"), nnc.OrtValue.ortvalue_from_shape_and_type([1, 8, 16, 16], np.float32)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    binding.bind_ortvalue_output("r", r)
    for _ in range(2):
        x += 1
        y[:] = 0
        session.run_with_iobinding(binding)
        wanted = session.run(["y", "r"], {"x": x})
        for found, other in zip((y, r.numpy()), wanted, strict=True):
            np.testing.assert_array_equal(found, other)
    assert [value.shape() for value in binding.get_outputs()] == [[1, 8, 1, 1], [1, 8, 16, 16]]


def test_outputs_that_are_bound_without_memory_get_some(fixed, picture):
    session, x = nnc.InferenceSession(fixed), picture()
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], session.run(["y"], {"x": x})[0])
    binding.clear_binding_outputs()
    binding.clear_binding_inputs()
    assert binding.get_outputs() == []
    binding.bind_ortvalue_input("x", nnc.OrtValue(x))
    session.run_with_iobinding(binding)
    assert len(binding.get_outputs()) == 2
    with pytest.raises(nnc.InputError, match="there is no device 'cuda'"):
        binding.bind_output("y", "cuda")
