"""The engines, each with the same two methods: `run()` once on the input it was made for, and `outputs()`.

Both run on the calling thread alone and write to memory that was allocated before, so that a timed run does nothing but
the network.
"""

import ctypes

import numpy as np
import onnxruntime

ALIGN = 64


class Nnc:
    """A compiled artefact through its C functions, which `nnc compile --emit header` declares."""

    def __init__(self, artefact, inputs, output_shapes):
        library = ctypes.CDLL(str(artefact))
        workspace = ctypes.c_uint64.in_dll(library, "nnc_workspace_bytes").value
        self._workspace = np.zeros(workspace + ALIGN, np.uint8)
        self._at = ctypes.c_void_p(-(-self._workspace.ctypes.data // ALIGN) * ALIGN)
        self._inputs = inputs
        self._outputs = [np.full(shape, np.nan, np.float32) for shape in output_shapes]
        self._input_pointers = _pointers(self._inputs)
        self._output_pointers = _pointers(self._outputs)
        self._run = library.nnc_run
        self._run.argtypes = [ctypes.c_void_p] * 3

    def run(self):
        if self._run(self._input_pointers, self._output_pointers, self._at) != 0:
            raise RuntimeError("nnc_run refused its arguments")

    def outputs(self):
        return self._outputs


class Onnxruntime:
    """The CPU provider on one thread, all optimisations on, inputs and outputs bound once."""

    def __init__(self, model, make_input):
        self._session = session(model)
        self.inputs = [make_input(port.shape) for port in self._session.get_inputs()]
        self._binding = self._session.io_binding()
        for port, value in zip(self._session.get_inputs(), self.inputs):
            self._binding.bind_cpu_input(port.name, value)
        for port in self._session.get_outputs():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(port.shape, np.float32))
            self._binding.bind_ortvalue_output(port.name, value)
        self.output_shapes = [port.shape for port in self._session.get_outputs()]

    def run(self):
        self._session.run_with_iobinding(self._binding)

    def outputs(self):
        return self._binding.copy_outputs_to_cpu()


def session(model):
    """A session on one thread; making it is what onnxruntime does to load a model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _pointers(arrays):
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
