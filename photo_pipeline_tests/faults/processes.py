"""Processes that tests may kill: each is forked from a server that has imported everything.

A fresh interpreter needs 2 to 4 s for its imports. `serve` is the server's side, `Runner` the test's.
"""

import importlib
import json
import multiprocessing
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a process ended; `was_struck` if the test did something to it in the middle of its work."""

    code: int
    was_struck: bool = False

    @property
    def died(self) -> bool:
        """Whether it was ended by SIGKILL, by the test or by itself."""
        return self.code == -signal.SIGKILL


def kill(pid: int) -> None:
    """SIGKILL: no handler, no `finally`."""
    os.kill(pid, signal.SIGKILL)


class Runner:
    """Runs requests in real processes, one at a time.

    `module` has a function `follow(request)`, which a process calls with what the test sent, and a list
    `IMPORTED_LATE` of modules that it imports on its way.
    """

    def __init__(self, module: str, log: Path) -> None:
        # With `-c` there is no main module that each new process would have to import again.
        program = f"from photo_pipeline_tests.faults.processes import serve; serve({module!r})"
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,  # `select` must see every byte that was not read
            )

    def run(
        self,
        request: Mapping[str, Any],
        *,
        environment: Mapping[str, str],
        log: Path,
        strike_after_s: float | None = None,
        strike: Callable[[int], object] = kill,
    ) -> Ended:
        """Follow the request in a new process.

        Args:
            request: What it is to follow.
            environment: Its environment.
            log: Receives what it prints.
            strike_after_s: Seconds until `strike`, which does not come if the process has ended before.
            strike: Called with the process's id.
        """
        assert self._process.stdin
        line = json.dumps({"environment": dict(environment), "log": str(log), "request": dict(request)})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        pid = int(self._answer())
        struck = strike_after_s is not None and not self._has_answered(within_s=strike_after_s)
        if struck:
            strike(pid)
        return Ended(int(self._answer()), was_struck=struck)

    def stop(self) -> None:
        """End the server."""
        self._process.communicate()
        assert self._process.returncode == 0

    def _answer(self) -> bytes:
        assert self._process.stdout
        return self._process.stdout.readline()

    def _has_answered(self, *, within_s: float) -> bool:
        assert self._process.stdout
        # Nothing is ever left in the reader's own buffer: one line is asked for, one is sent.
        return bool(select.select([self._process.stdout], [], [], within_s)[0])


def serve(module: str) -> None:
    """Follow requests, each in a process of its own; answer with its id, and with its exit code."""
    imported: Sequence[str] = importlib.import_module(module).IMPORTED_LATE
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([module, *imported])
    for line in sys.stdin:
        process = processes.Process(target=_run, kwargs={"module": module} | json.loads(line))
        process.start()
        print(process.pid, flush=True)
        process.join()
        print(process.exitcode, flush=True)


def _run(module: str, environment: dict[str, str], log: str, request: dict[str, Any]) -> None:
    with Path(log).open("ab") as target:
        os.dup2(target.fileno(), 1)
        os.dup2(target.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    importlib.import_module(module).follow(request)
