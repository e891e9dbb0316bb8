#!/usr/bin/env python3
"""Writes what is in the crates: a software bill of materials for each, in CycloneDX's format, into target/sbom/.

    python3 .ci/sbom.py

Each is held against what cargo links: a component for each package, with its version, licence and, if it comes from the registry,
checksum. Some name a little more, optional parts of packages that only another crate of the workspace asks for. The same commit gives
the same bytes, wherever it lies. Needs cargo-cyclonedx, which .ci/tools installs. That of the wheel is made by maturin, and in the wheel.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
SBOMS = ROOT / "target" / "sbom"
TRIPLE = "x86_64-unknown-linux-gnu"


def output(*command):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"sbom.py: {' '.join(command)} failed; its messages are above")
    return done.stdout


def linked(crate):
    """Name and version of each package that a crate is built of, without those for its tests."""
    tree = output("cargo", "tree", "--package", crate, "--edges=normal,build", "--all-features", f"--target={TRIPLE}", "--prefix=none")
    packages = {tuple(re.match(r"(\S+) v(\S+)", line).groups()) for line in tree.splitlines() if line}
    return {package for package in packages if package[0] != crate}


def faults(crate, bom):
    """What the bill does not say, or says wrong."""
    components = {(part["name"], part["version"]): part for part in bom["components"]}
    locked = {(package["name"], package["version"]) for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    yield from (f"{name} {version} is missing" for name, version in linked(crate) - components.keys())
    yield from (f"{name} {version} is not in Cargo.lock" for name, version in components.keys() - locked)
    for (name, version), part in components.items():
        if not part.get("licenses"):
            yield f"{name} {version} has no licence"
        if part["bom-ref"].startswith("registry+") and not part.get("hashes"):
            yield f"{name} {version} has no checksum"


def main():
    metadata = json.loads(output("cargo", "metadata", "--no-deps", "--format-version=1"))
    crates = [package for package in metadata["packages"] if package["publish"] != []]
    epoch = output("git", "log", "-1", "--format=%ct").strip()
    command = ["cargo", "cyclonedx", "--format=json", "--all-features", f"--target={TRIPLE}", "--quiet"]
    written = subprocess.run(command, cwd=ROOT, env=os.environ | {"SOURCE_DATE_EPOCH": epoch})
    boms = {package["name"]: pathlib.Path(package["manifest_path"]).parent / f"{package['name']}.cdx.json" for package in metadata["packages"]}
    texts = {crate: file.read_text() for crate, file in boms.items() if file.is_file()}
    for file in boms.values():
        file.unlink(missing_ok=True)
    if written.returncode != 0:
        sys.exit("sbom.py: cargo cyclonedx failed; its messages are above")
    SBOMS.mkdir(parents=True, exist_ok=True)
    found = []
    for crate in crates:
        # Where the sources lie is nobody's business.
        text = texts[crate["name"]].replace(f"path+file://{ROOT}/", "path+")
        bom = json.loads(text)
        found += [f"{crate['name']}: {fault}" for fault in faults(crate["name"], bom)]
        file = SBOMS / f"{crate['name']}-{crate['version']}.cdx.json"
        file.write_text(text)
        print(f"{file.relative_to(ROOT)}: {len(bom['components'])} components")
    if found:
        sys.exit("sbom.py: " + "\nsbom.py: ".join(found))


if __name__ == "__main__":
    main()
