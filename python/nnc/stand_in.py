"""nnc under the name of onnxruntime, for packages that import it themselves."""

import sys
from types import ModuleType

import nnc
from nnc import errors

#: The exceptions of onnxruntime, each with the one of nnc that stands for it.
_EXCEPTIONS = {
    "EPFail": errors.ModelError,
    "EngineError": errors.ModelError,
    "Fail": errors.Error,
    "InvalidArgument": errors.InputError,
    "InvalidGraph": errors.ModelError,
    "InvalidProtobuf": errors.ModelError,
    "ModelLoaded": errors.ModelError,
    "NoModel": errors.ModelError,
    "NoSuchFile": errors.ModelError,
    "NotImplemented": errors.ModelError,
    "RuntimeException": errors.Error,
}
_STATE = "onnxruntime_pybind11_state"


def install_as_onnxruntime(version: str = "1.24.4") -> None:
    """From now on `import onnxruntime` gives nnc in this process; packages that ask are told that it has this version.

        import nnc
        nnc.install_as_onnxruntime()
        import rapidocr_onnxruntime            # runs on nnc

    Call it before anything imports onnxruntime. What inference needs is there; training and quantising are not.
    """
    present = sys.modules.get("onnxruntime")
    if present is not None and getattr(present, "InferenceSession", None) is not nnc.InferenceSession:
        raise RuntimeError("onnxruntime is imported already; call nnc.install_as_onnxruntime() before anything imports it")
    names = {name: getattr(nnc, name) for name in nnc.__all__ if name not in ("__version__", "install_as_onnxruntime")}
    names["SessionIOBinding"] = nnc.IOBinding
    state = {**names, **_EXCEPTIONS}
    top = _package("onnxruntime", {**names, "__version__": version})
    capi = _package("onnxruntime.capi", {})
    top.capi = capi  # type: ignore[attr-defined]
    for module in (_STATE, "_pybind_state", "onnxruntime_inference_collection"):
        setattr(capi, module, _package(f"onnxruntime.capi.{module}", state))


def _package(name: str, content: dict[str, object]) -> ModuleType:
    module = ModuleType(name, f"nnc under the name of {name}.")
    module.__dict__.update(content)
    # A package without files: what it does not have cannot be imported.
    module.__path__ = []
    sys.modules[name] = module
    return module
