"""Which objects of a listing nothing refers to: the rules, as questions to the workspace.

In doubt an object is not an orphan: a photo that is not settled holds on to all objects of its content, a
text that names a content without saying which of its objects to all of them, and one that names a variant to
every file of that recipe, since markup may show any of them beside it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from photo_pipeline.core.cleanup.listing import Prefixes
from photo_pipeline.core.cleanup.orphans_keys import key_facts
from photo_pipeline.core.cleanup.orphans_workspace import Workspace

FOREIGN = "foreign"

_SUMS = (
    "INSERT OR IGNORE INTO mentioned SELECT sha, recipe, file FROM live_mention",
    "INSERT OR IGNORE INTO reference SELECT sha, recipe FROM mentioned",
    "INSERT OR IGNORE INTO reference SELECT sha, recipe FROM live_photo",
    "INSERT OR IGNORE INTO original SELECT sha, '*' FROM mentioned",
    "INSERT OR IGNORE INTO original "
    "SELECT sha, CASE WHEN recipe = '*' THEN '*' ELSE file END FROM live_photo",
)
# A known recipe has known files: another one under it is not made by us, and shown only where a text says so.
_ORPHANS = (
    """
    INSERT OR IGNORE INTO orphan
    SELECT l.key, CASE WHEN k.key IS NULL THEN 'unknown' ELSE 'unreferenced' END, l.size, l.etag, l.stored_at
    FROM listed AS l LEFT JOIN known AS k ON k.key = l.key
    WHERE l.kind = 'variant' AND (
      NOT EXISTS (SELECT 1 FROM reference AS r WHERE r.sha = l.sha AND r.recipe IN ('*', l.recipe))
      OR (k.key IS NULL
        AND EXISTS (SELECT 1 FROM recipe WHERE digest = l.recipe)
        AND NOT EXISTS (SELECT 1 FROM recipe WHERE digest = l.recipe AND file = l.file)
        AND NOT EXISTS (SELECT 1 FROM mentioned AS m WHERE m.sha = l.sha
          AND (m.recipe = '*' OR (m.recipe = l.recipe AND m.file IN ('*', l.file))))))
    """,
    """
    INSERT OR IGNORE INTO orphan
    SELECT l.key, CASE WHEN k.key IS NULL THEN 'unknown' ELSE 'unreferenced' END, l.size, l.etag, l.stored_at
    FROM listed AS l LEFT JOIN known AS k ON k.key = l.key
    WHERE l.kind = 'original' AND NOT EXISTS (
      SELECT 1 FROM original AS o WHERE o.sha = l.sha
      AND (o.file IN ('*', l.file) OR k.key IS NOT NULL))
    """,
    # Somebody else's spelling: only names that texts were searched for, and nothing that the catalog has.
    """
    INSERT OR IGNORE INTO orphan
    SELECT l.key, 'foreign', l.size, l.etag, l.stored_at
    FROM listed AS l JOIN searched AS s ON s.name = l.file
    WHERE l.kind = 'foreign'
      AND NOT EXISTS (SELECT 1 FROM name AS n WHERE n.name = l.file)
      AND NOT EXISTS (SELECT 1 FROM known AS k WHERE k.key = l.key)
    """,
)


@dataclass(frozen=True)
class Orphan:
    """An object that nothing refers to; size in bytes, `stored_at` in UTC.

    `reason`: `unknown` (pp_object does not know it), `unreferenced` (it does, but nothing needs it any more),
    `foreign` (its key is not of our spelling; in the prefix all the same).
    """

    key: str
    reason: str
    size: int
    etag: str
    stored_at: datetime


@dataclass(frozen=True)
class Census:
    """Every listed object in exactly one class; bytes of the orphans.

    Attributes:
        listed: All objects of the listing. It is the sum of the four below it.
        referenced: Something refers to it, or it cannot be told that nothing does.
        fresh: Nothing does, but it is younger than the grace period.
        orphans: Nothing does.
        foreign: Likewise, and its key is somebody else's spelling.
        orphan_bytes: Bytes of `orphans`.
        foreign_bytes: Bytes of `foreign`.
    """

    listed: int
    referenced: int
    fresh: int
    orphans: int
    foreign: int
    orphan_bytes: int
    foreign_bytes: int

    @property
    def share(self) -> float:
        """Orphans among all listed objects, 0 to 1."""
        return (self.orphans + self.foreign) / self.listed if self.listed else 0.0


def compare(workspace: Workspace, *, stored_before: datetime) -> Census:
    """Fill the workspace's list of orphans; return how many objects are in which class.

    Args:
        workspace: With listing and references.
        stored_before: Younger objects are fresh.
    """
    for statement in (*_SUMS, *_ORPHANS):
        workspace.execute(statement)
    listed = workspace.number("SELECT COUNT(*) FROM listed")
    unreferenced = workspace.number("SELECT COUNT(*) FROM orphan")
    workspace.execute("DELETE FROM orphan WHERE stored_at > ?", (stored_before.timestamp(),))
    total = "SELECT COUNT(*), SUM(size) FROM orphan WHERE (reason = 'foreign') = ?"
    ((orphans, orphan_bytes),) = workspace.rows(total, (False,))
    ((foreign, foreign_bytes),) = workspace.rows(total, (True,))
    return Census(
        listed=listed,
        referenced=listed - unreferenced,
        fresh=unreferenced - orphans - foreign,
        orphans=orphans,
        foreign=foreign,
        orphan_bytes=orphan_bytes or 0,
        foreign_bytes=foreign_bytes or 0,
    )


def compare_more(workspace: Workspace, prefixes: Prefixes, rows: Iterable[Any]) -> None:
    """Let `is_referenced` answer for objects that are not in the listing, such as deleted ones.

    Args:
        workspace: With references that were compared.
        prefixes: Ours.
        rows: Of `pp_orphan`.
    """
    for row in rows:
        add_listed(workspace, prefixes, row.key, row.bytes, row.etag, row.stored_at)
    workspace.flush()
    for statement in _ORPHANS:
        workspace.execute(statement)


def add_listed(
    workspace: Workspace, prefixes: Prefixes, key: str, size: int, etag: str, stored_at: datetime
) -> None:
    """Add an object to the workspace's listing, with what its key says; `size` in bytes."""
    facts = key_facts(key, prefix=prefixes.photos, originals_prefix=prefixes.originals)
    values = (key, size, etag, stored_at.timestamp(), facts.kind, facts.sha256, facts.recipe, facts.file)
    workspace.add("listed", *values)


def orphans_after(workspace: Workspace, key: str, *, limit: int) -> list[Orphan]:
    """Return the orphans whose keys come after that one, in their order, at most so many."""
    query = "SELECT key, reason, size, etag, stored_at FROM orphan WHERE key > ? ORDER BY key LIMIT ?"
    return [
        Orphan(name, reason, size, etag, datetime.fromtimestamp(stored_at, UTC))
        for name, reason, size, etag, stored_at in workspace.rows(query, (key, limit))
    ]


def every_orphan(workspace: Workspace, *, page: int = 500) -> Iterator[list[Orphan]]:
    """Yield all orphans by key, in lists; the workspace may be written between them."""
    after = ""
    while found := orphans_after(workspace, after, limit=page):
        yield found
        after = found[-1].key


def is_referenced(workspace: Workspace, key: str) -> bool:
    """Return whether the key, which was compared in this workspace, is not an orphan in it."""
    return not workspace.number("SELECT COUNT(*) FROM orphan WHERE key = ?", (key,))
