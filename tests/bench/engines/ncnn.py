"""ncnn: converted by pnnx without half-precision weights and computed in f32.

pnnx leaves two operators of NASNet as they are in ONNX, which ncnn then does not know. It has both, so they are translated
here; otherwise there would be nothing to compare with.
"""

import importlib.util
import pathlib
import shutil
import subprocess

from engines.base import Engine, only_input


class Ncnn(Engine):
    def prepare(self, case, tools):
        """pnnx writes beside its input; `in0` and `out0` are the names it gives to input and output."""
        package = importlib.util.find_spec("pnnx")
        if package is None:
            raise RuntimeError("pnnx is not installed")
        folder = case.onnx.with_suffix(".ncnn")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(case.onnx, folder / "m.onnx")
        shape = ",".join(map(str, only_input(case).shape))
        command = [pathlib.Path(package.origin).parent / "pnnx", "m.onnx", f"inputshape=[{shape}]", "fp16=0"]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        files = [folder / "m.ncnn.param", folder / "m.ncnn.bin"]
        if not all(file.exists() for file in files):
            lines = done.stdout.strip().splitlines()
            raise RuntimeError(f"pnnx ended with {done.returncode}: {lines[-1] if lines else 'it said nothing'}")
        translate(files[0], folder / "m.pnnx.param")
        return files


def translate(param, graph):
    """Rewrites the layers of `param` that are still ONNX operators; `graph`, pnnx's own form, has their attributes.

    Both files have lines of a type, a name, the number of inputs and of outputs, their names, then attributes.
    """
    attributes = {}
    for line in graph.read_text().splitlines():
        words = line.split()
        if words[0] in ("Pad", "AveragePool"):
            pairs = (word.split("=", 1) for word in words[4:] if "=" in word)
            attributes[words[1]] = {key: [int(n) for n in value.strip("()").split(",")]
                                    for key, value in pairs if not key.startswith(("#", "$"))}
    lines = []
    for line in param.read_text().splitlines():
        words = line.split()
        if words[0] == "Pad":
            pads = attributes[words[1]]["pads"]
            top, left, bottom, right = *pads[2:4], *pads[6:8]
            if any(pads[:2] + pads[4:6]):
                raise RuntimeError(f"{words[1]} pads more than rows and columns")
            words[0] = "Padding"
            words += [f"0={top}", f"1={bottom}", f"2={left}", f"3={right}", "4=0", "5=0.0"]
        elif words[0] == "AveragePool":
            found = attributes[words[1]]
            (height, width), (down, across) = found["kernel_shape"], found["strides"]
            top, left, bottom, right = found.get("pads", [0] * 4)
            words[0] = "Pooling"
            words += ["0=1", f"1={width}", f"11={height}", f"2={across}", f"12={down}", "5=1"]
            words += [f"3={left}", f"13={top}", f"14={right}", f"15={bottom}", f"6={found['count_include_pad'][0]}"]
        else:
            lines.append(line)
            continue
        lines.append(" ".join(words))
    param.write_text("\n".join(lines) + "\n")


ENGINE = Ncnn(
    "ncnn",
    package="ncnn",
    lacks={"int8": "it reads no quantised ONNX models, and no Python package has the programs that make its own (ncnn2table, ncnn2int8)"},
)


def load(model, inputs, threads, precision):
    import ncnn
    import numpy as np

    class Net:
        def __init__(self):
            self._net = ncnn.Net()
            options = self._net.opt
            options.num_threads = threads
            for name in dir(options):
                if name.startswith(("use_fp16", "use_bf16")):
                    setattr(options, name, precision == "bf16" and name.startswith("use_bf16"))
            if self._net.load_param(str(model)) or self._net.load_model(str(pathlib.Path(model).with_suffix(".bin"))):
                raise RuntimeError("ncnn cannot load the model")
            self._input = ncnn.Mat(next(iter(inputs.values()))[0])
            self._output = None

        def run(self):
            extractor = self._net.create_extractor()
            extractor.input("in0", self._input)
            failed, self._output = extractor.extract("out0")
            if failed:
                raise RuntimeError(f"ncnn's extract returned {failed}")

        def outputs(self):
            return [np.array(self._output)]

    return Net()
