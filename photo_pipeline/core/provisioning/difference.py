"""How what is there differs from what is wanted, and how the two are merged. Pure; nothing is requested.

What is wanted names only what we answer for: what is there beside it is nobody's difference, and stays.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

UNKNOWN = "(known after apply)"
"""Stands for a value that AWS gives to a resource which is yet to be created."""


@dataclass(frozen=True)
class Difference:
    """One value that is not as wanted.

    Attributes:
        path: Where it is in the resource, as in `rules.photo-pipeline-photos.Status`.
        actual: What is there; None: nothing.
        desired: What is wanted; None: nothing.
    """

    path: str
    actual: Any
    desired: Any


def differences(actual: Mapping[str, Any] | None, desired: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return every value of `desired` that is not so in `actual`.

    A wanted None means that nothing may be there. Lists are compared without regard to their order, and a
    list of one is its element: AWS gives both back as it likes.
    """
    return tuple(_walk(actual or {}, desired, ""))


def _walk(actual: Mapping[str, Any], desired: Mapping[str, Any], path: str) -> Iterator[Difference]:
    for name, wanted in desired.items():
        found = actual.get(name)
        where = f"{path}.{name}" if path else name
        if isinstance(wanted, Mapping) and isinstance(found, Mapping) and found:
            yield from _walk(found, wanted, where)
        elif plain(found) != plain(wanted):
            yield Difference(where, found, wanted)


def plain(value: Any) -> Any:
    """Return the value in the one form in which equal ones are equal."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items() if each not in (None, [], {})} or None
    if isinstance(value, list | tuple):
        members = sorted((plain(each) for each in value), key=repr)
        return members[0] if len(members) == 1 else members or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return value


def exactly(actual: Any, wanted: Any) -> Any:
    """Return `wanted` with a None for everything in `actual` that it does not name, at every depth.

    For what is ours as a whole: a condition that somebody adds to one of our rules is a difference.
    """
    if not isinstance(actual, Mapping) or not isinstance(wanted, Mapping):
        return wanted
    extra = {name: None for name in actual if name not in wanted}
    return {name: exactly(actual.get(name), each) for name, each in wanted.items()} | extra


def pruned(value: Any) -> Any:
    """Return the value without the Nones in its mappings, as requests want it."""
    if isinstance(value, Mapping):
        return {name: pruned(each) for name, each in value.items() if each is not None}
    return value


def merged(actual: Mapping[str, Any], desired: Mapping[str, Any]) -> Document:
    """Return `actual` with what is wanted set, and with what must not be there left out."""
    result = dict(actual)
    for name, wanted in desired.items():
        found = result.get(name)
        if wanted is None:
            result.pop(name, None)
        elif isinstance(wanted, Mapping) and isinstance(found, Mapping):
            result[name] = merged(found, wanted)
        else:
            result[name] = wanted
    return result
