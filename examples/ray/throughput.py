"""Pictures a second through one pipeline, with nnc and with onnxruntime in its actors: `check.py --throughput` runs it.

Pictures of noise go through `batch.score` to one actor for each core, each with one thread. An actor notes when it has finished a batch;
pictures a second are those between the first and the last of these times, of all actors, so what it takes to start them does not count.
The engines take turns; of each the best of `ROUNDS` counts. Outputs are compared first.
"""

import logging
import os
import pathlib
import sys
import time

import batch
import numpy as np
import onnxruntime
import ray
from ray.data import DataContext

import nnc

ROUNDS = 5
ACTORS = os.cpu_count()
BATCH = 8
#: Network, its input, height and width of a picture, how many pictures.
CASES = (
    ("ch_ppocr_mobile_v2.0_cls_infer.onnx", "x", (48, 192), 8192),
    ("nudenet_320n.onnx", "images", (320, 320), 256),
)


class Timed(batch.Scorer):
    """Says when it was done with each batch, and the sum of a picture's scores instead of all of them."""

    def __call__(self, rows):
        sums = super().__call__(rows)["scores"].astype(np.float64).sum(axis=1)
        return {"path": rows["path"], "sum": sums, "done": np.full(len(sums), time.monotonic())}


class Peer(Timed):
    """The same actor with a session of onnxruntime."""

    def __init__(self, program, batch, model):
        self.model = model
        super().__init__(program, batch)

    def open(self, program):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])


def pictures(count, size):
    def make(rows):
        noise = np.random.default_rng(int(rows["id"][0]))
        images = noise.integers(0, 256, (len(rows["id"]), *size, 3), np.uint8)
        return {"image": images, "path": rows["id"].astype(str)}

    return ray.data.range(count, override_num_blocks=16).map_batches(make, batch_size=4 * BATCH).materialize()


def measured(dataset, program, scorer, **settings):
    """Sums by picture, and pictures a second."""
    rows = batch.score(dataset, program, ACTORS, scorer, **settings).take_all()
    done = [row["done"] for row in rows]
    first = min(done)
    return {row["path"]: row["sum"] for row in rows}, (len(rows) - done.count(first)) / (max(done) - first)


def main():
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    DataContext.get_current().enable_progress_bars = False
    ray.init(num_cpus=ACTORS + 1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    folder = pathlib.Path(os.environ["NNC_TRAINED"])
    for network, name, size, count in CASES:
        if sys.argv[1:] and not any(part in network for part in sys.argv[1:]):
            continue
        program = str(folder.parent / f"{network}.ray.so")
        nnc.compile(folder / network, program, shapes={name: (BATCH, 3, *size)})
        dataset = pictures(count, size)
        rates = {"nnc": [], "onnxruntime": []}
        for _ in range(ROUNDS):
            ours, rate = measured(dataset, program, Timed)
            rates["nnc"].append(rate)
            theirs, rate = measured(dataset, program, Peer, model=str(folder / network))
            rates["onnxruntime"].append(rate)
            assert ours.keys() == theirs.keys() and len(ours) == count
            np.testing.assert_allclose([ours[path] for path in theirs], list(theirs.values()), rtol=1e-4, atol=1e-4)
        best = {engine: max(of) for engine, of in rates.items()}
        told = "  ".join(f"{engine} {rate:8.1f}" for engine, rate in best.items())
        print(f"{network}: pictures a second: {told}  ratio {best['nnc'] / best['onnxruntime']:.2f}", flush=True)
        os.unlink(program)


if __name__ == "__main__":
    main()
