"""What engines have in common: how the command starts one, and what it takes on disk."""

import importlib.metadata
import pathlib
import sys
import tomllib

FOLDER = pathlib.Path(__file__).resolve().parent.parent


class Engine:
    """An engine that loads the ONNX file itself, in a process written in Python.

    `package` is its name on PyPI and in Python, if it comes from there.
    """

    def __init__(self, name, package=None):
        self.name = name
        self.package = package

    def prepare(self, case, tools):
        """The file or files that the engine loads for a network, the first being the one that the process is given."""
        return [case.onnx]

    def program(self, tools):
        """The command line of the process, without arguments; `--empty` makes it load nothing."""
        return [sys.executable, FOLDER / "worker.py", self.name]

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
    """An engine that is a Rust crate, in a process of the workspace `rust_peers`."""

    def __init__(self, name, crate):
        super().__init__(name)
        self.crate = crate

    def program(self, tools):
        return [tools.peers / f"bench-{self.name}"]

    def version(self, tools):
        packages = tomllib.loads((FOLDER / "rust_peers" / "Cargo.lock").read_text())["package"]
        return next(package["version"] for package in packages if package["name"] == self.crate)

    def library_bytes(self, tools):
        return (tools.peers / f"bench-{self.name}").stat().st_size
