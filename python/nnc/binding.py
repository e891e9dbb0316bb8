"""Tensors and buffers that are bound to a session, as code for onnxruntime writes it. All of them are in memory of the processor."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.arrays import Array, dense, empty
from nnc.errors import InputError

if TYPE_CHECKING:
    from nnc.session import InferenceSession

#: What onnxruntime calls the types of elements.
ONNX_NAMES = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "float16": "tensor(float16)",
    "bfloat16": "tensor(bfloat16)",
    "bool": "tensor(bool)",
    **{f"{sign}int{bits}": f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def _on_cpu(device: str) -> None:
    if device.lower() != "cpu":
        raise InputError(f"there is no device {device!r}; nnc runs on the cpu")


class OrtDevice:
    """Where a tensor is: in memory of the processor."""

    def __init__(self, device_type: str = "cpu", device_id: int = 0) -> None:
        _on_cpu(device_type)
        self._id = device_id

    @staticmethod
    def make(device_type: str, device_id: int) -> OrtDevice:
        """A device by its name."""
        return OrtDevice(device_type, device_id)

    def device_type(self) -> str:
        """Its name."""
        return "cpu"

    def device_id(self) -> int:
        """Its number."""
        return self._id


class OrtValue:
    """A tensor: an array of NumPy by another name."""

    def __init__(self, array: Array) -> None:
        self._array = array

    @classmethod
    def ortvalue_from_numpy(cls, array: Array, device_type: str = "cpu", device_id: int = 0) -> OrtValue:
        """Of an array, whose memory it shares."""
        _on_cpu(device_type)
        return cls(dense(array, None))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls, shape: Sequence[int], element_type: Any, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        """With elements that mean nothing yet."""
        _on_cpu(device_type)
        return cls(empty(shape, np.dtype(element_type).name))

    @classmethod
    def from_dlpack(cls, value: Any, is_bool_tensor: bool = False) -> OrtValue:
        """Of a tensor of another library, whose memory it shares."""
        array = dense(value, None)
        return cls(array.view(np.bool_) if is_bool_tensor and array.dtype == np.uint8 else array)

    def numpy(self) -> Array:
        """The array."""
        return self._array

    def shape(self) -> list[int]:
        """Its extents."""
        return list(self._array.shape)

    def data_type(self) -> str:
        """What onnxruntime calls its type."""
        return ONNX_NAMES[self._array.dtype.name]

    def device_name(self) -> str:
        """Where it is."""
        return "cpu"

    def data_ptr(self) -> int:
        """Where its elements begin in memory."""
        return self._array.ctypes.data

    def is_tensor(self) -> bool:
        """It is one."""
        return True

    def has_value(self) -> bool:
        """It has one."""
        return True

    def update_inplace(self, array: Array) -> None:
        """Takes the elements of another array of its shape and type."""
        if array.shape != self._array.shape or array.dtype != self._array.dtype:
            raise InputError(
                f"the value is {self._array.dtype}{list(self._array.shape)} and cannot take {array.dtype}{list(array.shape)}; "
                "make a new one"
            )
        np.copyto(self._array, array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._array, dtype=dtype, copy=True) if copy else np.asarray(self._array, dtype=dtype)

    def __dlpack__(self, **keywords: Any) -> Any:
        return self._array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, number = self._array.__dlpack_device__()
        return int(kind), int(number)


class IOBinding:
    """Inputs of a session and memory for its outputs, bound once and run often."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array | None] = {}
        self._results: list[OrtValue] = []

    def bind_cpu_input(self, name: str, array: Any) -> None:
        """Binds an array to an input."""
        self._inputs[name] = dense(array, None)

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """Binds memory to an input, by its address: it has to stay there."""
        _on_cpu(device_type)
        self._inputs[name] = _memory(element_type, shape, buffer_ptr)

    def bind_ortvalue_input(self, name: str, value: OrtValue) -> None:
        """Binds a value to an input."""
        self._inputs[name] = value.numpy()

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Asks for an output: in memory at an address, or in an array that each run makes."""
        _on_cpu(device_type)
        self._outputs[name] = None
        if buffer_ptr is not None and shape is not None:
            self._outputs[name] = _memory(element_type, shape, buffer_ptr)

    def bind_ortvalue_output(self, name: str, value: OrtValue) -> None:
        """Asks for an output in the memory of a value."""
        self._outputs[name] = value.numpy()

    def synchronize_inputs(self) -> None:
        """Does nothing: inputs are where they are read."""

    def synchronize_outputs(self) -> None:
        """Does nothing: outputs are where they are written."""

    def get_outputs(self) -> list[OrtValue]:
        """The outputs of the last run, in the order in which they were bound."""
        return self._results

    def copy_outputs_to_cpu(self) -> list[Array]:
        """The same as arrays."""
        return [value.numpy() for value in self._results]

    def clear_binding_inputs(self) -> None:
        """Binds no inputs."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Binds no outputs."""
        self._outputs.clear()
        self._results = []

    def _run(self) -> None:
        room = {name: array for name, array in self._outputs.items() if array is not None}
        results = self._session.run(list(self._outputs), self._inputs, out=room)
        self._results = [OrtValue(result) for result in results]


def _memory(element_type: Any, shape: Sequence[int], address: int) -> Array:
    """Memory that somebody else keeps, as an array."""
    kind = np.dtype(element_type)
    block = (ctypes.c_byte * (math.prod(shape) * kind.itemsize)).from_address(address)
    return np.frombuffer(block, kind).reshape(shape)
