"""Gets ready what is compared: the Python environment, nnc and its runtime library, the peers in Rust."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import venv

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
VENV = ROOT / "target" / "bench-venv"
OUTPUT = ROOT / "target" / "bench"


@dataclasses.dataclass(frozen=True)
class Tools:
    nnc: pathlib.Path
    """The command."""
    runtime: pathlib.Path
    """The runtime library with its C functions."""
    peers: pathlib.Path
    """The folder of the processes for peers in Rust. They may be missing, if they could not be built."""


def enter_venv():
    """Starts again in an environment of its own, made when it is needed."""
    if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
        return
    python = VENV / "bin" / "python"
    # pip comes last: without it, making the environment was interrupted.
    if not (VENV / "bin" / "pip").exists():
        venv.create(VENV, with_pip=True, clear=True)
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    frozen = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True)
    for line in set(wanted) - set(frozen.stdout.splitlines()):
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", line]
        if subprocess.run(command).returncode:
            print(f"{line} cannot be installed", file=sys.stderr)
    os.execv(python, [str(python), *sys.argv])


def tools(nnc, runtime, peers):
    """Builds for release: `nnc` and its runtime library, unless they are given, and, if they are wanted, the peers in Rust."""
    nnc = nnc or build_nnc()
    if runtime is None:
        library = ["cargo", "rustc", "--release", "--package", "nnc-capi", "--lib", "--crate-type", "cdylib"]
        runtime = built(library, "filenames")
    folder = ROOT / "target" / "bench-peers"
    if peers:
        command = ["cargo", "build", "--release", "--locked", "--target-dir", folder]
        # What does not build is reported later, as a process that cannot be started.
        subprocess.run([*command, "--keep-going"], cwd=FOLDER / "rust_peers")
    return Tools(pathlib.Path(nnc).resolve(), pathlib.Path(runtime).resolve(), folder / "release")


def build_nnc():
    return built(["cargo", "build", "--release", "--package", "nnc"], "executable")


def built(command, key):
    """Runs cargo; what its last message with such a key names."""
    done = subprocess.run(
        [*command, "--message-format=json-render-diagnostics"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    found = [message[key] for message in map(json.loads, done.stdout.splitlines()) if message.get(key)]
    return found[-1][-1] if isinstance(found[-1], list) else found[-1]
