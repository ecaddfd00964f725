r"""How applications spell the path of one photo, and what each spelling means under a root.

Understood: absolute file paths, paths relative to the root, `uploads/…`, `/uploads/…`, full and
protocol-relative URLs of a declared host, percent-encoding, backslashes, NFC and NFD Unicode (PRODUCT A2).
Pure text work: nothing here touches the disk, so a spelling may name a file that does not exist.
"""

import posixpath
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:(?=//)", re.IGNORECASE)
# A colon may stand in a file name: only a scheme with slashes, or one that never names a file here, is one.
_ANY_SCHEME = re.compile(
    r"^(?:[a-z][a-z0-9+.-]+://|//|(?:data|blob|javascript|mailto|about|cid):)", re.IGNORECASE
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Spelled:
    """The value names a file under the root: its possible relative paths, the likeliest first."""

    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """The value does not stay inside the root, and why."""

    reason: str


def path_key(path: str) -> str:
    """Return the form under which relative paths are compared: NFC, so that NFD spellings meet it."""
    return unicodedata.normalize("NFC", path)


def without_query(value: str) -> str:
    """Return the value without `?query` and `#fragment`."""
    return re.split(r"[?#]", value, maxsplit=1)[0]


def is_whole_address(value: str) -> bool:
    """Return whether the value says itself where it is: with a host, or as a `data:` URL and the like."""
    return _ANY_SCHEME.match(value.strip().replace("\\", "/")) is not None


@dataclass(frozen=True)
class RootSpelling:
    """One root's prefixes, prepared for matching."""

    name: str
    directory: Path
    url_prefixes: tuple[str, ...]
    _web: tuple[str, ...] = field(init=False)
    _local: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        web = [_web_form(prefix) for prefix in self.url_prefixes if _ANY_SCHEME.match(prefix)]
        local = [prefix for prefix in self.url_prefixes if not _ANY_SCHEME.match(prefix)]
        local.append(f"{self.directory.as_posix().rstrip('/')}/")
        # Longest first: /uploads/items/ must win over /uploads/.
        object.__setattr__(self, "_web", tuple(sorted(web, key=len, reverse=True)))
        object.__setattr__(self, "_local", tuple(sorted(local, key=len, reverse=True)))

    def interpret(
        self, value: str, *, percent_encoded: bool, alternatives: Iterable[str] = ()
    ) -> Spelled | Refused:
        """Return what `value` may mean under this root.

        Args:
            value: The column's value, not blank.
            percent_encoded: Whether the decoded reading comes before the literal one.
            alternatives: Other texts to try first (such as the value without its query).
        """
        if _CONTROL.search(value):
            return Refused("it contains control characters")
        found: list[str] = []
        for text in dict.fromkeys((*alternatives, value)):
            for reading in _readings(text.strip(), percent_encoded=percent_encoded):
                outcome = self._relative(reading)
                if isinstance(outcome, Refused):
                    return outcome
                found.extend(outcome)
        candidates = tuple(path for path in dict.fromkeys(found) if path)
        return Spelled(candidates) if candidates else Refused("it names no file")

    def covers(self, url: str) -> bool:
        """Return whether `url` begins with a declared prefix (or the folder): it is meant for this root.

        A bare name is not: among other text it may be anything.
        """
        return any(self._is_below_prefix(reading) for reading in _readings(url, percent_encoded=True))

    def _is_below_prefix(self, text: str) -> bool:
        slashed = text.replace("\\", "/")
        if _ANY_SCHEME.match(slashed):
            return any(_web_form(slashed).startswith(prefix) for prefix in self._web)
        if slashed.startswith("/"):
            return any(slashed.startswith(prefix) for prefix in self._local)
        return any(slashed.startswith(prefix.lstrip("/")) for prefix in self._local if prefix != "/")

    def _relative(self, text: str) -> list[str] | Refused:
        slashed = text.replace("\\", "/")
        if ".." in slashed.split("/"):
            return Refused("it climbs out of its folder with '..'")
        if _ANY_SCHEME.match(slashed):
            return self._below_web_prefix(slashed)
        if slashed.startswith("/"):
            return self._below_local_prefix(slashed)
        stems = [prefix.lstrip("/") for prefix in self._local if prefix != "/"]
        bare = [*_below(stems, slashed), _normal(slashed)]
        if text != slashed:
            bare.append(_normal(text))  # A backslash may really be part of a name on Linux.
        return bare

    def _below_web_prefix(self, text: str) -> list[str] | Refused:
        wanted = _web_form(text)
        below = _below(self._web, wanted)
        return below or Refused("it is a URL that no url_prefixes entry of the root covers")

    def _below_local_prefix(self, text: str) -> list[str] | Refused:
        below = _below(self._local, text)
        return below or Refused("it is an absolute path outside the root and its url_prefixes")


def _readings(text: str, *, percent_encoded: bool) -> tuple[str, ...]:
    decoded = unquote(text, errors="surrogateescape")
    if _CONTROL.search(decoded) or any("\udc80" <= char <= "\udcff" for char in decoded):
        decoded = text  # Not an encoding of text: only the literal reading is left.
    return (decoded, text) if percent_encoded else (text, decoded)


def _web_form(url: str) -> str:
    """Return `//host/path` with a lower-case host: http, https and protocol-relative URLs compare equal."""
    rest = _SCHEME.sub("", url)
    host, slash, path = rest.removeprefix("//").partition("/")
    return f"//{host.lower()}{slash}{path}"


def _below(prefixes: Iterable[str], text: str) -> list[str]:
    """Return what follows each matching prefix: the file may lie below /uploads/old/ or below /uploads/."""
    return [_normal(text[len(prefix) :]) for prefix in prefixes if text.startswith(prefix)]


def _normal(path: str) -> str:
    normal = posixpath.normpath(path.lstrip("/")) if path.strip("/") else ""
    return "" if normal == "." else normal
