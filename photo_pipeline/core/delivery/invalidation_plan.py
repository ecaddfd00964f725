"""Which paths CloudFront is asked to forget: spelled as it wants them, each once, as few as possible.

Pure planning; sending, counting and waiting is `invalidation`. Numbers and spelling after AWS's guide: "What
you need to know when invalidating paths" and "Concurrent invalidation request maximum".
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote

from photo_pipeline.core.delivery.routing import AUTO_SUFFIX
from photo_pipeline.core.delivery.urls import UrlScheme

MAX_PATHS = 3000
"""Paths in one request, and files in progress at a time for one distribution."""
MAX_WILDCARDS = 15
"""Paths with a wildcard in progress at a time."""
MAX_LENGTH = 4000
"""Characters of one path."""

# Everything that RFC 1738 does not call unsafe, but `?`, which in a key is no query. AWS: "Do not URL-encode
# any other characters in the path, or CloudFront will not invalidate the old version of the file".
_LEFT_AS_THEY_ARE = "/!$&'()+,-.:;=@_"

KeysBelow = Callable[[str], Iterable[str]]
"""Lists every key that begins with the prefix."""


@dataclass(frozen=True)
class Refused:
    """What was asked for and is left out, and why."""

    asked: str
    reason: str


@dataclass(frozen=True)
class InvalidationPlan:
    """What will be sent.

    Attributes:
        paths: As CloudFront wants them; those with a wildcard first.
        asked: How many were asked for.
        repeated: How many of them were there twice, or are covered by a wildcard that was asked for.
        collapsed: How many are covered by a wildcard that was found to cover nothing else.
        refused: What is left out.
    """

    paths: tuple[str, ...]
    asked: int
    repeated: int
    collapsed: int
    refused: tuple[Refused, ...]

    @property
    def wildcards(self) -> int:
        """How many paths end in a wildcard."""
        return sum(path.endswith("*") for path in self.paths)

    def requests(self) -> Iterator[tuple[str, ...]]:
        """Yield the paths of one request after the other, each within CloudFront's limits."""
        wild = [path for path in self.paths if path.endswith("*")]
        plain = [path for path in self.paths if not path.endswith("*")]
        while wild or plain:
            some, wild = wild[:MAX_WILDCARDS], wild[MAX_WILDCARDS:]
            room = MAX_PATHS - len(some)
            yield (*some, *plain[:room])
            plain = plain[room:]


@dataclass(frozen=True)
class _Wanted:
    """One path, not encoded, without the slash that it begins with; a wildcard is left out of `key`."""

    key: str
    is_wildcard: bool


def plan_invalidation(
    scheme: UrlScheme,
    asked: Iterable[str],
    *,
    keys_below: KeysBelow | None = None,
    force: bool = False,
) -> InvalidationPlan:
    """Return what to send so that the CDN forgets what was asked.

    Args:
        scheme: Knows the CDN's address, and which keys never change.
        asked: Keys or paths as they are (`avatars/a b.jpg`, `/avatars/*`), or URLs as browsers show them.
        keys_below: To find wildcards that cover only what was asked; without it none is made. Copies of
            objects that were deleted from the bucket are covered as well, which does no harm.
        force: Also content-addressed keys, which need no invalidation.
    """
    given = list(asked)
    found = [_understood(scheme, text, force=force) for text in given]
    refused = [each for each in found if isinstance(each, Refused)]
    understood = [each for each in found if isinstance(each, _Wanted)]
    wanted = {each for one in understood for each in _behind(one)}
    stems = _widest({each.key for each in wanted if each.is_wildcard})
    keys = {each.key for each in wanted if not each.is_wildcard and not _covers(stems, each.key)}
    found_stems = _collapsible(keys, keys_below) if keys_below else set()
    left = {key for key in keys if not _covers(found_stems, key)}
    sent = [f"{_encoded(stem)}*" for stem in sorted(stems | found_stems)]
    sent += [_encoded(key) for key in sorted(left)]
    short = [path for path in sent if len(path) <= MAX_LENGTH]
    refused += [
        Refused(path[:80] + "…", f"it has more than {MAX_LENGTH:,} characters as CloudFront counts them")
        for path in sent
        if len(path) > MAX_LENGTH
    ]
    return InvalidationPlan(
        paths=tuple(short),
        asked=len(given),
        repeated=len(understood)
        - sum(each.key in (stems if each.is_wildcard else keys) for each in set(understood)),
        collapsed=len(keys) - len(left),
        refused=tuple(refused),
    )


def _understood(scheme: UrlScheme, text: str, *, force: bool) -> _Wanted | Refused:
    """Return the path that the text means, or why it cannot be invalidated."""
    is_url = text.startswith(("http://", "https://"))
    rest = text
    if is_url:
        if not text.startswith(f"{scheme.base_url}/"):
            return Refused(text, f"it is not on this CDN ({scheme.base_url})")
        rest = text.removeprefix(scheme.base_url)
        if "?" in rest or "#" in rest:
            return Refused(text, "leave the part from ? or # on out: it is no part of the cached path")
    is_wildcard = rest.endswith("*")
    rest = rest.removesuffix("*")
    if "*" in (unquote(rest) if is_url else rest):
        return Refused(text, "CloudFront takes * as the last character only, where it means everything")
    key = (unquote(rest) if is_url else rest).removeprefix("/")
    reason = _needless(scheme, key, is_wildcard=is_wildcard)
    if reason and not force:
        return Refused(text, reason)
    return _Wanted(key, is_wildcard)


def _needless(scheme: UrlScheme, key: str, *, is_wildcard: bool) -> str | None:
    """Return why nothing that the path covers needs to be invalidated, or None."""
    if key.startswith(f"{scheme.originals_prefix}/"):
        return "originals are never served, so no CDN keeps one"
    if scheme.is_immutable(key) or (is_wildcard and scheme.may_begin_immutable(key)):
        return (
            "its name is made of its content: other bytes get another name, so there is nothing to forget "
            "(--force if it must be gone from the CDN, say after a deletion)"
        )
    return None


def _behind(wanted: _Wanted) -> list[_Wanted]:
    """Return the path, and the files between which an `.auto` path chooses: they are what is kept."""
    if wanted.is_wildcard or not wanted.key.endswith(AUTO_SUFFIX):
        return [wanted]
    stem = wanted.key.removesuffix(AUTO_SUFFIX)
    return [wanted, *(_Wanted(f"{stem}.{extension}", False) for extension in ("avif", "webp", "jpg"))]


def _widest(stems: set[str]) -> set[str]:
    """Return the wildcards that no other one covers."""
    return {stem for stem in stems if not any(stem != other and stem.startswith(other) for other in stems)}


def _covers(stems: set[str], key: str) -> bool:
    return any(key.startswith(stem) for stem in stems)


def _collapsible(keys: set[str], keys_below: KeysBelow) -> set[str]:
    """Return the folders, as high up as can be, that hold at least two of the keys and nothing else.

    The bucket's top is never one: `/*` would make the CDN forget everything.
    """
    counts: defaultdict[str, int] = defaultdict(int)
    for key in keys:
        parts = key.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            counts["/".join(parts[:depth]) + "/"] += 1
    chosen: set[str] = set()
    # Shallow ones first: what lies below a chosen folder is not asked about.
    for folder in sorted(counts, key=lambda name: (name.count("/"), name)):
        is_new = counts[folder] > 1 and not _covers(chosen, folder)
        if is_new and all(key in keys for key in keys_below(folder)):
            chosen.add(folder)
    return chosen


def _encoded(key: str) -> str:
    # Python never encodes ~, which RFC 1738 calls unsafe.
    return "/" + quote(key, safe=_LEFT_AS_THEY_ARE).replace("~", "%7E")
