"""Which object keys are used at all, decided before a request is made.

S3 takes any UTF-8 of up to 1,024 bytes; servers and client libraries do not. obstore strips a slash at
either end (`/a` and `a` would be one object), HTTP clients resolve `..`, XML listings cannot hold control
characters, file-backed servers refuse empty segments. What is accepted means one object everywhere.
"""

import re
from functools import lru_cache

from photo_pipeline.core.errors import ObjectKeyError

# S3's own limit, in bytes of UTF-8 ("Naming Amazon S3 objects").
MAX_KEY_BYTES = 1024
# Control characters, and the two others that XML 1.0, the language of listings, has no spelling for.
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")


def checked_key(key: str) -> str:
    """Return the key as it came, if every request means the same object by it.

    Raises:
        ObjectKeyError: it is empty, too long, has an empty, `.` or `..` segment, a slash at either end, or a
            character that cannot be sent or listed.
    """
    cause = _what_is_wrong(key)
    if cause:
        # Escaped: a control character must not reach a terminal or a log.
        shown = ascii(key if len(key) <= 100 else key[:100] + "…")
        raise ObjectKeyError(f"object key {shown}", cause=cause, fix="use another key")
    return key


def is_usable_key(key: str) -> bool:
    """Return whether `checked_key` would let the key pass."""
    return not _what_is_wrong(key)


# Each object's key is asked about by a look, a PUT and a proof, with those of its whole batch between.
@lru_cache(maxsize=4096)
def _what_is_wrong(key: str) -> str:
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "it holds half a character (a lone surrogate) and cannot be written as UTF-8"
    if length > MAX_KEY_BYTES:
        return f"it has {length:,} bytes, and S3 takes {MAX_KEY_BYTES:,}"
    if not key:
        return "it is empty"
    segments = key.split("/")
    if not segments[0] or not segments[-1]:
        return "it begins or ends with a slash"
    if "" in segments:
        return "it has an empty segment (//)"
    if "." in segments or ".." in segments:
        return "it has a segment . or .., which HTTP clients resolve"
    if _UNSPEAKABLE.search(key):
        return "it holds a control character, which listings cannot spell"
    return ""
