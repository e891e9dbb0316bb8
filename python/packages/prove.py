#!/usr/bin/env python3
"""Runs packages from PyPI, unchanged, on nnc and on onnxruntime, and compares what they find, how long it takes and how much memory.

    python3 python/wheel.py --release && python3 python/packages/prove.py --all --rounds 5
    python3 python/packages/prove.py nudenet magika
    python3 python/packages/prove.py --results            # what they find, not how fast: for any build of the wheel

Each package has a virtual environment of its own in target/packages/, with the wheel of target/wheels/ and without onnxruntime, which
lies beside it in a folder for the other process. All versions are pinned with their checksums. Results must be the same: texts, labels
and segments exactly, corners and scores within what packages.json says. `--all` also runs packages that need gigabytes; one of them needs
Python 3.10. Ends with exit code 1 if a result differs.

Times are those of the package's whole work, with what it does itself, the least of some rounds in three processes of each engine that
take turns. Memory is that of the process at its end, and at most. Corners come from contours of a thresholded map, whole pixels of a page,
and scores are averages of probabilities: that is what packages.json allows them to differ by.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = ROOT / "target" / "packages"
SHARED = ROOT / "tests" / "trained" / "requirements.txt"
sys.path[:0] = [str(ROOT / "tests" / "trained")]
sys.dont_write_bytecode = True

PORTRAIT = ("scikit-image==0.26.0", "skimage/data/astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5")
ENGINES = ("onnxruntime", "nnc")


def pinned(names):
    """Lines of the requirements that the tests share, for some packages."""
    lines = re.split(r"\n(?=\S)", SHARED.read_text())
    found = [line for line in lines if line.split("==")[0].lower() in {name.lower() for name in names}]
    if len(found) != len(names):
        sys.exit(f"prove.py: {SHARED.name} does not have all of {', '.join(names)}")
    return "\n".join(found) + "\n"


def interpreter(version):
    """A Python of a version, or the one that runs this."""
    if version is None or sys.version_info[:2] == tuple(version):
        return sys.executable
    name = ".".join(map(str, version))
    found = [shutil.which(f"python{name}"), *pathlib.Path.home().glob(f".pyenv/versions/{name}.*/bin/python")]
    for python in filter(None, found):
        if subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return str(python)
    return None


def pip(python, *arguments):
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *arguments])
    if done.returncode != 0:
        sys.exit("prove.py: pip could not install a package; its messages are above")


def environment(package, wheel):
    """The Python of a fresh environment with a package and nnc, and the folder that has onnxruntime."""
    base = interpreter(package.get("python"))
    folder = FOLDER / package["name"]
    python, peer = folder / "bin" / "python", FOLDER / f"{package['name']}-onnxruntime"
    wanted = "".join((HERE / name).read_text() for name in package["requirements"]) + pinned(package["shared"]) + str(base)
    marker = folder / "installed"
    if not marker.is_file() or marker.read_text() != wanted:
        print(f"installing {package['name']} into {folder}", flush=True)
        for old in (folder, peer):
            shutil.rmtree(old, ignore_errors=True)
        subprocess.run([base, "-m", "venv", str(folder)], check=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(pinned(package["shared"]))
            file.flush()
            hashed = ["--only-binary=:all:", "--require-hashes"]
            pip(python, *hashed, "-r", file.name, *(part for name in package["requirements"] for part in ("-r", str(HERE / name))))
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(pinned(["onnxruntime", "flatbuffers", "packaging", "protobuf"]))
            file.flush()
            pins = HERE / "onnxruntime_3_10.txt" if "python" in package else file.name
            pip(python, *hashed, "--target", str(peer), "-r", str(pins))
        marker.write_text(wanted)
    pip(python, "--force-reinstall", str(wheel))
    return python, peer


def portrait():
    """The picture that nudenet looks at."""
    import fetch

    package, name, checksum = PORTRAIT
    file = FOLDER / "astronaut.png"
    if file.is_file() and fetch.sha256(file.read_bytes()) == checksum:
        return
    with tempfile.TemporaryDirectory() as scratch:
        archive = fetch.download(package, pathlib.Path(scratch), "manylinux_2_28_x86_64")
        with zipfile.ZipFile(archive) as wheel:
            file.write_bytes(fetch.checked(name, wheel.read(name), checksum))


def run(python, peer, engine, package, rounds):
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if engine == "onnxruntime":
        environment["PYTHONPATH"] = str(peer)
    command = [python, "-B", HERE / "worker.py", engine, package, str(rounds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"prove.py: {package} does not run on {engine}:\n{done.stdout}{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["engine"] == engine, "the other engine has run"
    return told


def difference(expected, found, tolerances, where=""):
    """The first difference between two results; `None` if there is none."""
    if type(expected) is not type(found):
        return f"{where}: {expected!r} and {found!r}"
    if isinstance(expected, dict):
        if expected.keys() != found.keys():
            return f"{where}: {sorted(expected)} and {sorted(found)}"
        return next(filter(None, (difference(expected[key], found[key], tolerances, f"{where}/{key}") for key in expected)), None)
    if isinstance(expected, list):
        if len(expected) != len(found):
            return f"{where}: {len(expected)} and {len(found)} of them"
        pairs = enumerate(zip(expected, found))
        return next(filter(None, (difference(one, other, tolerances, f"{where}/{at}") for at, (one, other) in pairs)), None)
    tolerance = max((tolerances[key] for key in where.split("/") if key in tolerances), default=0)
    numbers = isinstance(expected, (int, float)) and not isinstance(expected, bool)
    same = abs(expected - found) <= tolerance if numbers else expected == found
    return None if same else f"{where}: {expected!r} and {found!r}"


def prove(package, wheel, rounds):
    """Says how a package fares; returns whether its results are the same."""
    name = package["name"]
    python, peer = environment(package, wheel)
    processes = 3 if rounds else 1
    told = {engine: [] for engine in ENGINES}
    for _ in range(processes):
        for engine in ENGINES:
            told[engine].append(run(python, peer, engine, name, rounds))
    expected = told["onnxruntime"][0]["found"]
    faults = [difference(expected, one["found"], package["tolerances"], name) for one in told["nnc"]]
    fault = next(filter(None, faults), None)
    print(f"{name}: {package['shows']}: {fault or 'the same'}")
    if rounds:
        for what, unit in (("import", "ms"), ("load", "ms"), ("first", "ms"), ("again", "ms"), ("resident", "MB"), ("peak", "MB")):
            theirs, ours = (min(one[what] for one in told[engine]) for engine in ENGINES)
            scale = 1000 if unit == "ms" else 1
            print(f"  {what:9} onnxruntime {theirs * scale:9.1f} {unit}   nnc {ours * scale:9.1f} {unit}   {theirs / ours:6.2f}")
    sys.stdout.flush()
    return fault is None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    packages = json.loads((HERE / "packages.json").read_text())
    parser.add_argument("packages", nargs="*", choices=[[], *(package["name"] for package in packages)], metavar="PACKAGE")
    parser.add_argument("--all", action="store_true", help="large packages, too")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in each process")
    parser.add_argument("--results", action="store_true", help="compare results alone")
    arguments = parser.parse_args()
    wheels = list((ROOT / "target" / "wheels").glob("*.whl"))
    if len(wheels) != 1:
        sys.exit("prove.py: there is no wheel; python3 python/wheel.py --release builds it")
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = [package for package in packages if package["name"] in arguments.packages]
    if not wanted:
        wanted = [package for package in packages if arguments.all or not package.get("large")]
    good = True
    for package in wanted:
        if interpreter(package.get("python")) is None:
            sys.exit(f"prove.py: {package['name']} needs Python {'.'.join(map(str, package['python']))}, which is not here")
        if package["name"] == "nudenet":
            portrait()
        good &= prove(package, wheels[0], 0 if arguments.results else arguments.rounds)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
