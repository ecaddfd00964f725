"""Reads PHP's `serialize()` format, for looking only: where each string stands, and by which path.

Lengths in it count bytes, so every edit would have to correct them, and classes check their own invariants
when they wake up: what is stored so is read and never written. Format:
https://www.php.net/manual/en/function.serialize.php (and the tokens of php-src `var_unserializer.re`).
"""

import re
from collections.abc import Iterator, Sequence

from photo_pipeline.core.sources.json_offsets import JsonPath, Step
from photo_pipeline.core.sources.text.views import View

_SCALAR = re.compile(rb"N;|b:[01];|i:[+-]?[0-9]+;|d:[^;{}\"]+;|[rR]:[0-9]+;")
_STRING = re.compile(rb's:([0-9]+):"')
_ENUM = re.compile(rb'E:([0-9]+):"')
_ARRAY = re.compile(rb"a:([0-9]+):\{")
_OBJECT = re.compile(rb'O:[0-9]+:"[^"]*":([0-9]+):\{')
_DEEPEST = 100


class PhpProblemError(ValueError):
    """The text is not PHP's format; the message says where."""


def selected_php_strings(text: str, paths: Sequence[JsonPath]) -> list[View]:
    """Return the strings that one of the paths selects; array keys and property names are the steps.

    Raises:
        PhpProblemError: the text is not PHP's serialized format.
    """
    data = text.encode()
    document = View.of(text)
    reader = _Reader(data)
    found = [
        (start, end) for start, end, path in reader.value(()) if any(each.matches(path) for each in paths)
    ]
    if reader.at != len(data):
        raise reader.problem()
    return [document.part(len(data[:start].decode()), len(data[:end].decode())) for start, end in found]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def value(self, path: tuple[Step, ...]) -> Iterator[tuple[int, int, tuple[Step, ...]]]:
        """Read one value; yield the bytes of each string in it, with its path."""
        if len(path) > _DEEPEST:
            raise self.problem()
        if self._skip(_SCALAR) or self._quoted(_ENUM):
            return
        if string := self._quoted(_STRING):
            yield (*string, path)
            return
        members = self._skip(_ARRAY) or self._skip(_OBJECT)
        if not members:
            raise self.problem()
        for _ in range(int(members[1])):
            yield from self.value((*path, self._key()))
        if self._data[self.at : self.at + 1] != b"}":
            raise self.problem()
        self.at += 1

    def _key(self) -> Step:
        start = self.at
        if string := self._quoted(_STRING):
            # Private and protected properties carry their class between zero bytes.
            return self._data[slice(*string)].rpartition(b"\0")[2].decode(errors="replace")
        if self._data[start : start + 2] == b"i:" and (number := self._skip(_SCALAR)):
            return int(number[0][2:-1])
        raise self.problem()

    def _quoted(self, pattern: re.Pattern[bytes]) -> tuple[int, int] | None:
        match = pattern.match(self._data, self.at)
        if match is None:
            return None
        start = match.end()
        end = start + int(match[1])
        if self._data[end : end + 2] != b'";':
            raise self.problem()
        self.at = end + 2
        return start, end

    def _skip(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        match = pattern.match(self._data, self.at)
        if match:
            self.at = match.end()
        return match

    def problem(self) -> PhpProblemError:
        return PhpProblemError(f"it is not PHP's serialized format: at byte {self.at + 1} it cannot be read")
