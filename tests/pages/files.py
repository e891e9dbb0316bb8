"""The files that the pages speak of: a reader would have them."""

import json
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGES = ROOT / "tests" / "trained" / "pictures"
PICTURES = ROOT / "image" / "tests" / "pictures"
TRAINED = pathlib.Path(os.environ.get("NNC_TRAINED") or ROOT / "target" / "trained")
CLASSES, SIZE = 1000, 64


def network(file, seed=0):
    """A small classifier from `x` to `y`."""
    import onnx

    width = ["--width", "0.35", "--resolution", str(SIZE), "--seed", str(seed)]
    subprocess.run(["nnc", "models", "write", "mobilenet-v2", *width, "-o", file], check=True, stdout=subprocess.DEVNULL)
    model = onnx.load(file)
    calls = {model.graph.input[0].name: "x", model.graph.output[0].name: "y"}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [calls.get(name, name) for name in names]
    for port in (*model.graph.input, *model.graph.output):
        port.name = calls.get(port.name, port.name)
    onnx.save(model, file)


def seeded(file, shape):
    import numpy

    numpy.save(file, numpy.random.default_rng(0).standard_normal(shape).astype("float32"))


def renamed(file, network, dims):
    """A network of PP-OCR, with names for its open dims."""
    import onnx

    model = onnx.load(TRAINED / network)
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, dims):
        if name:
            dim.dim_param = name
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    onnx.save(model, file)


def case(file):
    """What somebody else computes of `model.onnx`."""
    import numpy
    import onnxruntime

    model = file.with_name("model.onnx")
    if not model.exists():
        network(model)
    x = numpy.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE)).astype("float32")
    (y,) = onnxruntime.InferenceSession(model).run(["y"], {"x": x})
    numpy.savez(file, x=x, y=y)


def folder(file):
    file.mkdir()
    for number, page in enumerate(("rgb.jpg", "grey.jpg")):
        shutil.copy(PICTURES / page, file / f"{number}.jpg")


LABELS = [f"class {number}" for number in range(CLASSES)]
FILES = {
    "model.onnx": network,
    "net.onnx": network,
    "a.onnx": network,
    "b.onnx": lambda file: network(file, seed=1),
    "detector.onnx": lambda file: renamed(file, "ch_PP-OCRv4_det_infer.onnx", ("", "", "", "")),
    "recogniser.onnx": lambda file: renamed(file, "ch_PP-OCRv4_rec_infer.onnx", ("batch", "", "", "width")),
    "classifier.onnx": lambda file: renamed(file, "ch_ppocr_mobile_v2.0_cls_infer.onnx", ("batch", "", "height", "width")),
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": lambda file: shutil.copy(TRAINED / file.name, file),
    "photo.jpg": lambda file: shutil.copy(PICTURES / "rgb.jpg", file),
    "cat.jpg": lambda file: shutil.copy(PICTURES / "rgb.jpg", file),
    "line.png": lambda file: shutil.copy(PAGES / "receipt.png", file),
    "photos/": folder,
    "imagenet.txt": lambda file: file.write_text("\n".join(LABELS)),
    "labels.txt": lambda file: file.write_text("\n".join(LABELS)),
    "labels.json": lambda file: file.write_text(json.dumps(LABELS)),
    "x.npy": lambda file: seeded(file, (1, 3, SIZE, SIZE)),
    "lines.npy": lambda file: seeded(file, (2, 3, 48, 320)),
    "case.npz": case,
    ".local/share/bash-completion/completions/": lambda file: file.mkdir(parents=True),
}
#: What a page means by names that another one has for something else.
OF_PAGES = {"embedding.md": {"detector.onnx": network, "recogniser.onnx": lambda file: network(file, seed=1)}}


def put(name, folder, page):
    """Makes a file of this name in the folder, unless it is there: the page may have made it itself."""
    file = folder / name
    if not file.exists():
        OF_PAGES.get(page, {}).get(name, FILES[name])(file)
