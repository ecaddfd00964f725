"""Which of a row's rewrites go back with some of its photos, while its other photos stay migrated.

A photo takes with it the cells that name it, its places in texts, and what the rewrite wrote of it
elsewhere in the row (`write_back`). What the columns under `set` and `touch` say is about the row: it goes
with the last of its photos. Where such columns are all that tells where the photos are (mode `columns`,
computed fields), the row goes as a whole.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from photo_pipeline.core.catalog.tables import PhotoState
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.sources.mapping import Source


@dataclass(frozen=True)
class RowPart:
    """Applied ledger entries of one row, and the photos that go back with them.

    An entry of a text may name other photos, too: they are written again without these.
    """

    entries: list[Any]
    photos: frozenset[int]


def whole_row(entries: list[Any], links: Mapping[int, Sequence[int]]) -> RowPart:
    """Return the row with all its photos."""
    return RowPart(entries, frozenset(photo for entry in entries for photo in links[entry.id]))


def part_with(
    wanted: Collection[int],
    entries: list[Any],
    links: Mapping[int, Sequence[int]],
    photos: Mapping[int, Photo],
    source: Source,
) -> RowPart | None:
    """Return what goes back with the wanted photos, or None if the row has none of them.

    Args:
        wanted: Photos of any row.
        entries: The row's applied ledger entries in one batch, the newest first.
        links: The photos of each entry, by its id.
        photos: The batch's photos, by id.
        source: The row's source.
    """
    whole = whole_row(entries, links)
    going = whole.photos.intersection(wanted)
    if not going:
        return None
    staying = {
        photo
        for photo in whole.photos - going
        if photo in photos and photos[photo].state == PhotoState.MIGRATED
    }
    if not staying or any(_speaks_of_the_row(source, entry, links) for entry in entries):
        return whole
    facts = _facts_without(staying, entries, links, photos, source)
    chosen = [entry for entry in entries if entry.id in facts or going.intersection(links[entry.id])]
    return RowPart(chosen, going)


def without(photos: Collection[int], part: RowPart, links: Mapping[int, Sequence[int]]) -> RowPart | None:
    """Return the part without those photos and what is theirs alone, or None if nothing is left of it."""
    left = part.photos.difference(photos)
    if len(left) == len(part.photos):
        return part
    if not left:
        return None
    entries = [each for each in part.entries if not links[each.id] or left.intersection(links[each.id])]
    return RowPart(entries, left)


def runs_of_another_primary(
    source: Source,
    cells: Mapping[str, Sequence[Any]],
    current: Mapping[str, Any],
    later: Collection[str],
) -> set[str]:
    """Return the runs whose primary photo the row does not go back to: what they wrote of it stays as well.

    Args:
        source: The row's source.
        cells: The ledger entries that are to go back by column, the newest first.
        current: What the columns hold.
        later: The columns that another batch has rewritten since.
    """
    primary = source.primary_column
    chain = cells.get(primary or "", [])
    if not chain:
        return set()
    shown = current[chain[0].column]
    target, walked = (shown, []) if primary in later else ledger.walk_back(shown, chain)
    # The application may have set the same photo's local value itself, between two of these runs.
    same = {entry.run for entry in chain if entry in walked or ledger.before_of(entry) == target}
    return {entry.run for entry in chain} - same


def _speaks_of_the_row(source: Source, entry: Any, links: Mapping[int, Sequence[int]]) -> bool:
    """Return whether a column that names no photo is all that tells where the entry's photos are."""
    return bool(links[entry.id]) and not source.fields_on(entry.column)


def _facts_without(
    staying: Collection[int],
    entries: Sequence[Any],
    links: Mapping[int, Sequence[int]],
    photos: Mapping[int, Photo],
    source: Source,
) -> set[int]:
    """Return the entries of written-back columns that speak of no photo which stays, from the newest down."""
    found: set[int] = set()
    for column in source.rewrite.write_back:
        for entry in (each for each in entries if each.column == column):
            leader = _leader(entry, entries, links, photos, source)
            if leader is None or leader in staying:
                break  # What is below it comes back with that photo.
            found.add(entry.id)
    return found


def _leader(
    fact: Any,
    entries: Sequence[Any],
    links: Mapping[int, Sequence[int]],
    photos: Mapping[int, Photo],
    source: Source,
) -> int | None:
    """Return the photo whose facts the same rewrite wrote (as `row_rewrite` chooses it), if it is known."""
    same = {photo for each in entries if each.run == fact.run for photo in links[each.id] if photo in photos}
    wanted = source.primary_field
    leaders = (
        photo
        for photo in sorted(same)
        if (
            photos[photo].field == wanted
            if wanted
            else not source.is_embedded(photos[photo].field, photos[photo].column)
        )
    )
    return next(leaders, None)
