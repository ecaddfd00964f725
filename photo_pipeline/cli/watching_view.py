"""What `status --watch` shows of a state: a screen for terminals, a line for anything else. Pure."""

from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

from photo_pipeline.core.live.batches import LiveBatch
from photo_pipeline.core.live.state import LiveState
from photo_pipeline.terminal_table import table

_LISTED: Final = 8
_EVENTS: Final = 5
_BAR: Final = 50
_STYLES: Final = {"good": "green", "attention": "yellow", "bad": "red", "neutral": ""}


def line_of(state: LiveState) -> str:
    """Return the state in one line: the sentence, then how many photos are done."""
    parts = [state.standing.sentence]
    if state.photos.total:
        parts.append(f"{state.photos.done:,} of {state.photos.total:,} photos migrated.")
    parts += [f"{batch.key} {batch.state}." for batch in state.listed[:_LISTED]]
    return " ".join(parts)


def view_of(state: LiveState | None, problem: str, width: int) -> RenderableType:
    """Return the screen.

    Args:
        state: The last state that could be read; None before the first.
        problem: Why it is not fresh; empty if it is.
        width: Of the terminal, in cells.
    """
    parts: list[RenderableType] = [Text(problem, style="red")] if problem else []
    if state is None:
        return Group(*parts)
    parts += [
        Text(f"{state.as_of:%H:%M:%S} UTC   Ctrl-C ends watching, not the migration", style="dim"),
        Text(state.standing.sentence, style=_STYLES[state.standing.level]),
    ]
    if state.photos.total:
        parts += [_bar(state, width), Text(_numbers(state))]
    if state.thorough is not None and state.thorough.sentence:
        parts.append(Text(state.thorough.sentence, style="yellow"))
    parts += [*_batches(state, width), *_workers(state, width), *_events(state)]
    return Group(*parts)


def _bar(state: LiveState, width: int) -> RenderableType:
    return ProgressBar(total=state.photos.total, completed=state.photos.done, width=min(_BAR, width))


def _numbers(state: LiveState) -> str:
    photos, pace = state.photos, state.pace
    parts = [f"{photos.done:,} of {photos.total:,} photos migrated"]
    parts += [f"{photos.to_do:,} to do"] if photos.to_do else []
    parts += [f"{photos.set_aside:,} set aside"] if photos.set_aside else []
    parts += [f"{photos.rolled_back:,} rolled back"] if photos.rolled_back else []
    parts += [f"{pace.per_second:,.1f} photos/s"] if pace.per_second else []
    parts += [f"{state.time_left.sentence} left"] if state.time_left else []
    return ", ".join(parts)


def _batches(state: LiveState, width: int) -> list[RenderableType]:
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in state.batch_states.items())
    parts: list[RenderableType] = [Text(f"\nBatches: {told or 'none'}", style="bold")]
    shown = state.listed[:_LISTED]
    if shown:
        rows = [[each.key, each.state, _photos(each), each.error or ""] for each in shown]
        parts.append(table(("batch", "state", "photos", "note"), rows, width=width))
    more = len(state.listed) - len(shown) + state.unlisted
    parts += [Text(f"... and {more:,} more; all: photo-pipeline status")] if more else []
    return parts


def _photos(batch: LiveBatch) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(batch.photos.items()))


def _workers(state: LiveState, width: int) -> list[RenderableType]:
    if not state.workers:
        return []
    rows = [[each.work, each.doing, f"{each.host} {each.process}", each.note] for each in state.workers]
    return [
        Text("\nWorkers", style="bold"),
        table(("work", "doing", "machine, process", "note"), rows, width=width),
    ]


def _events(state: LiveState) -> list[RenderableType]:
    if not state.events:
        return []
    lines = [Text(f"{each.at:%H:%M:%S}  {each.action}  {each.subject}") for each in state.events[:_EVENTS]]
    return [Text("\nLast events", style="bold"), *lines]
