"""What the store has of many keys at once, by a few listings instead of a look at each.

Worth it where these keys are most of what lies around them. Among a million other objects a batch's keys are
one in a thousand, so a listing is given up soon after as many pages as the keys alone would fill. What an
answer means for an upload is decided in `core.migration.one_object`.
"""

import os
from collections.abc import Callable, Collection, Iterator

from photo_pipeline.core.storage.keys import is_usable_key
from photo_pipeline.core.storage.listing import list_pages
from photo_pipeline.core.storage.objects import ListedObject
from photo_pipeline.core.storage.store import PhotoStore

# What S3 and its kind put on a page at most.
_PAGE = 1_000
WORTH_LISTING = 100
"""From so many keys on a listing may stand for looks: a page of it takes as long as some fifty of them."""
PROVEN_AT_ONCE = 500
"""So many new objects are proven by one listing; what a crash loses of them is in docs/storage.md."""


def pages_for(keys: int) -> int:
    """Return how many pages of a listing for so many keys are read at most."""
    return -(-keys // _PAGE) + 2


def find_all(
    store: PhotoStore, keys: Collection[str], *, count: Callable[[str], None]
) -> dict[str, ListedObject] | None:
    """Return those of the keys that exist, or None if too much else lies there to be sure of the others.

    The folder that the keys have in common is listed, whole: a key that is not returned is not there (or came
    after its page).

    Args:
        store: The bucket.
        keys: Any number; those that no object can have are left out.
        count: Called with `LIST` for each page.

    Raises:
        StoreError: the store failed or refused a request after retries.
    """
    wanted = {key for key in keys if is_usable_key(key)}
    found: dict[str, ListedObject] = {}
    for number, page in enumerate(_pages(store, wanted, "", count), start=1):
        if number == pages_for(len(wanted)):
            return None
        found |= {each.key: each for each in page if each.key in wanted}
    return found


def find_some(
    store: PhotoStore, keys: Collection[str], *, count: Callable[[str], None]
) -> dict[str, ListedObject]:
    """Return of the keys what a short listing from the first to the last of them shows.

    Quick where they lie side by side. A key that is not returned may be there all the same.

    Args:
        store: The bucket.
        keys: Any number; those that no object can have are left out.
        count: Called with `LIST` for each page.

    Raises:
        StoreError: the store failed or refused a request after retries.
    """
    wanted = sorted({key for key in keys if is_usable_key(key)}, key=str.encode)
    found: dict[str, ListedObject] = {}
    if not wanted:
        return found
    among, last = set(wanted), wanted[-1].encode()
    # It starts behind what it is told, and every key stands behind its own beginning.
    for number, page in enumerate(_pages(store, among, wanted[0][:-1], count), start=1):
        found |= {each.key: each for each in page if each.key in among}
        if number == pages_for(len(wanted)) or (page and page[-1].key.encode() >= last):
            break
    return found


def _pages(
    store: PhotoStore, keys: Collection[str], start_after: str, count: Callable[[str], None]
) -> Iterator[list[ListedObject]]:
    """Yield the pages of the deepest folder that holds all keys; of the whole bucket if there is none."""
    shared, slash, _ = os.path.commonprefix(list(keys)).rpartition("/")  # noqa: RUF071
    for page in list_pages(store, shared + slash, start_after=start_after):
        count("LIST")
        yield page
