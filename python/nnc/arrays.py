"""What is done with NumPy and needs no speed: arrays of what is none, and new arrays."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnc.errors import Error, InputError

Array = np.ndarray[Any, np.dtype[Any]]


def dtype(name: str) -> np.dtype[Any]:
    """NumPy's type for the elements that nnc calls so."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise Error("NumPy has no bfloat16 of its own; install the package ml_dtypes, which adds it") from None
    return np.dtype(ml_dtypes.bfloat16)


def dense(value: Any, name: str | None) -> Array:
    """An array in the order and layout in which programs read it: the one that is given if it is so already, else a copy.

    What is no array, nor exports its memory (DLPack), becomes one, of the type that the input takes if its numbers can be that.
    """
    if not isinstance(value, (np.ndarray, np.generic)):
        value = _array(value, name)
    array = np.asanyarray(value)
    native = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
    return np.require(array, native, ["C", "ALIGNED"])


def _array(value: Any, name: str | None) -> Array:
    try:
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
        if name is None or hasattr(value, "__array__") or array.dtype.kind not in "biuf":
            return array
        return array.astype(dtype(name), casting="same_kind", copy=False)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        wanted = f" of {name}" if name else ""
        raise InputError(f"a {type(value).__name__} cannot be taken as an array{wanted}: {error}") from error


def empty(shape: Sequence[int], name: str) -> Array:
    """A new array."""
    return np.empty(shape, dtype(name))


def first(array: Array, shape: Sequence[int]) -> Array:
    """The first elements of an array, as an array of their own."""
    return array.reshape(-1)[: math.prod(shape)].reshape(shape).copy()
