"""One look at bucket and database: which objects nothing refers to. Writes nothing in either.

The listing comes first and the references after it: an object that is stored and referred to in between is
in no listing, and one that is listed and referred to in between is seen. See `orphans_compare` for the rules.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cleanup.listing import Listing
from photo_pipeline.core.cleanup.orphans_bucket import Bucket
from photo_pipeline.core.cleanup.orphans_compare import (
    Census,
    Orphan,
    add_listed,
    compare,
    orphans_after,
)
from photo_pipeline.core.cleanup.orphans_guards import require_known, require_prefixes, require_state
from photo_pipeline.core.cleanup.orphans_references import References
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.progress import Progress, no_progress

SHOWN = 1_000
"""How many orphans or findings a result names; it counts all."""
_TICK_EVERY = 1_000

Tick = Callable[[], None]


def no_tick() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Scan:
    """What one look found.

    Attributes:
        origin: Where the listing came from.
        made_at: When it was made, UTC.
        census: Every object in one class.
        orphans: The first of them by key.
    """

    origin: str
    made_at: datetime
    census: Census
    orphans: list[Orphan] = field(default_factory=list)


def load_listing(
    workspace: Workspace,
    bucket: Bucket,
    listing: Listing,
    *,
    tick: Tick = no_tick,
    progress: Progress = no_progress,
) -> int:
    """Write the listing into the workspace; return how many objects it has below our prefixes.

    Raises:
        StoreError: the store failed or refused a request.
    """
    prefixes, count = bucket.prefixes, 0
    for each in listing.objects():
        if not prefixes.cover(each.key):
            continue
        add_listed(workspace, prefixes, each.key, each.size, each.etag, each.last_modified)
        count += 1
        if count % _TICK_EVERY == 0:
            tick()
            progress("objects listed", count, None)
    workspace.flush()
    return count


def look_at_references(
    workspace: Workspace,
    database: Database,
    config: PipelineConfig,
    *,
    stored_before: datetime,
    tick: Tick = no_tick,
) -> Census:
    """Read everything that refers to objects, and compare; whatever was read before is forgotten.

    Args:
        workspace: With a listing.
        database: The application's database.
        config: Its mapping.
        stored_before: Younger objects are no orphans.
        tick: Called all the while.

    Raises:
        GuardRefusedError: the database is empty, or a part of it cannot be read.
        DatabaseError: it went away.
    """
    workspace.forget_references()
    references = References(database, config, workspace, tick)
    references.gather()
    require_known(objects=workspace.number("SELECT COUNT(*) FROM known"), rows=references.rows)
    tick()
    census = compare(workspace, stored_before=stored_before)
    tick()
    return census


def scan(
    workspace: Workspace,
    database: Database,
    config: PipelineConfig,
    bucket: Bucket,
    listing: Listing,
    *,
    tick: Tick = no_tick,
    progress: Progress = no_progress,
) -> Scan:
    """List the bucket and say which of its objects nothing refers to.

    Args:
        workspace: A new one; it holds every orphan afterwards.
        database: The application's database.
        config: The configuration.
        bucket: The bucket.
        listing: What is in it.
        tick: Called all the while, as to renew a lease.
        progress: Told how many objects are listed.

    Raises:
        GuardRefusedError: it cannot be told: no state tables, empty database, no prefix, unreadable table.
        StoreError: the store failed or refused a request.
        DatabaseError: the database went away.
    """
    require_prefixes(bucket.prefixes)
    require_state(database)
    load_listing(workspace, bucket, listing, tick=tick, progress=progress)
    census = look_at_references(
        workspace, database, config, stored_before=fresh_since(bucket, config, listing), tick=tick
    )
    return Scan(listing.origin, listing.made_at, census, orphans_after(workspace, "", limit=SHOWN))


def fresh_since(bucket: Bucket, config: PipelineConfig, listing: Listing) -> datetime:
    """Return since when an object counts as fresh, by the store's clock and the listing's own time."""
    return min(bucket.now(), listing.made_at) - grace(config)


def grace(config: PipelineConfig) -> timedelta:
    """Return the grace period."""
    return timedelta(hours=config.orphans.grace_hours)
