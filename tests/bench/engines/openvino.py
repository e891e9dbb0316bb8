"""OpenVINO: the CPU plugin in f32 or bf16 (what a model quantises is in bytes all the same), tuned for latency; shapes are bound before
it compiles; inputs and outputs are shared with it, not copied."""

from engines.base import Engine

ENGINE = Engine("openvino", package="openvino")


def load(model, inputs, threads, precision):
    import openvino

    class Request:
        def __init__(self):
            options = {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
            }
            core = openvino.Core()
            network = core.read_model(str(model))
            if network.is_dynamic():
                network.reshape({name: list(value.shape) for name, value in inputs.items()})
            compiled = core.compile_model(network, "CPU", options)
            self._request = compiled.create_infer_request()
            for name, value in inputs.items():
                self._request.set_tensor(name, openvino.Tensor(value, shared_memory=True))
            self._count = len(compiled.outputs)

        def run(self):
            self._request.infer(share_outputs=True)

        def outputs(self):
            return [self._request.get_output_tensor(index).data for index in range(self._count)]

    return Request()
