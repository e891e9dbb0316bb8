"""Walks over one page, in the environment that the page needs: `check.py` calls it.

    python walk.py PAGE FOLDER
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import files
import stand_ins

ROOT = files.ROOT
#: Commands that run elsewhere, by how they begin, and where.
ELSEWHERE = {
    "cargo run --release -- run": "it is `nnc run`, without a model; compiler/tests/cli.rs runs that",
    "cargo install --path compiler": "builds what these tests run",
    "cargo run --release -p nnc-capi": "capi/tests/hosts.rs builds and installs libnnc",
    "cc main.c $(pkg-config --cflags --libs nnc)": "capi/tests/hosts.rs does it with the page's programs",
    "python examples/ray/": "examples/ray/check.py",
    "curl ": "examples/ray/tests/test_serving.py asks the same",
    "python3 python/wheel.py --release": ".ci/run builds the wheel in the profile of the tests",
    "python3 examples/ray/check.py": ".ci/run has it, with all tests",
    "pip install target/wheels/*.whl": "python/wheel.py does it, into target/python-venv",
    "mdbook build": ".ci/book.py",
    "perf record": "needs a terminal, and counters, which virtual machines often lack; compiler/tests/compile.rs looks at what nnc writes for it",
}
#: Programs that not everybody has, and with which nnc has nothing to do but to write for them.
TOOLS = {"man", "dot"}
#: Pages with Python that is run by other tests, and where; and those with lines of other files.
PYTHON_ELSEWHERE = {"README.md": "python/tests/test_package.py", "python.md": "python/tests/test_package.py"}
EXCERPTS = {"batch.md": "examples/ray", "serving.md": "examples/ray"}
STRICT = ["-Wall", "-Wextra", "-Werror", "-O1", "-fopenmp"]


@dataclass
class Block:
    language: str
    line: int
    text: str


def blocks(page):
    """What is fenced, and indented lines that are commands, as `sh`."""
    found, language, start, lines = [], None, 0, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            if language is None:
                language, start, lines = line[3:].strip() or "text", number, []
            else:
                found.append(Block(language, start, "\n".join(lines) + "\n"))
                language = None
        elif language is not None:
            lines.append(line)
        elif re.match(r"    (nnc|cargo|python3?|pip|curl|bash|mdbook|target/\S+) ", line):
            found.append(Block("sh", number, line.strip() + "\n"))
    return found


def commands(text):
    """The commands of a block, without what is said about them."""
    text = text.replace("\\\n", " ")
    lines = (re.sub(r"(^|\s{2,})#.*$|\s{4,}\S.*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


class Page:
    def __init__(self, page, folder):
        self.page, self.folder = page, folder
        self.names = {}
        self.continuous = " ".join((ROOT / ".ci" / "run").read_text().split())

    def fail(self, block, why):
        sys.exit(f"{self.page.name}, line {block.line}: {why}")

    def bring(self, text):
        """The files that a block speaks of."""
        for name in files.FILES:
            if re.search(rf"(^|[\s='\"(/~]){re.escape(name)}", text):
                files.put(name, self.folder, self.page.name)

    def run(self, block, command, timeout=300):
        options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "errors": "replace"}
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=self.folder, timeout=timeout, **options)
        if done.returncode != 0:
            self.fail(block, f"`{command}` ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def sh(self, block):
        for command in commands(block.text):
            begins = command.split()[0]
            if any(command.startswith(known) for known in ELSEWHERE):
                continue
            if begins not in ("nnc", "cc"):
                parts = [part for part in command.split(" && ") if not any(part.startswith(known) for known in ELSEWHERE)]
                missing = [part for part in parts if part not in self.continuous]
                if missing:
                    self.fail(block, f"`{missing[0]}` is not run: .ci/run does not have it, and ELSEWHERE in tests/pages/walk.py does not name it")
                continue
            before, _, tool = command.partition(" | ")
            if tool and tool.split()[0] in TOOLS and not shutil.which(tool.split()[0]):
                command = before
            # NAME is for the reader to fill in, with that of a pass.
            command = command.replace("NAME", "fold_batch_norm")
            self.bring(command)
            self.run(block, command)
            print(f"{self.page.name}: {command}", flush=True)

    def c(self, block):
        """A program for `model.onnx`: it is compiled, and run if it is a whole one."""
        files.put("model.onnx", self.folder, self.page.name)
        (self.folder / "main.c").write_text(block.text)
        self.run(block, "nnc compile model.onnx --emit so,obj,header -o .")
        flags = [*STRICT, "-I", str(ROOT / "capi" / "include")]
        # Those that need libnnc are linked and run by capi/tests/hosts.rs.
        whole = "int main(" in block.text and "nnc.h" not in block.text
        for compiler in filter(shutil.which, ("gcc", "clang")):
            link = ["main.c", "model.nnc.o", "-o", "main"] if whole else ["-c", "main.c", "-o", "main.o"]
            self.run(block, " ".join([compiler, *flags, *link]) + (" && ./main" if whole else ""))
            print(f"{self.page.name}: the program of line {block.line}, {compiler}", flush=True)

    def python(self, block):
        if self.page.name in PYTHON_ELSEWHERE:
            return
        if self.page.name in EXCERPTS:
            texts = [file.read_text() for file in (ROOT / EXCERPTS[self.page.name]).glob("*.py")]
            there = {line.strip() for text in texts for line in text.splitlines()}
            for line in filter(None, map(str.strip, block.text.splitlines())):
                if line not in there | {"..."}:
                    self.fail(block, f"no file of {EXCERPTS[self.page.name]} has the line `{line}`")
            return
        exec(compile(block.text, str(self.page), "exec"), self.names)
        print(f"{self.page.name}: the program of line {block.line}", flush=True)

    def walk(self):
        with stand_ins.weights(self.page.name):
            for block in blocks(self.page):
                if block.language in ("sh", "c", "python"):
                    getattr(self, block.language)(block)


def main():
    page, folder = map(pathlib.Path, sys.argv[1:])
    os.chdir(folder)
    Page(page, folder).walk()


if __name__ == "__main__":
    main()
