"""The server, as its users meet it: over HTTP, in a process of its own."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from conftest import HEIGHT, WIDTH
from PIL import Image

import nnc

SERVING = pathlib.Path(__file__).resolve().parent.parent / "serving.py"
#: Those that docs/serving.md speaks of.
METRICS = (
    "ray_nnc_pictures_total",
    "ray_serve_actual_batch_size",
    "ray_serve_batches_processed_total",
    "ray_serve_deployment_processing_latency_ms",
    "ray_serve_deployment_queued_queries",
    "ray_serve_num_http_error_requests_total",
    "ray_serve_num_http_requests_total",
)
PATIENCE = 120


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read().decode()


def post(url, body):
    """The status and the answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until(condition, what):
    """What the condition says as soon as it says anything."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if found := condition():
                return found
        time.sleep(0.2)
    pytest.fail(f"waited {PATIENCE} seconds for {what}")


class Server:
    def __init__(self, model, folder):
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log"
        settings = {"RAY_metrics_report_interval_ms": "1000"}
        command = [sys.executable, "-B", SERVING, model, "--port", self.port, "--metrics-port", self.metrics_port]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(map(str, command), env=os.environ | settings, stdout=log, stderr=log)
        try:
            until(self.ready, "the server")
        except BaseException:
            self.process.kill()
            raise

    def ready(self):
        assert self.process.poll() is None, self.log.read_text()
        return "is ready" in self.log.read_text()

    def metric(self, name):
        """The sum of a metric over all its labels."""
        lines = re.findall(rf"^{name}(?:\{{.*\}})? ([0-9.e+]+)$", get(f"http://127.0.0.1:{self.metrics_port}/metrics"), re.M)
        return sum(map(float, lines))


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    server = Server(model, tmp_path_factory.mktemp("server"))
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="module")
def expected(model, lines):
    """Bodies of requests, and what a session alone says of each."""
    session = nnc.InferenceSession(model)
    pictures = {}
    for file in sorted(lines.iterdir())[:64]:
        picture = np.asarray(Image.open(file), np.float32) / 127.5 - 1
        pictures[file.read_bytes()] = session.run(None, {"x": np.ascontiguousarray(picture.transpose(2, 0, 1))[None]})[0][0]
    return pictures


def test_it_is_healthy_and_answers(server, expected):
    assert get(f"{server.url}/-/healthz") == "success"
    body, scores = next(iter(expected.items()))
    status, answer = post(f"{server.url}/score", body)
    assert status == 200
    np.testing.assert_allclose(answer["scores"], scores, rtol=1e-5, atol=1e-6)


def test_what_is_no_picture_is_refused(server):
    status, answer = post(f"{server.url}/score", b"no picture")
    assert status == 400 and "no picture" in answer["error"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{server.url}/score")
    assert refused.value.code == 405
    assert get(f"{server.url}/-/healthz") == "success"


def test_requests_that_come_together_run_together(server, expected):
    ask = lambda body: post(f"{server.url}/score", body)
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(ask, expected))
    for (status, answer), scores in zip(answers, expected.values()):
        assert status == 200, answer
        np.testing.assert_allclose(answer["scores"], scores, rtol=1e-5, atol=1e-6)
    # One request came alone, in the test before.
    until(lambda: server.metric("ray_nnc_pictures_total") == len(expected) + 1, "the metrics of all runs")
    assert len(expected) / 4 <= server.metric("ray_serve_batches_processed_total") < len(expected)
    # The server's own processes report in turns.
    until(lambda: server.metric("ray_serve_num_http_requests_total") >= len(expected), "the metrics of all requests")
    until(lambda: server.metric("ray_serve_deployment_processing_latency_ms_count") >= len(expected), "the metrics of all requests")
    # Those of the test before.
    until(lambda: server.metric("ray_serve_num_http_error_requests_total") == 2, "the metrics of requests that were refused")
    page = get(f"http://127.0.0.1:{server.metrics_port}/metrics")
    assert [name for name in METRICS if not re.search(rf"^{name}(_count)?\{{", page, re.M)] == []


def test_it_stops_when_asked_to(server):
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0, server.log.read_text()
    with pytest.raises(OSError):
        get(f"{server.url}/-/healthz")
