#!/usr/bin/env python3
"""A network behind HTTP, by Ray Serve: requests are put together to batches, replicas share the work, and what happens is counted.

    python serving.py MODEL --port 8000          MODEL.onnx with an open dim for the batch, or with a batch of one

    curl --data-binary @picture.png http://127.0.0.1:8000/score     {"scores": [0.97, 0.03]}
    curl http://127.0.0.1:8000/-/healthz                            success

    POST /score ──▶ replica: decode, wait for others (at most `WAIT` seconds or `MOST` pictures) ──▶ one run ──▶ answers

A program is for one size of the batch, so a replica compiles one for each size from 1 to `MOST` before it takes its first request;
their weights are in memory once. Runs are on another thread than Serve's event loop: requests are taken while the network computes.
"""

import argparse
import asyncio
import io
import os
import signal

import numpy as np

# Ray asks its makers' server on start-up what is new, unless it is told not to.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from PIL import Image, UnidentifiedImageError
from ray import serve
from ray.util.metrics import Counter
from starlette.requests import Request
from starlette.responses import JSONResponse

import nnc

#: Pictures in a run at most, and how long the first one waits for others.
MOST, WAIT = 4, 0.005
#: Bytes of a picture's file at most.
LARGEST = 16 << 20


@serve.deployment(max_ongoing_requests=4 * MOST, max_queued_requests=64, health_check_period_s=5, ray_actor_options={"num_cpus": 1})
class Scores:
    """A replica: one session with one thread."""

    def __init__(self, model: str, shape: tuple[int, int, int]) -> None:
        options = nnc.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = nnc.InferenceSession(model, options)
        self.input = self.session.get_inputs()[0].name
        self.shape = shape
        self.known = self.run(np.zeros((1, *shape), np.float32))
        for batch in range(2, MOST + 1):
            self.run(np.zeros((batch, *shape), np.float32))
        self.scored = Counter("nnc_pictures", "Pictures that were scored.", tag_keys=("model",))
        self.scored.set_default_tags({"model": os.path.basename(model)})

    def run(self, pictures: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.input: pictures})[0]

    def check_health(self) -> None:
        """Serve calls this now and then, and replaces the replica when it raises."""
        if not np.array_equal(self.run(np.zeros((1, *self.shape), np.float32)), self.known):
            raise RuntimeError("the network computes something else than at the start")

    @serve.batch(max_batch_size=MOST, batch_wait_timeout_s=WAIT)
    async def score(self, pictures: list[np.ndarray]) -> list[np.ndarray]:
        scores = await asyncio.to_thread(self.run, np.stack(pictures))
        self.scored.inc(len(pictures))
        return list(scores)

    def prepare(self, file: bytes) -> np.ndarray:
        """A picture's file as [3, height, width] between -1 and 1."""
        _, height, width = self.shape
        picture = Image.open(io.BytesIO(file)).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        return np.ascontiguousarray((np.asarray(picture, np.float32) / 127.5 - 1).transpose(2, 0, 1))

    async def __call__(self, request: Request) -> JSONResponse:
        if request.method != "POST":
            return JSONResponse({"error": "POST a picture"}, 405)
        if int(request.headers.get("content-length", 0)) > LARGEST:
            return JSONResponse({"error": f"the picture has more than {LARGEST} bytes"}, 413)
        try:
            picture = await asyncio.to_thread(self.prepare, await request.body())
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
            return JSONResponse({"error": f"this is no picture: {error}"}, 400)
        return JSONResponse({"scores": (await self.score(picture)).ravel().tolist()})


def start(model: str, shape: tuple[int, int, int], replicas: int, port: int) -> None:
    """Serves until `serve.shutdown()`; returns when all replicas are ready."""
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Scores.options(num_replicas=replicas).bind(os.path.abspath(model), shape), route_prefix="/score")


async def told_to_stop() -> None:
    """Until somebody presses Ctrl-C, or what runs the server ends it."""
    told = asyncio.Event()
    for number in signal.SIGINT, signal.SIGTERM:
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--size", default="48x192", help="HxW of a picture")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--metrics-port", type=int, default=8080)
    arguments = parser.parse_args()
    ray.init(include_dashboard=False, _metrics_export_port=arguments.metrics_port)
    height, width = map(int, arguments.size.split("x"))
    start(arguments.model, (3, height, width), arguments.replicas, arguments.port)
    print(f"http://127.0.0.1:{arguments.port}/score is ready", flush=True)
    asyncio.run(told_to_stop())
    serve.shutdown()


if __name__ == "__main__":
    main()
