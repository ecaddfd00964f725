"""Which files of migrated (or uploaded) photos are fetched to warm the CDN: proven ones only."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import PhotoState
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.canary import Expected
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.delivery.warming import DEFAULT_CONCURRENCY, Warmed, warm_urls
from photo_pipeline.core.migration.expected_delivery import expected_of
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import batch_photos, object_rows
from photo_pipeline.core.migration.proof import is_proven_row
from photo_pipeline.core.migration.selection import batches_to_validate
from photo_pipeline.core.migration.state import batch_statuses
from photo_pipeline.core.progress import Progress, no_progress

# Photos whose variants are in the store, whether or not a row shows them yet.
_STORED = (PhotoState.UPLOADED, PhotoState.MIGRATED, PhotoState.STORED)


@dataclass(frozen=True)
class Selection:
    """Which files; an empty collection means all."""

    batches: Sequence[str]
    variants: Collection[str] = ()
    formats: Collection[str] = ()


def batches_to_warm(database: Database, *, wanted: Sequence[str] | None = None) -> list[str]:
    """Return the wanted batches, or all that have photos in the store.

    Raises:
        ConfigurationError: a wanted batch does not exist.
    """
    if wanted:
        return batches_to_validate(database, wanted=wanted)
    return [each.key for each in batch_statuses(database) if any(each.photos.get(s) for s in _STORED)]


def warm(
    database: Database,
    config: PipelineConfig,
    cdn: Cdn,
    selection: Selection,
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    progress: Progress = no_progress,
) -> Warmed:
    """Fetch the proven files of the batches through the CDN, each once in a batch.

    `.auto` URLs need no request of their own: what the CDN keeps are the files between which they choose.

    Raises:
        DeliveryError: the CDN cannot be reached.
    """
    warmed = Warmed()
    for batch in selection.batches:
        urls = _urls(database, config, selection, batch)
        warm_urls(cdn, urls, concurrency=concurrency, progress=progress, into=warmed)
    return warmed


def _urls(database: Database, config: PipelineConfig, selection: Selection, batch: str) -> Iterator[Expected]:
    naming = ObjectNaming(config, database)
    photos = [photo for photo in batch_photos(database, batch, _STORED) if not photo.is_copy]
    wanted = {
        each.key: None
        for photo in photos
        for each in naming.variants(photo)
        if (not selection.variants or each.variant in selection.variants)
        and (not selection.formats or each.format in selection.formats)
    }
    with database.read() as connection:
        rows = object_rows(connection, config.store.bucket, wanted)
    for key in wanted:
        if is_proven_row(row := rows.get(key)):
            yield expected_of(config, naming.urls.url(key), row)
