"""A command in a real pseudo-terminal, read as a person would: what has appeared so far."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

PROGRAM = Path(sys.executable).with_name("photo-pipeline")
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class TerminalRun:
    """`photo-pipeline ARGUMENTS` with a terminal as its input and output; a context manager."""

    def __init__(
        self, *arguments: str, columns: int = 100, rows: int = 40, env: Mapping[str, str] | None = None
    ) -> None:
        self._terminal, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        unset = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        self.raw = ""
        self.process = subprocess.Popen(
            [PROGRAM, *arguments],
            stdin=child,
            stdout=child,
            stderr=child,
            env=environment | {"TERM": "xterm-256color"} | dict(env or {}),
            start_new_session=True,
        )
        os.close(child)

    @property
    def text(self) -> str:
        """Everything that was written so far, without colours and movements."""
        return _CONTROLS.sub("", self.raw)

    def wait_for(self, pattern: str, *, timeout_s: float = 60) -> re.Match[str]:
        """Read on until the pattern has appeared.

        Raises:
            AssertionError: it did not, in that time or before the program ended.
        """
        deadline = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.text)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} never appeared in:\n{self.text[-2000:]}"
            assert self._read(left), f"it ended without {pattern!r}:\n{self.text[-2000:]}"
        return found

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self, *, timeout_s: float = 60) -> int:
        """Read the rest and return the exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(max(0.1, deadline - time.monotonic())):
            pass
        return self.process.wait(timeout=10)

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._terminal], [], [], timeout_s)[0]:
            return False
        try:
            piece = os.read(self._terminal, 65_536)
        except OSError:  # Linux says EIO when the other side has been closed
            return False
        self.raw += piece.decode(errors="replace")
        return bool(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._terminal)
