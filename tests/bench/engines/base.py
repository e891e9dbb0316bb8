"""What engines have in common: how the command starts one, and what it takes on disk."""

import importlib.metadata
import pathlib
import sys
import tomllib

FOLDER = pathlib.Path(__file__).resolve().parent.parent


class Engine:
    """An engine that loads the ONNX file itself, in a process written in Python.

    `package` is its name on PyPI and in Python, if it comes from there; `lacks` has, by their names, the precisions that it
    cannot be measured in, and why.
    """

    def __init__(self, name, package=None, lacks=None):
        self.name = name
        self.package = package
        self.lacks = lacks or {}

    def case(self, case):
        """What this engine measures for a case: itself, or another form of it."""
        return case

    def prepare(self, case, tools):
        """The file or files that the engine loads for a network, the first being the one that the process is given."""
        return [case.onnx]

    def program(self, tools):
        """The command line of the process, without arguments; `--empty` makes it load nothing."""
        return [sys.executable, FOLDER / "worker.py", self.name]

    def inputs(self, case):
        """The arguments that tell the process of its inputs."""
        return [case.file]

    def options(self, case):
        """The arguments behind the number of threads."""
        return [case.precision]

    def outputs(self, file):
        """The outputs that the process wrote, as arrays in the order of the model."""
        import numpy as np

        with np.load(file) as found:
            return [found[name] for name in found.files]

    def environment(self, tools):
        """Variables that the process needs."""
        return {}

    def version(self, tools):
        """What is measured."""
        return importlib.metadata.version(self.package)

    def library_bytes(self, tools):
        """Size of what has to be installed."""
        return sum(
            file.locate().stat().st_size
            for file in importlib.metadata.files(self.package) or []
            if file.suffix != ".pyc"
        )


class RustEngine(Engine):
    """An engine that is a Rust crate, in a process of the workspace `rust_peers`: for models of one input and one output in f32."""

    def __init__(self, name, crate):
        super().__init__(name, lacks={"bf16": "it has no arithmetic in bf16"})
        self.crate = crate

    def prepare(self, case, tools):
        only_input(case).tofile(case.onnx.with_suffix(".input"))
        return super().prepare(case, tools)

    def inputs(self, case):
        return [case.onnx.with_suffix(".input"), "x".join(map(str, only_input(case).shape))]

    def options(self, case):
        return []

    def outputs(self, file):
        import numpy as np

        return [np.fromfile(file, np.float32)]

    def program(self, tools):
        return [tools.peers / f"bench-{self.name}"]

    def version(self, tools):
        packages = tomllib.loads((FOLDER / "rust_peers" / "Cargo.lock").read_text())["package"]
        return next(package["version"] for package in packages if package["name"] == self.crate)

    def library_bytes(self, tools):
        return (tools.peers / f"bench-{self.name}").stat().st_size


def only_input(case):
    """The input of a model that has one, in f32."""
    values = list(case.inputs.values())
    if [value.dtype for value in values] != ["float32"]:
        raise RuntimeError("only models with one input in f32 are run here")
    return values[0]
