"""onnxruntime: the CPU provider, all optimisations, inputs and outputs bound once; where data decide how large an output is,
onnxruntime makes room for it in each run."""

from engines.base import Engine

ENGINE = Engine("onnxruntime", package="onnxruntime", lacks={"bf16": "its CPU provider has no kernels in bf16 for x86-64"})

TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
} | {f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
"""NumPy's name of each type of output."""


def load(model, inputs, threads, precision):
    return Session(model, inputs, threads, "ORT_ENABLE_ALL")


class Session:
    def __init__(self, model, inputs, threads, level):
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        for name, value in inputs.items():
            self._binding.bind_cpu_input(name, value)
        for port in self._session.get_outputs():
            if all(isinstance(extent, int) for extent in port.shape):
                room = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(port.shape, TYPES[port.type]))
                self._binding.bind_ortvalue_output(port.name, room)
            else:
                self._binding.bind_output(port.name)

    def run(self):
        self._session.run_with_iobinding(self._binding)

    def outputs(self):
        return self._binding.copy_outputs_to_cpu()
