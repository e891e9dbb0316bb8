#!/usr/bin/env python3
"""Fetches the trained networks that tests/tests/trained.rs and tests/tests/ocr.rs compile: the text detector, the text-direction
classifier and the recogniser of PP-OCR, out of one version of the Python package that distributes them (Apache-2.0), and those that
packages.json lists, each out of one version of the package that distributes it.

    python3 tests/trained/fetch.py
    python3 tests/trained/fetch.py --all     those of large packages, too; needs npm for one

They go to target/trained/ (or to the folder that the environment variable NNC_TRAINED names) and are not part of the repository.
The package itself, which reads pages by these networks, goes to target/ocr-venv/ with what it needs: onnxruntime and others, which
pip installs there with the checksums of requirements.txt. There some of the networks are quantised (make_quantised.py), which takes
half a minute. All checksums are verified; what is there already is left as it is, without network access. Needs nothing but Python with
pip, 3.11 to 3.14 on Linux; with another Python, or elsewhere, the networks are fetched, and the package and what is quantised are left
out.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PACKAGE = "rapidocr-onnxruntime==1.4.4"
WHEEL = "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
MODELS = {
    "ch_PP-OCRv4_det_infer.onnx": "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    "ch_PP-OCRv4_rec_infer.onnx": "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
}
PACKAGES = pathlib.Path(__file__).resolve().parent / "packages.json"
QUANTISED = pathlib.Path(__file__).resolve().parent / "quantised.json"
REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "requirements.txt"
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def holds(folder, files):
    return all((folder / f).is_file() and sha256((folder / f).read_bytes()) == s for f, s in files.items())


def download(package, folder, platform=None):
    """The wheel's path. The package bounds the Python and the machine it runs on; for its data, any will do."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary=:all:", "--python-version=3.11", f"--dest={folder}", package]
    pip += [f"--platform={platform}"] if platform else []
    if subprocess.run(pip).returncode != 0:
        sys.exit(f"fetch.py: pip could not download {package}; its messages are above")
    (wheel,) = folder.glob("*.whl")
    return wheel


def pack(package, folder):
    """The path of npm's archive of a package; no script of it runs."""
    if shutil.which("npm") is None:
        sys.exit(f"fetch.py: {package} comes by npm, which is not installed")
    if subprocess.run(["npm", "pack", "--silent", package], cwd=folder, stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"fetch.py: npm could not download {package}; its messages are above")
    (archive,) = folder.glob("*.tgz")
    return archive


def member(archive, path):
    """A file of an archive. `LIST#NAME` is one that the archive has in chunks, which the list names by their hashes."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(path)
    with tarfile.open(archive) as tar:
        read = lambda name: tar.extractfile(name).read()
        path, _, name = path.partition("#")
        if not name:
            return read(path)
        folder = path.rpartition("/")[0]
        return b"".join(read(f"{folder}/{chunk['hash']}") for chunk in json.loads(read(path))[name]["chunks"])


def fetch_package(package, folder):
    """The networks of one package of packages.json."""
    networks = package["networks"]
    if holds(folder, {network["file"]: network["sha256"] for network in networks}):
        return
    name = package["package"]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        archive = pack(name, scratch) if name.startswith("@") else download(name, scratch, package.get("platform"))
        checked(archive.name, archive.read_bytes(), package["archive"])
        put_networks({n["file"]: checked(n["in"], member(archive, n["in"]), n["sha256"]) for n in networks}, folder)


def checked(what, data, expected):
    if sha256(data) != expected:
        sys.exit(f"fetch.py: {what} has sha256 {sha256(data)}, not {expected}; nothing was written")
    return data


def main():
    if not set(sys.argv[1:]) <= {"--all"}:
        sys.exit(__doc__)
    everything = "--all" in sys.argv[1:]
    folder = pathlib.Path(os.environ.get("NNC_TRAINED") or ROOT / "target" / "trained")
    for package in json.loads(PACKAGES.read_text()):
        if everything or not package.get("large"):
            fetch_package(package, folder)
    environment = ROOT / "target" / "ocr-venv"
    here = [holds(folder, MODELS), installed(environment)]
    made = {network["file"]: network["sha256"] for network in json.loads(QUANTISED.read_text())}
    if all(here) and (holds(folder, made) or not suitable()):
        print(f"{folder} holds the trained networks already, {environment} the package that reads pages")
        return
    if not all(here):
        fetch_pages(folder, environment, here)
    if suitable():
        # What this machine would make otherwise is left out, and its tests are shown as ignored.
        subprocess.run([str(environment / "bin" / "python"), str(QUANTISED.with_name("make_quantised.py"))], check=True)


def fetch_pages(folder, environment, here):
    """The package that reads pages: its networks, and an environment that it runs in."""
    with tempfile.TemporaryDirectory() as scratch:
        wheel = download(PACKAGE, pathlib.Path(scratch))
        checked(wheel.name, wheel.read_bytes(), WHEEL)
        with zipfile.ZipFile(wheel) as archive:
            if not here[0]:
                put_networks({m: checked(m, archive.read(f"rapidocr_onnxruntime/models/{m}"), s) for m, s in MODELS.items()}, folder)
            if not here[1]:
                install(archive, environment)


def put_networks(models, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in models.items():
        # Named last, so that no test ever sees half a model.
        part = folder / f"{name}.part"
        part.write_bytes(data)
        part.replace(folder / name)
        print(f"{folder / name}: {len(data)} bytes")


def pins():
    return sha256(REQUIREMENTS.read_bytes() + WHEEL.encode())


def installed(environment):
    """Whether the environment was made from these pins; of a Python that has no such packages nothing is expected."""
    marker = environment / "installed"
    return not suitable() or marker.is_file() and marker.read_text() == pins()


def suitable():
    return sys.platform == "linux" and (3, 11) <= sys.version_info[:2] <= (3, 14)


def install(archive, environment):
    print(f"installing {PACKAGE} and the packages of {REQUIREMENTS.relative_to(ROOT)} into {environment}")
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(REQUIREMENTS)]
    if subprocess.run(pip).returncode != 0:
        sys.exit("fetch.py: pip could not install the pinned packages; its messages are above")
    # Not by pip, which would refuse it for the Python that it names.
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([str(python), "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    archive.extractall(packages)
    # Written last, so that no test ever runs in half an environment.
    (environment / "installed").write_text(pins())


if __name__ == "__main__":
    main()
