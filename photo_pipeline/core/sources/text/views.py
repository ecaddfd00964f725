r"""A document under its escapes: what a part of it means, and where each decoded character stands in it.

HTML attributes hold entities, JSON strings hold `\/`, query parameters hold `%2F`, and each may stand
inside another. A `View` peels one such layer after the other and never loses the offsets, so that a URL
which was understood in the innermost layer is replaced in the document itself, spelled as it was there.
Offsets count characters; UTF-8 encodes each on its own, so an untouched character is untouched bytes.
"""

import html
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self
from urllib.parse import quote, unquote

Escape = Callable[[str], str]
"""Spells a text as one layer needs it."""

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# Escapes of two characters, pairs of code units beyond 16 bits, single ones. Half a pair is no character.
_JSON_ESCAPE = re.compile(
    r'\\(?:["\\/bfnrt]|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})'
)
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2})+")


@dataclass(frozen=True)
class Span:
    """One URL in a document.

    Attributes:
        start: Offset of its first character in the document.
        end: Offset after its last one.
        spelled: How the document spells it, escapes and all.
        url: What that means.
        is_link: Whether it stands where a link to any page may stand, and not only a picture.
        escapes: The layers around it, the outermost first.
    """

    start: int
    end: int
    spelled: str
    url: str
    is_link: bool
    escapes: tuple[Escape, ...]

    def spell(self, url: str) -> str:
        """Return `url` as it has to stand in this place of the document."""
        for escape in reversed(self.escapes):
            url = escape(url)
        return url


@dataclass(frozen=True)
class View:
    """A part of a document, decoded; `starts[i]` is where `text[i]` begins in `document`."""

    document: str
    text: str
    starts: Sequence[int]  # one more than the text has characters: the last is where it ends
    escapes: tuple[Escape, ...] = ()

    @classmethod
    def of(cls, document: str) -> Self:
        """Return the document as it stands."""
        return cls(document, document, range(len(document) + 1))

    def part(self, start: int, end: int) -> "View":
        """Return the view of `text[start:end]`."""
        return View(self.document, self.text[start:end], self.starts[start : end + 1], self.escapes)

    def stripped(self) -> "View":
        """Return the view without white space around it."""
        start = len(self.text) - len(self.text.lstrip())
        return self.part(start, max(start, len(self.text.rstrip())))

    def span(self, *, is_link: bool = False) -> Span:
        """Return the whole view as one URL."""
        start, end = self.starts[0], self.starts[-1]
        return Span(start, end, self.document[start:end], self.text, is_link, self.escapes)

    def without_entities(self) -> "View":
        """Return the view with HTML's entities decoded (those with their semicolon)."""
        return self._decoded(_ENTITY, html.unescape, _as_entities)

    def without_json_escapes(self) -> "View":
        r"""Return the content of a JSON (or JavaScript) string with its escapes decoded.

        What is written here later is spelled alike: `\/` where slashes are spelled so (in the document, if
        the string has none), and `\uXXXX` only where the document is plain ASCII.
        """
        slashed = "\\/" in self.text or ("/" not in self.text and "\\/" in self.document)
        escape = _json_escape(slashed=slashed, ascii_only=self.document.isascii())
        return self._decoded(_JSON_ESCAPE, lambda raw: str(json.loads(f'"{raw}"')), escape)

    def without_percent(self) -> "View":
        """Return the view with percent-encoding decoded; what is no UTF-8 stays encoded."""
        return self._decoded(_PERCENT, _percent_decoded, _as_percent)

    def _decoded(self, pattern: re.Pattern[str], decode: Callable[[str], str], escape: Escape) -> "View":
        escapes = (*self.escapes, escape)
        found = list(pattern.finditer(self.text))
        if not found:
            return View(self.document, self.text, self.starts, escapes)
        text: list[str] = []
        starts: list[int] = []
        borders = [(0, 0), *(match.span() for match in found), (len(self.text), len(self.text))]
        for (_, plain_start), (start, end) in pairwise(borders):
            text.append(self.text[plain_start:start])
            starts.extend(self.starts[plain_start:start])
            decoded = decode(self.text[start:end])
            text.append(decoded)
            # All characters of one escape begin where it does: no offset lies inside of it.
            starts.extend([self.starts[start]] * len(decoded))
        return View(self.document, "".join(text), [*starts, self.starts[-1]], escapes)


def _as_entities(text: str) -> str:
    return html.escape(text, quote=True)


def _json_escape(*, slashed: bool, ascii_only: bool) -> Escape:
    def escape(text: str) -> str:
        spelled = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        return spelled.replace("/", "\\/") if slashed else spelled

    return escape


def _as_percent(text: str) -> str:
    return quote(text, safe="")


def _percent_decoded(raw: str) -> str:
    # Bytes that are no text stay as they are: decoding and encoding must bring back the same.
    decoded = unquote(raw, errors="surrogateescape")
    return raw if any("\udc80" <= char <= "\udcff" for char in decoded) else decoded
