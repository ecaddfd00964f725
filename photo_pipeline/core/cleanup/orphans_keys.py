"""What an object's key says of it, and which keys a text mentions, however the text escapes them. Pure text.

Our keys carry the SHA-256 of the photo and the digest of the recipe. Hex digits need no escape in a URL, in
JSON, in HTML or in a percent-encoded query, so a mention is found by them and not by understanding the text.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

# Every spelling of the slash that our rewriters, browsers and JSON or PHP encoders are known to write.
_SLASH = r"(?:\\*/|%(?:25)*2[fF]|&#0*47;|&#[xX]0*2[fF];|&sol;|\\+u002[fF])"
_DIGESTS = re.compile(r"[0-9a-fA-F]{64,}")
_RECIPE = re.compile(rf"{_SLASH}([0-9a-f]{{12}})(?![0-9A-Za-z])")
_FILE = re.compile(rf"{_SLASH}([A-Za-z0-9_-]+\.[A-Za-z0-9]+)")
_VARIANT = re.compile(r"([0-9a-f]{2})/([0-9a-f]{64})/([0-9a-f]{12})/([A-Za-z0-9_-]+\.[A-Za-z0-9]+)")
_ORIGINAL = re.compile(r"([0-9a-f]{2})/([0-9a-f]{64})(\.[A-Za-z0-9]+)")
# What stands around a name in HTML, JSON, Markdown, CSV, or between the parameters of a URL.
_AROUND = re.compile(r"[\s\"'<>()\[\]{},;=|&?#\\]+")
# A longer run of hex digits is a blob in text form. Before a digest stands at most an escaped slash.
_LONGEST_RUN = 80

ANY = "*"


@dataclass(frozen=True)
class KeyFacts:
    """What a key says.

    Attributes:
        kind: `variant`, `original`, or `foreign` (not one of our spellings).
        sha256: Of the photo; empty for a foreign key.
        recipe: Of a variant.
        file: `full.jpg` of a variant, `.jpg` of an original, the last part of a foreign key.
    """

    kind: str
    sha256: str = ""
    recipe: str = ""
    file: str = ""


@dataclass(frozen=True)
class Mention:
    """One of our keys in a text; recipe and file are `ANY` where the text does not say.

    `at`: the offset at which the photo's digest begins.
    """

    sha256: str
    recipe: str = ANY
    file: str = ANY
    at: int = field(default=0, compare=False)


def key_facts(key: str, *, prefix: str, originals_prefix: str) -> KeyFacts:
    """Return what the key says under these prefixes (without a slash at the end)."""
    if key.startswith(f"{prefix}/"):
        found = _VARIANT.fullmatch(key, len(prefix) + 1)
        if found and found[2].startswith(found[1]):
            return KeyFacts("variant", found[2], found[3], found[4])
    if key.startswith(f"{originals_prefix}/"):
        found = _ORIGINAL.fullmatch(key, len(originals_prefix) + 1)
        if found and found[2].startswith(found[1]):
            return KeyFacts("original", found[2], "", found[3])
    return KeyFacts("foreign", file=key.rpartition("/")[2])


def mentions(text: str) -> Iterator[Mention]:
    """Yield every key of ours that the text may name; rather one too many than one too few."""
    for run in _DIGESTS.finditer(text):
        digits = run[0].lower()
        last = digits[-64:]
        if len(digits) > 64:
            # An escape such as %2F ends in hex digits itself; and in doubt it may be any of them.
            starts = range(len(digits) - 64) if len(digits) <= _LONGEST_RUN else (0,)
            for start in starts:
                yield Mention(digits[start : start + 64])
        recipe = _RECIPE.match(text, run.end())
        if recipe is None:
            yield Mention(last)
            continue
        file = _FILE.match(text, recipe.end())
        yield Mention(last, recipe[1], file[1] if file else ANY, at=run.end() - 64)


def stands_after(text: str, at: int, path: str) -> bool:
    """Return whether `path` stands before that offset of the text, however its slashes are escaped."""
    # An escaped slash takes at most seven characters or so; a prefix has few of them.
    before = text[max(0, at - 8 * len(path)) : at]
    return re.search(_SLASH.join(map(re.escape, path.split("/"))) + r"\Z", before) is not None


def names(text: str) -> Iterator[str]:
    """Yield every word of the text that may be the last part of a key, undone of its usual escapes."""
    for spelled in {text, unquote(html.unescape(text.replace("\\/", "/")))}:
        for word in _AROUND.split(spelled):
            yield word.rpartition("/")[2]


def is_plain_name(name: str) -> bool:
    """Return whether `names` finds the name in any text that has it: nothing in it parts words."""
    return bool(name) and not _AROUND.search(name) and "%" not in name and name.isascii()
