"""onnxruntime: the CPU provider, all optimisations, inputs and outputs bound once."""

from engines.base import Engine

ENGINE = Engine("onnxruntime", package="onnxruntime")


def load(model, value, threads):
    import numpy as np
    import onnxruntime

    class Session:
        def __init__(self):
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            self._binding = self._session.io_binding()
            self._binding.bind_cpu_input(self._session.get_inputs()[0].name, value)
            for port in self._session.get_outputs():
                room = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(port.shape, np.float32))
                self._binding.bind_ortvalue_output(port.name, room)

        def run(self):
            self._session.run_with_iobinding(self._binding)

        def output(self):
            return self._binding.copy_outputs_to_cpu()[0]

    return Session()
