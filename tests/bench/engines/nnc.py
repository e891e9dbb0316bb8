"""nnc: an artefact, loaded and run through the C functions of the runtime library (`runtime/include/nnc.h`)."""

import ctypes
import os
import subprocess

from engines.base import Engine


class Nnc(Engine):
    def prepare(self, case, tools):
        artefact = case.onnx.with_suffix(".nnc.so")
        subprocess.run([tools.nnc, "compile", case.onnx, "-o", artefact], check=True, capture_output=True)
        return [artefact]

    def environment(self, tools):
        return {"NNC_RUNTIME": str(tools.runtime)}

    def version(self, tools):
        return subprocess.run([tools.nnc, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]

    def library_bytes(self, tools):
        return tools.runtime.stat().st_size


ENGINE = Nnc("nnc")


class Tensor(ctypes.Structure):
    """`nnc_tensor`."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_uint32),
        ("rank", ctypes.c_uint32),
        ("shape", ctypes.POINTER(ctypes.c_uint64)),
        ("bytes", ctypes.c_uint64),
    ]


def load(model, value, threads):
    import numpy as np

    library = ctypes.CDLL(os.environ["NNC_RUNTIME"])
    library.nnc_model_open.restype = ctypes.c_void_p
    library.nnc_model_outputs.argtypes = [ctypes.c_void_p]
    library.nnc_model_output.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(Tensor)]
    library.nnc_model_run.argtypes = [ctypes.c_void_p] * 3
    library.nnc_last_error.restype = ctypes.c_char_p

    def failed():
        return RuntimeError(library.nnc_last_error().decode())

    class Model:
        def __init__(self):
            self._model = ctypes.c_void_p(library.nnc_model_open(str(model).encode(), threads))
            if not self._model:
                raise failed()
            self._outputs = []
            for index in range(library.nnc_model_outputs(self._model)):
                tensor = Tensor()
                if library.nnc_model_output(self._model, index, tensor):
                    raise failed()
                self._outputs.append(np.zeros(tensor.shape[: tensor.rank], np.float32))
            self._input_pointers = pointers([value])
            self._output_pointers = pointers(self._outputs)

        def run(self):
            if library.nnc_model_run(self._model, self._input_pointers, self._output_pointers):
                raise failed()

        def output(self):
            return self._outputs[0]

    return Model()


def pointers(arrays):
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
