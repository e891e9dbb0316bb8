#!/usr/bin/env python3
"""Makes the test cases of ONNX itself and of ONNX Runtime's operators, which tests/tests/onnx_cases.rs compiles and runs.

    python3 tests/onnx/fetch.py

One version of the Python package `onnx` (Apache-2.0) is installed into target/onnx-venv/, with what it needs, by pip and
with the checksums of requirements.txt. Its wheel holds networks with constant weights (`light`), `simple` and the `pytorch-*`
cases; the node cases, one or more for each operator, are Python there, and running them makes models, inputs and expected
outputs. The `contrib` cases are those of contrib.py, with the outputs of the package `onnxruntime` (MIT). All go to
target/onnx-cases/ (or to the folder that the environment variable NNC_ONNX_CASES names):

    onnx-cases/KIND/NAME/model.onnx
    onnx-cases/KIND/NAME/test_data_set_N/{input,output}_M.pb
    onnx-cases/cases.json       what there is, with the operator that a case is about and the tolerances that ONNX sets

A folder that was made from the same pins is left as it is, without network access. Needs nothing but Python 3.11 or later
with pip, on Linux.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
# How many cases there are of each kind in these versions of the packages.
COUNTS = {"contrib": 349, "node": 1884, "light": 9, "simple": 23, "pytorch-converted": 82, "pytorch-operator": 35}


def pins():
    """What the cases are made from: the checksums of the packages, and these programs."""
    files = (REQUIREMENTS, pathlib.Path(__file__), HERE / "contrib.py")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def cases_folder():
    return pathlib.Path(os.environ.get("NNC_ONNX_CASES") or ROOT / "target" / "onnx-cases")


def complete(folder):
    try:
        return json.loads((folder / "cases.json").read_text())["pins"] == pins()
    except (OSError, ValueError, KeyError):
        return False


def environment():
    """The Python of a virtual environment with the pinned packages; makes it if need be."""
    folder = ROOT / "target" / "onnx-venv"
    python = folder / "bin" / "python"
    installed = folder / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if installed.is_file() and installed.read_text() == wanted:
        return python
    print(f"installing the packages of {REQUIREMENTS.relative_to(ROOT)} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(REQUIREMENTS)]
    if subprocess.run(pip).returncode != 0:
        sys.exit("fetch.py: pip could not install the pinned packages; its messages are above")
    installed.write_text(wanted)
    return python


def main():
    folder = cases_folder()
    if complete(folder):
        print(f"{folder} holds the cases already")
        return
    if sys.version_info < (3, 11):
        sys.exit(f"fetch.py: needs Python 3.11 or later, this is {sys.version.split()[0]}")
    python = environment()
    print(f"making {sum(COUNTS.values())} cases in {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    result = subprocess.run([str(python), str(HERE / "fetch.py"), "--make", str(part)])
    if result.returncode != 0:
        sys.exit("fetch.py: the cases could not be made; the messages are above")
    # Named last, so that no test ever sees half of them.
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    print(f"{folder}: {', '.join(f'{n} {kind}' for kind, n in COUNTS.items())}")


# What follows runs in the virtual environment.


def make(folder):
    # Random inputs are drawn from NumPy's global generator: the same for everybody.
    import numpy

    numpy.random.seed(0)
    warnings.simplefilter("ignore")
    cases = []
    for write in (contrib_cases, node_cases, light_cases, wheel_cases):
        cases += write(folder)
    counts = {kind: sum(case["kind"] == kind for case in cases) for kind in COUNTS}
    if counts != COUNTS:
        sys.exit(f"fetch.py: {counts} cases, {COUNTS} expected")
    cases.sort(key=lambda case: (case["kind"], case["name"]))
    (folder / "cases.json").write_text(json.dumps({"pins": pins(), "cases": cases}, indent=0))


def contrib_cases(folder):
    """ONNX Runtime's own operators."""
    import contrib

    cases = []
    for case in contrib.cases():
        write_case(folder / "contrib" / case.name, case.model, [(case.inputs, case.outputs)])
        cases.append(entry("contrib", case.name, case.op, case.rtol, case.atol))
    return cases


def node_cases(folder):
    from onnx.backend.test.case.node import collect_testcases

    about = {}
    cases = []
    for case in collect_testcases():
        # The case after it, whose node is replaced by the function that defines its operator, is about the same one.
        base = case.name.split("_expanded")[0]
        op = about.setdefault(base, case.model.graph.node[0].op_type)
        write_case(folder / "node" / case.name, case.model, case.data_sets)
        cases.append(entry("node", case.name, op, case.rtol, case.atol))
    return cases


def write_case(folder, model, data_sets):
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for index, (inputs, outputs) in enumerate(data_sets):
        data = folder / f"test_data_set_{index}"
        data.mkdir()
        for role, values, ports in (("input", inputs, model.graph.input), ("output", outputs, model.graph.output)):
            for position, (value, port) in enumerate(zip(values, ports)):
                (data / f"{role}_{position}.pb").write_bytes(message(value, port).SerializeToString())


def message(value, port):
    from onnx import TensorProto, numpy_helper

    if port.type.HasField("map_type"):
        return numpy_helper.from_dict(value, port.name)
    if port.type.HasField("sequence_type"):
        return numpy_helper.from_list(value, port.name)
    if port.type.HasField("optional_type"):
        return numpy_helper.from_optional(value, port.name)
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(value, port.name)


def light_cases(folder):
    """Networks with constants instead of trained weights; their input is a ramp from 0 to 1."""
    import numpy
    import onnx
    from onnx.backend.test.case.model import collect_testcases

    cases = []
    for case in collect_testcases():
        if not (case.url or "").startswith("onnx/backend/test/data/light/"):
            continue
        source = wheel_data() / "light" / pathlib.PurePosixPath(case.url).name
        model = onnx.load(source)
        constants = {tensor.name for tensor in model.graph.initializer}
        (port,) = [port for port in model.graph.input if port.name not in constants]
        shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
        count = numpy.prod(shape)
        ramp = (numpy.arange(count).reshape(shape) / count).astype(numpy.float32)
        target = folder / "light" / case.name
        write_case(target, model, [([ramp], [])])
        expected = source.with_name(f"{source.stem}_output_0.pb")
        shutil.copyfile(expected, target / "test_data_set_0" / "output_0.pb")
        cases.append(entry("light", case.name, "network", case.rtol, case.atol))
    return cases


def wheel_cases(folder):
    """Cases that are files in the wheel."""
    cases = []
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for source in sorted((wheel_data() / kind).iterdir()):
            if (source / "model.onnx").is_file():
                shutil.copytree(source, folder / kind / source.name)
                cases.append(entry(kind, source.name, kind, 1e-3, 1e-7))
    return cases


def wheel_data():
    import onnx.backend.test

    return pathlib.Path(onnx.backend.test.__file__).parent / "data"


def entry(kind, name, op, rtol, atol):
    return {"kind": kind, "name": name, "op": op, "rtol": rtol, "atol": atol}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(pathlib.Path(sys.argv[2]))
    else:
        main()
