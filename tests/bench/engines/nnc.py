"""nnc: an artefact, loaded and run through the C functions of the runtime library (`capi/include/nnc.h`)."""

import ctypes
import math
import os
import subprocess

from engines.base import Engine


class Nnc(Engine):
    def prepare(self, case, tools):
        artefact = case.onnx.with_suffix(".nnc.so")
        done = subprocess.run([tools.nnc, "compile", case.onnx, "-o", artefact, *case.binding], capture_output=True, text=True)
        if "unexpected argument '--precision'" in done.stderr:
            raise RuntimeError(f"not there: this nnc has no --precision {case.precision}")
        if done.returncode:
            raise RuntimeError(" ".join(done.stderr.split()))
        return [artefact]

    def environment(self, tools):
        return {"NNC_RUNTIME": str(tools.runtime)}

    def version(self, tools):
        return subprocess.run([tools.nnc, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]

    def library_bytes(self, tools):
        return tools.runtime.stat().st_size


ENGINE = Nnc("nnc")

TYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
         11: "float64", 12: "uint32", 13: "uint64"}
"""NumPy's name of each `nnc_type`."""


class Tensor(ctypes.Structure):
    """`nnc_tensor`."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_uint32),
        ("rank", ctypes.c_uint32),
        ("shape", ctypes.POINTER(ctypes.c_uint64)),
        ("bytes", ctypes.c_uint64),
    ]


def load(model, inputs, threads, precision):
    import numpy as np

    library = ctypes.CDLL(os.environ["NNC_RUNTIME"])
    library.nnc_model_open.restype = ctypes.c_void_p
    library.nnc_model_inputs.argtypes = [ctypes.c_void_p]
    library.nnc_model_input.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(Tensor)]
    library.nnc_model_outputs.argtypes = [ctypes.c_void_p]
    library.nnc_model_output.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(Tensor)]
    library.nnc_model_run.argtypes = [ctypes.c_void_p] * 3
    library.nnc_model_output_shape.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint64)]
    library.nnc_last_error.restype = ctypes.c_char_p

    def failed():
        return RuntimeError(library.nnc_last_error().decode())

    class Model:
        def __init__(self):
            self._model = ctypes.c_void_p(library.nnc_model_open(str(model).encode(), threads))
            if not self._model:
                raise failed()
            self._inputs = []
            for index in range(library.nnc_model_inputs(self._model)):
                tensor = Tensor()
                if library.nnc_model_input(self._model, index, tensor):
                    raise failed()
                self._inputs.append(inputs[tensor.name.decode()])
            self._outputs = []
            for index in range(library.nnc_model_outputs(self._model)):
                tensor = Tensor()
                if library.nnc_model_output(self._model, index, tensor):
                    raise failed()
                self._outputs.append(np.zeros(tensor.shape[: tensor.rank], TYPES[tensor.type]))
            self._input_pointers = pointers(self._inputs)
            self._output_pointers = pointers(self._outputs)

        def run(self):
            if library.nnc_model_run(self._model, self._input_pointers, self._output_pointers):
                raise failed()

        def outputs(self):
            return [self._there(index, room) for index, room in enumerate(self._outputs)]

        def _there(self, index, room):
            """What the last run wrote: less than there is room for, where data decide how much."""
            shape = (ctypes.c_uint64 * room.ndim)()
            if library.nnc_model_output_shape(self._model, index, shape):
                raise failed()
            return room.ravel()[: math.prod(shape)].reshape(tuple(shape))

    return Model()


def pointers(arrays):
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
