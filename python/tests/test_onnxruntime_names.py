"""What code for onnxruntime asks for is there, takes the same arguments, and says what has no effect."""

import inspect
import logging
import pathlib
import pickle
import subprocess
import sys

import onnxruntime
import pytest

import nnc


def public(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


#: What belongs to other devices, to training, or to onnxruntime's own files.
NOT_HERE = {
    "InferenceSession": """
        create_ortvalue_from_shape_and_type get_input_epdevices get_input_memory_infos get_output_memory_infos
        get_profiling_start_time_ns get_provider_graph_assignment_info get_tuning_results release_captured_graph
        run_with_ortvaluevector set_ep_dynamic_options set_tuning_results
    """,
    "SessionOptions": """
        add_external_initializers add_external_initializers_from_files_in_memory
        add_free_dimension_override_by_denotation add_initializer add_provider add_provider_for_devices
        clear_ep_context_data_read_func has_providers set_ep_context_data_read_func set_load_cancellation_flag
        set_provider_selection_policy set_provider_selection_policy_delegate
    """,
    "OrtValue": """
        as_sparse_tensor element_type is_sparse_tensor is_tensor_sequence ort_value_from_sparse_tensor
        ortvalue_from_numpy_with_onnx_type tensor_size_in_bytes
    """,
    "IOBinding": """
        get_outputs_as_ortvaluevector
    """,
    "RunOptions": """
        add_active_adapter
    """,
}


@pytest.mark.parametrize("name", NOT_HERE)
def test_classes_have_the_methods_of_onnxruntimes(name):
    missing = public(getattr(onnxruntime, name)) - public(getattr(nnc, name)() if name.endswith("Options") else getattr(nnc, name))
    assert missing == set(NOT_HERE[name].split())


@pytest.mark.parametrize("name", ["__init__", "run", "run_async", "run_with_ort_values", "run_with_iobinding", "set_providers"])
def test_methods_have_the_parameters_of_onnxruntimes(name):
    theirs = inspect.signature(getattr(onnxruntime.InferenceSession, name)).parameters
    ours = inspect.signature(getattr(nnc.InferenceSession, name)).parameters
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    positional = [name for name, parameter in theirs.items() if parameter.kind not in kinds]
    assert list(ours)[: len(positional)] == positional


def test_the_types_are_those_of_onnxruntime(opened):
    for theirs, ours in zip(onnxruntime.InferenceSession(opened).get_inputs(), nnc.InferenceSession(opened).get_inputs(), strict=True):
        assert (theirs.name, theirs.type, theirs.shape) == (ours.name, ours.type, ours.shape)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"):
        assert int(getattr(nnc.GraphOptimizationLevel, level)) == int(getattr(onnxruntime.GraphOptimizationLevel, level))
    assert nnc.get_device() == "CPU" and nnc.get_available_providers() == ["CPUExecutionProvider"]


def test_options_have_the_defaults_of_onnxruntimes():
    theirs, ours = onnxruntime.SessionOptions(), nnc.SessionOptions()
    for name in nnc.SessionOptions._defaults:
        if hasattr(theirs, name) and not name.startswith(("log", "graph", "execution", "optimized")):
            assert getattr(theirs, name) == getattr(ours, name), name


def test_options_without_effect_are_said_once(fixed, caplog):
    options = nnc.SessionOptions()
    options.enable_cpu_mem_arena = False
    options.inter_op_num_threads = 3
    options.add_session_config_entry("session.use_env_allocators", "1")
    assert options.get_session_config_entry("session.use_env_allocators") == "1"
    wanted = ["enable_cpu_mem_arena = False", "inter_op_num_threads = 3", "session.use_env_allocators = '1'"]
    assert options.without_effect() == wanted
    with caplog.at_level(logging.INFO, "nnc"):
        nnc.InferenceSession(fixed, options, providers=[("CUDAExecutionProvider", {"device_id": 0}), "CPUExecutionProvider"])
        said = [record.getMessage() for record in caplog.records]
        nnc.InferenceSession(fixed, options)
    assert said == [f"the option {one} has no effect" for one in wanted] + ["there is no CUDAExecutionProvider; the processor runs the model"]
    assert len(caplog.records) == len(said)


def test_options_that_ask_for_a_file_are_a_warning(fixed):
    options = nnc.SessionOptions()
    options.enable_profiling = True
    with pytest.warns(UserWarning, match="nnc writes no file for enable_profiling"):
        session = nnc.InferenceSession(fixed, options)
    with pytest.raises(nnc.SettingError, match="nnc profile MODEL"):
        session.end_profiling()


def test_options_that_are_none_are_refused(fixed):
    with pytest.raises(AttributeError, match="SessionOptions has no option 'intra_op_threads'; it has enable_cpu_mem_arena"):
        nnc.SessionOptions().intra_op_threads = 1
    with pytest.raises(TypeError, match="InferenceSession takes no keyword shape"):
        nnc.InferenceSession(fixed, shape={"x": (1, 3, 16, 16)})
    with pytest.raises(nnc.SettingError, match="define them as functions in the model"):
        nnc.SessionOptions().register_custom_ops_library("ops.so")
    with pytest.raises(nnc.SettingError, match="no entry 'a' was set"):
        nnc.SessionOptions().get_session_config_entry("a")


def test_options_are_pickled():
    options = nnc.SessionOptions()
    options.intra_op_num_threads = 3
    options.add_free_dimension_override_by_name("batch", 2)
    other = pickle.loads(pickle.dumps(options))
    assert other.intra_op_num_threads == 3 and other._settings() == {"dims": {"batch": 2}}


def test_denormals_stay_where_the_configuration_says_so():
    options = nnc.SessionOptions()
    options.add_session_config_entry("session.set_denormal_as_zero", "0")
    assert options._settings() == {"keep_denormals": True} and options.without_effect() == []


STAND_IN = """
import nnc
nnc.install_as_onnxruntime()
nnc.install_as_onnxruntime()
import onnxruntime as ort
from onnxruntime import InferenceSession, SessionOptions, GraphOptimizationLevel, get_available_providers, get_device
from onnxruntime.capi import _pybind_state as C
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, NoSuchFile
from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession as Same
assert InferenceSession is nnc.InferenceSession is Same and ort.__version__ == "1.24.4"
assert C.get_available_providers() == ["CPUExecutionProvider"]
ort.disable_telemetry_events(), ort.set_default_logger_severity(3)
try:
    ort.InferenceSession("absent.onnx")
except NoSuchFile as error:
    print(error)
try:
    import onnxruntime.quantization
except ModuleNotFoundError as error:
    print(error)
"""


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=pathlib.Path(__file__).parent)


def test_packages_that_import_onnxruntime_get_nnc():
    done = run(STAND_IN)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith('cannot read "') and second == "No module named 'onnxruntime.quantization'"


def test_onnxruntime_that_is_imported_already_is_said():
    done = run("import onnxruntime, nnc\nnnc.install_as_onnxruntime()")
    assert "call nnc.install_as_onnxruntime() before anything imports it" in done.stderr
