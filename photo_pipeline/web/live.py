"""One reader for all who watch, and the stream of server-sent events that each of them gets.

The state is read once a second while anybody watches, however many do, and when a page is asked for.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from anyio import to_thread
from pydantic import TypeAdapter

from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline.core.live.state import LiveState

EVERY_S: Final = 1.0
HEARTBEAT_S: Final = 15.0
MOST_WATCHERS: Final = 64

_ADAPTER: Final = TypeAdapter(LiveState)


@dataclass(frozen=True)
class Problem:
    """Why there is no fresh state: the database is away, say."""

    thing: str
    cause: str
    fix: str
    sentence: str


@dataclass(frozen=True)
class Look:
    """The last state that could be read, if any, and what keeps us from a fresher one.

    Attributes:
        number: Rises with each look that differs from the one before.
        state: The last state; None before the first.
        problem: What is wrong at this moment; None: nothing.
    """

    number: int
    state: LiveState | None
    problem: Problem | None

    @property
    def document(self) -> dict[str, Any]:
        """The look as JSON takes it: the keys of `LiveState`, and `problem`."""
        plain = _ADAPTER.dump_python(self.state, mode="json") if self.state else {}
        return {**plain, "problem": asdict(self.problem) if self.problem else None}


class Live:
    """Shares one reader among all pages and streams of this process."""

    def __init__(
        self,
        read: Callable[[], LiveState],
        *,
        is_ending: Callable[[], bool] = lambda: False,
        every_s: float = EVERY_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        """Share `read`.

        Args:
            read: Reads the state; called in a thread, never twice at the same time.
            is_ending: Whether the server is about to stop: then the streams end.
            every_s: How often to look.
            heartbeat_s: How often a stream says that it is alive while nothing changes.
        """
        self._read = read
        self._is_ending = is_ending
        self._every_s = every_s
        self._heartbeat_s = heartbeat_s
        self._look = Look(0, None, None)
        self._looked_at = float("-inf")
        self._lock = asyncio.Lock()
        self.watchers = 0

    async def look(self, *, fresh: bool = False) -> Look:
        """Return how it stands: as of now if `fresh`, else at most `every_s` old."""
        async with self._lock:
            if fresh or time.monotonic() - self._looked_at >= self._every_s:
                self._look = await to_thread.run_sync(self._next)
                self._looked_at = time.monotonic()
            return self._look

    def _next(self) -> Look:
        last = self._look
        try:
            state = self._read()
        except PhotoPipelineError as error:
            problem = Problem(error.thing, error.cause, error.fix, str(error))
            return last if problem == last.problem else Look(last.number + 1, last.state, problem)
        changed = last.problem is not None or not state.unchanged_since(last.state)
        return Look(last.number + changed, state, None)

    async def stream(self) -> AsyncIterator[str]:
        """Yield server-sent events: the state at once and whenever it changed, else heartbeats."""
        self.watchers += 1
        try:
            yield "retry: 2000\n\n"
            seen, spoke = -1, time.monotonic()
            while not self._is_ending():
                look = await self.look()
                if look.number != seen:
                    seen, spoke = look.number, time.monotonic()
                    yield _event("state", look.document, number=look.number)
                elif time.monotonic() - spoke >= self._heartbeat_s:
                    spoke = time.monotonic()
                    yield _event("heartbeat", {"at": utc_now().isoformat()})
                await asyncio.sleep(self._every_s)
        finally:
            self.watchers -= 1


def _event(name: str, document: dict[str, Any], *, number: int | None = None) -> str:
    # JSON has no bare line breaks, so that one data line holds it.
    text = json.dumps(document, separators=(",", ":"))
    identity = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{identity}data: {text}\n\n"
