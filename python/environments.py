"""Virtual environments below target/, each with packages whose versions and checksums a requirements file pins."""

import hashlib
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "target"
WHEELS = TARGET / "wheels"


def environment(name, *requirements):
    """The Python of target/NAME, which has what the requirements files list; made anew when they change."""
    if not ((3, 11) <= sys.version_info[:2] <= (3, 14) and sys.platform == "linux"):
        sys.exit("the pinned packages are for Python 3.11 to 3.14 on Linux; run this with such a Python")
    folder = TARGET / name
    python, installed = folder / "bin" / "python", folder / "installed"
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in requirements)).hexdigest()
    if installed.is_file() and installed.read_text() == wanted:
        return python
    print(f"installing the packages of {', '.join(str(file.relative_to(ROOT)) for file in requirements)} into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    for file in requirements:
        pip(python, "--only-binary=:all:", "--require-hashes", "-r", file)
    # Written last, so that nothing ever runs in half an environment.
    installed.write_text(wanted)
    return python


def install_wheel(python):
    """Puts the wheel of target/wheels/ into an environment, in place of the one that is there."""
    wheels = list(WHEELS.glob("*.whl"))
    if len(wheels) != 1:
        sys.exit("there is no wheel of nnc in target/wheels; python3 python/wheel.py builds it")
    pip(python, "--force-reinstall", wheels[0])


def pip(python, *arguments):
    """Installs by pip; ends the program with its messages if that fails."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *arguments]
    if subprocess.run(command).returncode != 0:
        sys.exit("pip could not install a package; its messages are above")
