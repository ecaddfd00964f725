"""A cap on how many bytes a second go to and from the store, shared by all threads of this process.

Each body books its place on a line of that width and waits for its turn, so that the mean rate holds exactly
and no thread starves. The grain is one body (or one part of a large one): while it is sent it goes as fast as
the network takes it. Every process has a cap of its own.
"""

import threading
import time
from collections.abc import Callable


class Bandwidth:
    """Thread-safe; without a rate nothing waits."""

    def __init__(
        self,
        bytes_per_s: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at_s = clock()

    def wait_for(self, size: int) -> None:
        """Return when `size` bytes may be sent."""
        wait_s = self.book(size)
        if wait_s > 0:
            self._sleep(wait_s)

    def book(self, size: int) -> float:
        """Book `size` bytes without waiting, for what is sent already; return the seconds till its turn."""
        if self._rate is None or not size:
            return 0.0
        with self._lock:
            now_s = self._clock()
            begins_s = max(now_s, self._free_at_s)
            self._free_at_s = begins_s + size / self._rate
            return begins_s - now_s
