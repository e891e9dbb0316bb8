"""Processes that run engines, seen from the command: started on given cores, asked one after the other, frozen between.

A worker that is not asked is stopped by a signal, with all its threads. So an engine may spin, as it likes, for the next
piece of work while it runs, and cannot take time from another one's run.
"""

import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile

START_SECONDS = 300


class WorkerError(Exception):
    """The worker said why it cannot go on, or ended."""


class Worker:
    """One engine with one network, ready to run. `load_ns` and `first_ns` are its time to load and its first run."""

    def __init__(self, command, environment, cores):
        if not shutil.which(command[0]):
            raise WorkerError(f"there is no {pathlib.Path(command[0]).name}; it could not be built")
        self._complaints = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [*pinned(cores), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            bufsize=1,
            env=os.environ | environment,
        )
        try:
            if not select.select([self._process.stdout], [], [], START_SECONDS)[0]:
                raise WorkerError(f"not ready after {START_SECONDS} s")
            self.load_ns, self.first_ns = map(int, self._answer("ready"))
            self.peak_bytes = peak_bytes(self._process.pid)
        except BaseException:
            self.end()
            raise
        self._freeze()

    def run(self, count):
        """Nanoseconds of so many runs."""
        return list(map(int, self._ask(f"run {count}", "runs")))

    def write_outputs(self, file):
        """Writes the outputs of the last run, in the form that its engine reads."""
        self._ask(f"outputs {file}", "wrote")

    def end(self):
        self._process.kill()
        self._process.communicate()
        self._complaints.close()

    def _freeze(self):
        self._process.send_signal(signal.SIGSTOP)

    def _ask(self, request, kind):
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(request + "\n")
            return self._answer(kind)
        except OSError as error:
            raise WorkerError("ended") from error
        finally:
            self._freeze()

    def _answer(self, kind):
        line = self._process.stdout.readline()
        word, _, rest = line.strip().partition(" ")
        if word == kind:
            return rest.split()
        reason = rest if word == "error" else f"ended with {self._process.wait()}"
        self._complaints.seek(0)
        last = self._complaints.read().strip().splitlines()[-1:]
        raise WorkerError(": ".join([reason, *last]))


def pinned(cores):
    """The beginning of a command line that keeps a process on these cores, with all threads that it will start."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores))]


def peak_bytes(pid):
    """The most memory that a process has had resident so far."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError as error:
        raise WorkerError("ended before its memory could be read") from error
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise WorkerError("its memory cannot be read")
