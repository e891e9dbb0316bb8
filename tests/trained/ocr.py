#!/usr/bin/env python3
"""Reads pages by the pipeline of `rapidocr-onnxruntime`: once as it is, and once with its three sessions replaced by nnc.

    target/ocr-venv/bin/python tests/trained/ocr.py SERVE [--rounds N]

`fetch.py` makes that environment.

SERVE is the test `ocr`, which runs this script, and serves a model when it is asked to (tests/src/serve.rs). The pipeline finds
lines of text (detector), turns them upright (classifier) and reads them (recogniser); everything between the networks is its own
code both times. Each page must give the same lines: the same text exactly, corners within BOX pixels, scores within SCORE. Says
for each page what was read, and for each network how long its runs took; ends with exit code 1 when anything differs.

With `--rounds N` each page is read N times, and the times are those of all rounds but the first: for nnc compiling is in none of them.
"""

import pathlib
import struct
import subprocess
import sys
import time

import cv2
import numpy
import rapidocr_onnxruntime

HERE = pathlib.Path(__file__).resolve().parent
# Corners come from contours of the thresholded map, whole pixels of the page.
BOX = 1.0
# Scores are averages of probabilities.
SCORE = 1e-4
# The pages, and a line that onnxruntime must read on each: a page on which nothing is found shows nothing. `None` is no text at all.
PAGES = {
    "page.png": "Let us first determine markers of the coins and the",
    "text.png": "S=",
    "rocket.png": "米",
    "letter.png": "Please send more paper!",
    "receipt.png": "CORNER SHOP",
    "sign.png": "open every day from 7 to 19",
    "turned.png": "Handle with care,glass inside",
    "chinese.png": "今天天气很好",
    "coffee.png": None,
}


class Timed:
    """A session of onnxruntime, with the time that it takes."""

    def __init__(self, session):
        self.session = session
        self.runs = []

    def __call__(self, x):
        start = time.perf_counter()
        outputs = self.session(x)
        self.runs.append((x.shape, time.perf_counter() - start))
        return outputs

    def __getattr__(self, name):
        return getattr(self.session, name)


class Served:
    """The same network, run by nnc. What the pipeline asks a session besides (labels of the recogniser) onnxruntime answers."""

    def __init__(self, session, serve, model):
        self.session = session
        self.runs = []
        self.process = subprocess.Popen([serve, "serve", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, x):
        x = numpy.ascontiguousarray(x, dtype="<f4")
        self.process.stdin.write(struct.pack(f"<{1 + x.ndim}I", x.ndim, *x.shape))
        self.process.stdin.write(x.tobytes())
        self.process.stdin.flush()
        if self.read("I")[0] != 0:
            (length,) = self.read("I")
            sys.exit(f"ocr.py: nnc: {self.process.stdout.read(length).decode()}")
        nanos, count = self.read("QI")
        self.runs.append((x.shape, nanos / 1e9))
        return [self.tensor() for _ in range(count)]

    def read(self, layout):
        layout = "<" + layout
        data = self.process.stdout.read(struct.calcsize(layout))
        if len(data) != struct.calcsize(layout):
            sys.exit(f"ocr.py: the program that runs nnc has ended, exit code {self.process.wait()}")
        return struct.unpack(layout, data)

    def tensor(self):
        (rank,) = self.read("I")
        shape = self.read(f"{rank}I")
        data = self.process.stdout.read(4 * int(numpy.prod(shape)))
        return numpy.frombuffer(data, dtype="<f4").reshape(shape).copy()

    def __getattr__(self, name):
        return getattr(self.session, name)

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit(f"ocr.py: the program that runs nnc has ended with exit code {self.process.returncode}")


def networks(pipeline, replace):
    """Puts what `replace` makes of each session in its place; returns it by the network's name."""
    models = pathlib.Path(rapidocr_onnxruntime.__file__).parent / "models"
    files = {
        "detector": (pipeline.text_det, "infer", "ch_PP-OCRv4_det_infer.onnx"),
        "classifier": (pipeline.text_cls, "infer", "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        "recogniser": (pipeline.text_rec, "session", "ch_PP-OCRv4_rec_infer.onnx"),
    }
    replaced = {}
    for name, (owner, attribute, file) in files.items():
        replaced[name] = replace(getattr(owner, attribute), str(models / file))
        setattr(owner, attribute, replaced[name])
    return replaced


def read(pipeline, page):
    """Lines of a page: corners, text and score."""
    # As pixels: the pipeline takes the numbers of a palette for gray levels.
    lines, _ = pipeline(cv2.imread(str(HERE / "pictures" / page)))
    return [(numpy.array(box), text, float(score)) for box, text, score in lines or []]


def difference(expected, found):
    """What two readings of a page differ in; `None` if in nothing."""
    if [text for _, text, _ in expected] != [text for _, text, _ in found]:
        return f"onnxruntime reads {[text for _, text, _ in expected]}, nnc {[text for _, text, _ in found]}"
    for (box, text, score), (other_box, _, other_score) in zip(expected, found):
        if not abs(box - other_box).max() <= BOX:
            return f'the corners of "{text}" are {box.tolist()} and {other_box.tolist()}'
        if not abs(score - other_score) <= SCORE:
            return f'the scores of "{text}" are {score} and {other_score}'
    return None


def main():
    serve = sys.argv[1]
    rounds = int(sys.argv[3]) if sys.argv[2:3] == ["--rounds"] else 1
    stock, replaced = rapidocr_onnxruntime.RapidOCR(), rapidocr_onnxruntime.RapidOCR()
    timed = networks(stock, lambda session, _: Timed(session))
    served = networks(replaced, lambda session, model: Served(session, serve, model))
    faults, furthest = 0, [0.0, 0.0]
    for page, words in PAGES.items():
        expected, found = read(stock, page), read(replaced, page)
        texts = [text for _, text, _ in expected]
        fault = difference(expected, found)
        if fault is None and (words not in texts if words else texts):
            fault = f"onnxruntime reads {texts}, not {words!r}"
        print(f"{page}: {fault or ' | '.join(texts) or 'no text'}")
        faults += fault is not None
        for (box, _, score), (other_box, _, other_score) in zip(expected, found):
            furthest = [max(furthest[0], abs(box - other_box).max()), max(furthest[1], abs(score - other_score))]
    print(f"corners differ by {furthest[0]:.3g} pixels at most, scores by {furthest[1]:.2g}")
    for each in (timed, served):
        for network in each.values():
            network.shapes = {shape for shape, _ in network.runs}
            if rounds > 1:
                network.runs.clear()
    for _ in range(rounds - 1):
        for page in PAGES:
            read(stock, page), read(replaced, page)
    for name in timed:
        ours, theirs = served[name], timed[name]
        print(
            f"{name}: {len(ours.runs)} runs, {len(ours.shapes)} shapes; "
            f"onnxruntime {sum(t for _, t in theirs.runs):.3f} s, nnc {sum(t for _, t in ours.runs):.3f} s"
            + (" with compiling" if rounds == 1 else "")
        )
        ours.close()
    print(f"{len(PAGES) - faults} of {len(PAGES)} pages are read the same")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
