"""`photo-pipeline status --watch`: how it stands, again and again, until Ctrl-C."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from photo_pipeline.cli.command import DONE
from photo_pipeline.cli.watching_view import line_of, view_of
from photo_pipeline.core.errors import DatabaseError
from photo_pipeline.core.live.state import LiveReader, LiveState
from photo_pipeline.core.project import Project
from photo_pipeline.terminal import Terminal

Look = LiveState | DatabaseError


def watch(
    project: Project,
    terminal: Terminal,
    *,
    interval_s: float,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Show the state until Ctrl-C, which is the way to end it, and return the exit code.

    In a terminal it is drawn in place; elsewhere a line is said whenever it reads otherwise than the last
    one, and with --json a document on one line. A database that does not answer is told, and asked again.
    """
    looks = _looks(LiveReader(project.database, project.config), interval_s, wait)
    try:
        if terminal.draws:
            _draw(terminal, looks)
        elif terminal.as_json:
            _write_documents(terminal, looks)
        else:
            _say_lines(terminal, looks)
    except KeyboardInterrupt:
        terminal.note("Stopped watching. The migration goes on without it.")
    return DONE


def _looks(reader: LiveReader, interval_s: float, wait: Callable[[float], None]) -> Iterator[Look]:
    while True:
        try:
            look: Look = reader.read()
        except DatabaseError as error:
            look = error
        yield look
        wait(interval_s)


def _draw(terminal: Terminal, looks: Iterator[Look]) -> None:
    state: LiveState | None = None
    with terminal.drawing() as draw:
        for look in looks:
            state = look if isinstance(look, LiveState) else state
            problem = str(look) if isinstance(look, DatabaseError) else ""
            draw(partial(view_of, state, problem))


def _say_lines(terminal: Terminal, looks: Iterator[Look]) -> None:
    said = ""
    for look in looks:
        line = line_of(look) if isinstance(look, LiveState) else str(look)
        if line != said:
            at = f"{look.as_of:%H:%M:%S} UTC  " if isinstance(look, LiveState) else ""
            terminal.say(at + line)
            terminal.flush()
            said = line


def _write_documents(terminal: Terminal, looks: Iterator[Look]) -> None:
    last: Look | None = None
    for look in looks:
        if not _is_same(look, last):
            terminal.result_line(_document(look))
            terminal.flush()
        last = look


def _is_same(look: Look, last: Look | None) -> bool:
    if isinstance(look, LiveState):
        return look.unchanged_since(last if isinstance(last, LiveState) else None)
    return isinstance(last, DatabaseError) and str(last) == str(look)


def _document(look: Look) -> dict[str, Any]:
    if isinstance(look, LiveState):
        # The map is for a page that draws it.
        return {name: value for name, value in asdict(look).items() if name != "cells"}
    return {"error": type(look).__name__, "thing": look.thing, "cause": look.cause, "fix": look.fix}
