"""What the backup files know of one cell, and the value that stood there before the pipeline wrote to it.

Judges values only. Reading the files, and what becomes of a cell, is `restore`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.raw import RawValue

# One of our URLs or keys, however the text around it escapes it: an optional host, any prefix, and the
# content-addressed part, which nobody else's URL has (`delivery.urls`).
_SLASH = r"(?:\\?/|%2[Ff])"
_OURS = re.compile(
    rf"(?:(?:https?(?::|%3[Aa]))?{_SLASH}{_SLASH}[^\s\"'<>/\\%]+{_SLASH}|{_SLASH})?"
    rf"(?:[A-Za-z0-9._~-]+{_SLASH})*"
    rf"(?P<start>[0-9a-f]{{2}}){_SLASH}(?P<sha256>(?P=start)[0-9a-f]{{62}}){_SLASH}"
    rf"[A-Za-z0-9]+{_SLASH}[A-Za-z0-9_-]+\.[a-z0-9]+"
)
# What may have stood in the place of one of our URLs inside a text; between quotes also a space.
_ANY_URL, _ANY_QUOTED_URL = r"[^\s\"'<>]+?", r"[^\"'<>\n]+?"


@dataclass(frozen=True)
class Seen:
    """A backup's observation of a cell."""

    at: datetime
    value: RawValue
    contents: frozenset[str]


@dataclass(frozen=True)
class Written:
    """A rewrite of a cell, as a copied ledger has it; `photos` are those that it was made for."""

    at: datetime
    id: int
    before: RawValue
    after: RawValue
    photos: frozenset[int] = frozenset()


@dataclass
class CellHistory:
    """What the backups know of one cell."""

    seen: list[Seen] = field(default_factory=list)
    written: dict[tuple[datetime, int], Written] = field(default_factory=dict)

    def newest_first(self) -> list[Seen | Written]:
        """Return all that is known, the newest first."""
        events: list[Seen | Written] = [*self.seen, *self.written.values()]
        return sorted(events, key=lambda each: (each.at, getattr(each, "id", 0)), reverse=True)

    def walk_back(
        self, value: RawValue, *, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[RawValue, bool]:
        """Undo what the pipeline wrote, as far as it follows from the cell's value.

        Args:
            value: What the cell holds, or held at `until`.
            since: What is older than this is left out.
            until: What is newer than this is left out.

        Returns:
            The value that stood there before, and whether anything was undone.
        """
        undone = False
        for event in self.newest_first():
            if until is not None and event.at > until:
                continue
            if since is not None and event.at < since:
                break
            if isinstance(event, Written):
                if not is_equal(value, event.after):
                    break
                value, undone = event.before, True
            elif not is_equal(value, event.value):
                if not _is_ours_instead_of(value, event):
                    break
                value, undone = event.value, True
        return value, undone

    def first_seen(self, value: RawValue) -> datetime | None:
        """Return when a backup first saw exactly this value: what is older was written beside another."""
        return min((seen.at for seen in self.seen if is_equal(seen.value, value)), default=None)

    @property
    def newest(self) -> Seen | None:
        """The newest backup's observation."""
        return max(self.seen, key=lambda each: each.at, default=None)

    @property
    def last_photos(self) -> frozenset[int]:
        """The photos of which the newest rewrite of the cell speaks."""
        return self.written[max(self.written)].photos if self.written else frozenset()

    def holds(self, value: RawValue) -> bool:
        """Return whether the newest backup saw exactly this value."""
        return self.newest is not None and is_equal(value, self.newest.value)

    def before_newest(self, newest: Seen, *, since: datetime | None = None) -> RawValue:
        """Return what stood there before what the newest backup saw was written: what `--force` sets.

        Args:
            newest: What the newest backup saw.
            since: As for `walk_back`.
        """
        value, _ = self.walk_back(newest.value, since=since, until=newest.at)
        if not (isinstance(value, str) and names_ours(value, newest.contents)):
            return value
        # No copied ledger leads further: the newest value seen that is not one of our URLs.
        for seen in sorted(self.seen, key=lambda each: each.at, reverse=True):
            if not (isinstance(seen.value, str) and names_ours(seen.value, seen.contents)):
                return seen.value
        return self.seen[0].value


def is_equal(one: RawValue, other: RawValue) -> bool:
    """Return whether both are the same bytes in the database."""
    # 1, 1.0 and True are equal in Python, and different bytes in SQLite.
    return raw.encode(one) == raw.encode(other)


def _our_urls(text: str, contents: Iterable[str]) -> Iterator[re.Match[str]]:
    known = set(contents)
    return (found for found in _OURS.finditer(text) if found["sha256"] in known)


def names_ours(text: str, contents: Iterable[str]) -> bool:
    """Return whether the text has one of our URLs of a photo with one of those contents."""
    return next(_our_urls(text, contents), None) is not None


def _is_ours_instead_of(value: RawValue, seen: Seen) -> bool:
    """Return whether the value is the one seen with nothing changed but URLs, which became our own."""
    if not isinstance(value, str) or not isinstance(seen.value, str):
        return False
    pattern, end = "", 0
    for found in _our_urls(value, seen.contents):
        pattern += re.escape(value[end : found.start()]) + _place(value, found)
        end = found.end()
    return bool(end) and re.fullmatch(pattern + re.escape(value[end:]), seen.value, re.DOTALL) is not None


def _place(value: str, found: re.Match[str]) -> str:
    """Return the pattern of what may have stood where our URL was found."""
    if found.group() == value:
        return ".+"
    quotes = value[found.start() - 1 : found.start()], value[found.end() : found.end() + 1]
    return _ANY_QUOTED_URL if quotes in (('"', '"'), ("'", "'")) else _ANY_URL
