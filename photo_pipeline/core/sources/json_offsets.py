r"""Reads JSON without rebuilding it: where each string stands, and by which path it is reached.

`json.loads` and `json.dumps` would change numbers, escapes, spaces and repeated keys of a document that is
not ours. Strict RFC 8259: what is no JSON, or says two things under one key, has no strings at all, only a
problem. Numbers of any size are passed over as text. Paths are a subset of RFC 9535: `$`, `.name`,
`['name']`, `[n]`, `[*]`, `.*` and `..` before any of them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from photo_pipeline.core.sources.text.views import View

Step = str | int
"""One step of a path: a member's name or an element's index."""

_BLANK = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"')
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![0-9.eE+-])|true|false|null")
# Deeper documents are refused by PostgreSQL and by most parsers, too.
_DEEPEST = 1_000


class JsonProblemError(ValueError):
    """The text is not JSON that can be edited safely; the message says why and where."""


@dataclass(frozen=True)
class JsonString:
    """One string value: `text[start:end]` is its content, without the quotes and with its escapes."""

    start: int
    end: int
    path: tuple[Step, ...]


@dataclass(frozen=True)
class _Segment:
    """One step of a JSONPath; `step` None is a wildcard, `deep` means at any depth."""

    step: Step | None
    deep: bool

    def accepts(self, step: Step) -> bool:
        return self.step is None or self.step == step


@dataclass(frozen=True)
class JsonPath:
    """A compiled path."""

    source: str
    segments: tuple[_Segment, ...]

    @classmethod
    def parse(cls, source: str) -> "JsonPath":
        """Return the compiled path.

        Raises:
            ValueError: it is not in the subset that is understood.
        """
        if not source.startswith("$"):
            raise ValueError(f"JSONPath {source!r} must begin with $")
        segments, position = [], 1
        while position < len(source):
            match = _SEGMENT.match(source, position)
            if match is None:
                raise ValueError(
                    f"JSONPath {source!r}: {source[position:]!r} is not understood; use .name, "
                    "['name'], [n], [*], .* and .. before them"
                )
            segments.append(_segment(match))
            position = match.end()
        return cls(source, tuple(segments))

    def matches(self, path: Sequence[Step]) -> bool:
        """Return whether a value at `path` is selected."""
        reached = {0}
        for step in path:
            # A deep segment may also skip this step and wait for a later one.
            reached = {
                i + 1 for i in reached if i < len(self.segments) and self.segments[i].accepts(step)
            } | {i for i in reached if i < len(self.segments) and self.segments[i].deep}
        return len(self.segments) in reached


_SEGMENT = re.compile(
    r"(?P<deep>\.\.)?(?:"
    r"(?:(?(deep)|\.))(?P<name>\*|[^\W\d][\w-]*)"
    r"|\[\s*(?:(?P<index>0|[1-9][0-9]*)|(?P<any>\*)|'(?P<single>(?:[^'\\]|\\.)*)'|\"(?P<double>(?:[^\"\\]|\\.)*)\")\s*\]"
    r")"
)


def _segment(match: re.Match[str]) -> _Segment:
    deep = match["deep"] is not None
    if match["any"] is not None or match["name"] == "*":
        return _Segment(None, deep)
    if match["index"] is not None:
        return _Segment(int(match["index"]), deep)
    quoted = match["single"] if match["single"] is not None else match["double"]
    if quoted is None:
        return _Segment(match["name"], deep)
    try:
        return _Segment(str(json.loads(f'"{_for_json(quoted)}"')), deep)
    except ValueError as error:
        raise ValueError(f"JSONPath: the name {quoted!r} is not spelled as JSON strings are") from error


def _for_json(quoted: str) -> str:
    return re.sub(r"\\'|\"|\\.", lambda m: {"\\'": "'", '"': '\\"'}.get(m[0], m[0]), quoted, flags=re.DOTALL)


def json_strings(text: str) -> list[JsonString]:
    """Return every string value of the document (member names are not values), in its order.

    Raises:
        JsonProblemError: the text is no JSON, or an object has one name twice.
    """
    return list(_Scanner(text).strings())


def selected_strings(text: str, paths: Sequence[JsonPath]) -> list[View]:
    """Return the contents of the strings that one of the paths selects, with their escapes decoded.

    Raises:
        JsonProblemError: as for `json_strings`.
    """
    document = View.of(text)
    return [
        document.part(string.start, string.end).without_json_escapes()
        for string in json_strings(text)
        if any(path.matches(string.path) for path in paths)
    ]


@dataclass
class _Level:
    """An open object (with the names that it had) or array (names None)."""

    names: set[str] | None
    step: Step


class _Scanner:
    """Walks the document with a stack of its own: depth costs memory, never Python's recursion limit."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._levels: list[_Level] = []

    def strings(self) -> Iterator[JsonString]:
        self._skip_blank()
        while True:
            yield from self._value()
            if not self._next_value():
                break
        if self._at != len(self._text):
            raise self._problem("something follows the document")

    def _value(self) -> Iterator[JsonString]:
        """Read one scalar, or open containers until one begins; empty containers count as scalars."""
        while self._peek() in ("{", "["):
            opened = self._text[self._at]
            self._at += 1
            self._skip_blank()
            if self._peek() == ("}" if opened == "{" else "]"):
                self._at += 1
                return
            if len(self._levels) >= _DEEPEST:
                raise self._problem(f"it is nested deeper than {_DEEPEST} levels")
            self._levels.append(_Level(set() if opened == "{" else None, 0))
            if opened == "{":
                self._name()
        if self._peek() == '"':
            start, end = self._string()
            yield JsonString(start + 1, end - 1, tuple(level.step for level in self._levels))
            return
        scalar = _SCALAR.match(self._text, self._at)
        if scalar is None:
            raise self._problem("a value is expected")
        self._at = scalar.end()

    def _next_value(self) -> bool:
        """Close what is finished and go to the next value; return whether there is one."""
        while True:
            self._skip_blank()
            if not self._levels:
                return False
            level, sign = self._levels[-1], self._peek()
            if sign == ",":
                self._at += 1
                self._skip_blank()
                if level.names is not None:
                    self._name()
                elif isinstance(level.step, int):
                    level.step += 1
                return True
            if sign != ("}" if level.names is not None else "]"):
                raise self._problem("a comma or the end of a list or object is expected")
            self._at += 1
            self._levels.pop()

    def _name(self) -> None:
        level = self._levels[-1]
        if self._peek() != '"':
            raise self._problem("a name in quotes is expected")
        start, end = self._string()
        name = str(json.loads(self._text[start:end]))
        if level.names is None or name in level.names:
            raise self._problem(f"the name {name!r} stands twice in one object")
        level.names.add(name)
        level.step = name
        self._skip_blank()
        if self._peek() != ":":
            raise self._problem("a colon is expected")
        self._at += 1
        self._skip_blank()

    def _string(self) -> tuple[int, int]:
        match = _STRING.match(self._text, self._at)
        if match is None:
            raise self._problem("a string does not end, or holds what no JSON string may")
        self._at = match.end()
        return match.span()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_blank(self) -> None:
        blank = _BLANK.match(self._text, self._at)
        self._at = blank.end() if blank else self._at

    def _problem(self, reason: str) -> JsonProblemError:
        return JsonProblemError(f"it is not JSON that can be edited: at character {self._at + 1}, {reason}")
