"""The package itself: its types, its size, and the documents about it."""

import ast
import importlib.metadata
import inspect
import json
import pathlib
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest

import nnc
from nnc import _nnc

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENTS = [HERE.parent / "README.md", *(HERE.parent.parent / name for name in ("README.md", "docs/python.md"))]


def test_the_stubs_name_what_is_written_in_rust():
    tree = ast.parse((pathlib.Path(nnc.__file__).parent / "_nnc.pyi").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (session,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    methods = {node.name: node for node in session.body if isinstance(node, ast.FunctionDef)}
    public = lambda thing: {name for name in dir(thing) if not name.startswith("_")}
    assert public(_nnc) == set(functions) | {"Session"}
    assert public(_nnc.Session) == set(methods)
    for name, node in functions.items():
        assert list(inspect.signature(getattr(_nnc, name)).parameters) == [arg.arg for arg in node.args.args], name


def test_the_package_is_typed_and_says_its_version():
    assert (pathlib.Path(nnc.__file__).parent / "py.typed").is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", nnc.__version__) and nnc.get_version_string() == nnc.__version__


def test_everything_public_is_documented():
    for name in nnc.__all__:
        thing = getattr(nnc, name)
        if not inspect.isclass(thing) and not inspect.isfunction(thing):
            continue
        assert inspect.getdoc(thing), name
        for method in vars(thing) if inspect.isclass(thing) else ():
            if not method.startswith("_") and callable(getattr(thing, method)):
                assert inspect.getdoc(getattr(thing, method)), f"{name}.{method}"


def test_importing_needs_numpy_alone():
    program = "import sys, nnc; print(sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    foreign = [name for name in ast.literal_eval(done.stdout) if not name.startswith(("_", "pkg", "distutils", "mypyc"))]
    assert foreign == ["nnc", "numpy"], done.stderr


def blocks(document):
    return re.findall(r"^```python\n(.*?)^```", document.read_text(), re.M | re.S)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(HERE.parent.parent)))
def test_the_code_of_the_documents_runs(document, opened, fixed, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(fixed)
    (tmp_path / "open.onnx").write_bytes(opened)
    names = {"picture": picture(), "x": picture()}
    for block in blocks(document):
        # Packages that import onnxruntime are not here, and its own name is taken by the oracle of these tests.
        if "install_as_onnxruntime" not in block:
            exec(compile(block, str(document), "exec"), names)
    assert names.keys() > {"nnc"} or "ort" in names


def test_arrays_stay_as_they_are(fixed, picture):
    x = picture()
    before = x.copy()
    nnc.InferenceSession(fixed).run(None, {"x": x})
    np.testing.assert_array_equal(x, before)


def test_the_wheel_says_what_is_in_it():
    (bill,) = (file for file in importlib.metadata.files("nnc") if ".dist-info/sboms/" in str(file))
    parts = {(part["name"], part["version"]): part for part in json.loads(bill.read_text())["components"]}
    lock = tomllib.loads((HERE.parent.parent / "Cargo.lock").read_text())
    versions = {package["name"]: package["version"] for package in lock["package"]}
    for name in ("nnc", "nnc-ir", "nnc-runtime", "cranelift-codegen", "onnx-protobuf", "pyo3"):
        assert parts[name, versions[name]]["licenses"], name
