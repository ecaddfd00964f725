"""What the state tables say in numbers: sizes, variants, objects, rewrites, validations, times.

Pure reads, each one statement over an open connection. What deserves a person's attention is `findings`;
how any of it looks is `html`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import (
    PhotoState,
    RewriteOutcome,
    object_table,
    photo_table,
    rewrite_table,
    store_table,
    validation_table,
)
from photo_pipeline.core.config import PipelineConfig, VariantSettings
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.migration.photos import ObjectNaming
from photo_pipeline.core.storage.probe import StoreProbe

_FORMATS = [each.value for each in ImageFormat]


@dataclass(frozen=True)
class FormatSize:
    """The full-size variants of one format beside their sources; contents are counted once each."""

    format: str
    contents: int
    before_bytes: int
    after_bytes: int

    @property
    def saved_share(self) -> float:
        """The share of bytes saved, 0 to 1; negative if the variants are larger."""
        return 1 - self.after_bytes / self.before_bytes if self.before_bytes else 0.0


@dataclass(frozen=True)
class Sizes:
    """Bytes before and after, for the distinct contents of migrated photos.

    `contents` and `source_bytes` leave out the resized copies that the application kept itself; those are
    `copies` and `copies_bytes`. `rows_format` is the format that most migrated rows name.
    """

    contents: int = 0
    source_bytes: int = 0
    copies: int = 0
    copies_bytes: int = 0
    rows_format: str = ImageFormat.JPEG.value
    by_format: tuple[FormatSize, ...] = ()
    stored_variants_bytes: int = 0
    stored_originals_bytes: int = 0

    @property
    def headline(self) -> FormatSize | None:
        """Before and after in the format that most rows name, or None before anything is migrated."""
        return next((each for each in self.by_format if each.format == self.rows_format), None)


@dataclass(frozen=True)
class VariantFiles:
    """All files of one variant in one format; `qualities` counts files by encoder quality."""

    variant: str
    format: str
    files: int
    bytes: int
    median_quality: float | None
    mean_encodes: float
    missed_targets: int
    qualities: dict[int, int]


@dataclass(frozen=True)
class Objects:
    """The objects in the store; `verified_by` counts the proven ones by method."""

    total: int = 0
    verified_by: dict[str, int] | None = None

    @property
    def verified(self) -> int:
        """How many are proven."""
        return sum((self.verified_by or {}).values())


@dataclass(frozen=True)
class Rewrites:
    """The ledger's photo columns by what became of them; repeated attempts count each time."""

    applied: int = 0
    conflicts: int = 0
    failed: int = 0
    rolled_back: int = 0
    rollback_conflicts: int = 0


@dataclass(frozen=True)
class Validation:
    """The last validation of each photo that is migrated now."""

    passed: int = 0
    failed: int = 0
    unchecked: int = 0


@dataclass(frozen=True)
class StoreAnswers:
    """What the probe saw one store do, and how objects are proven there because of it."""

    endpoint: str
    bucket: str
    rejects_wrong_checksum: bool
    reports_checksum: bool
    honours_if_none_match: bool
    verification: str
    probed_at: datetime


@dataclass(frozen=True)
class Times:
    """When things happened (UTC); None for what has not happened."""

    inventoried_at: datetime | None = None
    first_variant_at: datetime | None = None
    last_upload_at: datetime | None = None
    first_rewrite_at: datetime | None = None
    last_rewrite_at: datetime | None = None
    last_rollback_at: datetime | None = None
    last_validation_at: datetime | None = None


def main_variant(preset: dict[str, VariantSettings]) -> str:
    """Return the preset's full-size variant: `full`, or else the one with the largest box."""
    return (
        "full" if "full" in preset else max(preset, key=lambda name: preset[name].width * preset[name].height)
    )


def main_variants(config: PipelineConfig) -> list[str]:
    """Return the names of the full-size variants of every preset in use."""
    return sorted({main_variant(dict(config.variants[source.preset])) for source in config.sources})


def photo_states(connection: Connection) -> dict[str, int]:
    """Return how many rows of `pp_photo` are in each state, every state named."""
    grouped = sa.select(photo_table.c.state, sa.func.count()).group_by(photo_table.c.state)
    return {str(each): 0 for each in PhotoState} | _counts(connection, grouped)


def sizes(connection: Connection, config: PipelineConfig) -> Sizes:
    """Return bytes before and after."""
    contents = _contents(photo_table.c.role != "variant").subquery()
    copies = _contents(photo_table.c.role == "variant").subquery()
    number, total = _count_and_sum(connection, contents)
    copy_number, copy_total = _count_and_sum(connection, copies)
    stored = _stored_bytes(connection, config)
    return Sizes(
        contents=number,
        source_bytes=total,
        copies=copy_number,
        copies_bytes=copy_total,
        rows_format=_rows_format(connection, config),
        by_format=_by_format(connection, config, contents),
        stored_variants_bytes=stored[False],
        stored_originals_bytes=stored[True],
    )


def _contents(kind: sa.ColumnElement[bool]) -> sa.Select[Any]:
    photo = photo_table.c
    return (
        sa.select(photo.sha256, sa.func.max(photo.size).label("size"))
        .where(photo.state == PhotoState.MIGRATED, photo.sha256.is_not(None), kind)
        .group_by(photo.sha256)
    )


def _count_and_sum(connection: Connection, contents: sa.Subquery) -> tuple[int, int]:
    row = connection.execute(sa.select(sa.func.count(), sa.func.sum(contents.c.size))).one()
    return int(row[0]), int(row[1] or 0)


def _proven(config: PipelineConfig) -> list[sa.ColumnElement[bool]]:
    stored = object_table.c
    return [
        stored.bucket == config.store.bucket,
        stored.verified_at.is_not(None),
        stored.deleted_at.is_(None),
    ]


def _stored_bytes(connection: Connection, config: PipelineConfig) -> dict[bool, int]:
    """Return the bytes of proven objects, of originals under True and of variants under False."""
    stored = object_table.c
    query = (
        sa.select(stored.recipe, sa.func.sum(stored.bytes)).where(*_proven(config)).group_by(stored.recipe)
    )
    total = {True: 0, False: 0}
    for recipe, size_bytes in connection.execute(query):
        total[not recipe] += int(size_bytes)
    return total


def _by_format(
    connection: Connection, config: PipelineConfig, contents: sa.Subquery
) -> tuple[FormatSize, ...]:
    """Join each content with its full-size variants, whichever recipe made them (the larger counts)."""
    stored = object_table.c
    largest = (
        sa.select(stored.source_sha256, stored.format, sa.func.max(stored.bytes).label("bytes"))
        .where(*_proven(config), stored.recipe != "", stored.variant.in_(main_variants(config)))
        .group_by(stored.source_sha256, stored.format)
        .subquery()
    )
    query = (
        sa.select(
            largest.c.format, sa.func.count(), sa.func.sum(contents.c.size), sa.func.sum(largest.c.bytes)
        )
        .join(contents, contents.c.sha256 == largest.c.source_sha256)
        .group_by(largest.c.format)
    )
    found = {
        row[0]: FormatSize(row[0], int(row[1]), int(row[2]), int(row[3])) for row in connection.execute(query)
    }
    return tuple(found[name] for name in sorted(found, key=_format_rank))


def _format_rank(name: str) -> tuple[int, str]:
    return (_FORMATS.index(name) if name in _FORMATS else len(_FORMATS), name)


def _rows_format(connection: Connection, config: PipelineConfig) -> str:
    photo, naming = photo_table.c, ObjectNaming(config)
    grouped = (
        sa.select(photo.source, sa.func.count())
        .where(photo.state == PhotoState.MIGRATED)
        .group_by(photo.source)
    )
    migrated, votes = _counts(connection, grouped), Counter[str]()
    for source in config.sources:
        votes[naming.value_format(source.name)[1].value] += migrated.get(source.name, 0)
    return votes.most_common(1)[0][0]


def variant_files(connection: Connection, config: PipelineConfig) -> tuple[VariantFiles, ...]:
    """Return the variants by name and format, the largest box's first."""
    stored = object_table.c
    missed = sa.func.sum(sa.case((stored.met_target.is_(False), 1), else_=0))
    query = (
        sa.select(
            *(stored.variant, stored.format, stored.quality),
            *(sa.func.count(), sa.func.sum(stored.bytes), sa.func.sum(stored.encodes), missed),
        )
        .where(stored.bucket == config.store.bucket, stored.recipe != "", stored.deleted_at.is_(None))
        .group_by(stored.variant, stored.format, stored.quality)
    )
    groups: dict[tuple[str, str], list[Any]] = {}
    for row in connection.execute(query):
        groups.setdefault((row[0], row[1]), []).append(row)
    mains = main_variants(config)
    order = sorted(groups, key=lambda key: (key[0] not in mains, key[0], _format_rank(key[1])))
    return tuple(_variant(key, groups[key]) for key in order)


def _variant(key: tuple[str, str], rows: list[Any]) -> VariantFiles:
    files = sum(int(row[3]) for row in rows)
    qualities = {int(row[2]): int(row[3]) for row in rows if row[2] is not None}
    return VariantFiles(
        variant=key[0],
        format=key[1],
        files=files,
        bytes=sum(int(row[4]) for row in rows),
        median_quality=_median(qualities),
        mean_encodes=sum(int(row[5] or 0) for row in rows) / files,
        missed_targets=sum(int(row[6]) for row in rows),
        qualities=dict(sorted(qualities.items())),
    )


def _median(counts: dict[int, int]) -> float | None:
    total = sum(counts.values())
    if not total:
        return None
    return (_nth(counts, (total - 1) // 2) + _nth(counts, total // 2)) / 2


def _nth(counts: dict[int, int], position: int) -> int:
    """Return the value at `position` (from 0) among all counted values in order."""
    for value in sorted(counts):
        position -= counts[value]
        if position < 0:
            return value
    raise IndexError(position)


def objects(connection: Connection, config: PipelineConfig) -> Objects:
    """Return how many objects there are and how they were proven."""
    stored = object_table.c
    there = (stored.bucket == config.store.bucket, stored.deleted_at.is_(None))
    total = connection.execute(
        sa.select(sa.func.count()).select_from(object_table).where(*there)
    ).scalar_one()
    by_method = (
        sa.select(stored.verified_by, sa.func.count())
        .where(*there, stored.verified_at.is_not(None))
        .group_by(stored.verified_by)
    )
    return Objects(total=int(total), verified_by=_counts(connection, by_method))


def rewrites(connection: Connection) -> Rewrites:
    """Return the ledger's outcomes."""
    ledger = rewrite_table.c
    counts = _counts(
        connection,
        sa.select(ledger.outcome, sa.func.count())
        .where(ledger.photo_id.is_not(None))
        .group_by(ledger.outcome),
    )
    return Rewrites(
        applied=counts.get(RewriteOutcome.APPLIED, 0),
        conflicts=counts.get(RewriteOutcome.CONFLICT, 0),
        failed=counts.get(RewriteOutcome.FAILED, 0),
        rolled_back=counts.get(RewriteOutcome.ROLLED_BACK, 0),
        rollback_conflicts=counts.get(RewriteOutcome.ROLLBACK_CONFLICT, 0),
    )


def validation(connection: Connection) -> Validation:
    """Return the results for the photos that are migrated now."""
    photo, checked = photo_table.c, validation_table.c
    grouped = (
        sa.select(checked.ok, sa.func.count())
        .select_from(photo_table.outerjoin(validation_table, checked.photo_id == photo.id))
        .where(photo.state == PhotoState.MIGRATED)
        .group_by(checked.ok)
    )
    counts = {row[0]: int(row[1]) for row in connection.execute(grouped)}
    return Validation(counts.get(True, 0), counts.get(False, 0), counts.get(None, 0))


def store_answers(connection: Connection) -> tuple[StoreAnswers, ...]:
    """Return the probe's answers for every store that was asked."""
    query = sa.select(store_table).order_by(store_table.c.endpoint, store_table.c.bucket)
    return tuple(_answers(row) for row in connection.execute(query))


def _answers(row: Any) -> StoreAnswers:
    probe = StoreProbe(row.rejects_wrong_checksum, row.reports_checksum, row.honours_if_none_match)
    return StoreAnswers(
        endpoint=row.endpoint,
        bucket=row.bucket,
        rejects_wrong_checksum=probe.rejects_wrong_checksum,
        reports_checksum=probe.reports_checksum,
        honours_if_none_match=probe.honours_if_none_match,
        verification=probe.verification,
        probed_at=row.probed_at,
    )


def times(connection: Connection, inventoried_at: datetime | None) -> Times:
    """Return when the steps ran."""
    stored, ledger, checked = object_table.c, rewrite_table.c, validation_table.c
    first, last = sa.func.min, sa.func.max
    made = connection.execute(sa.select(first(stored.made_at), last(stored.uploaded_at))).one()
    written = connection.execute(
        sa.select(first(ledger.applied_at), last(ledger.applied_at), last(ledger.rolled_back_at))
    ).one()
    validated = connection.execute(sa.select(last(checked.checked_at))).scalar_one()
    return Times(inventoried_at, *made, *written, validated)


def _counts(connection: Connection, grouped: sa.Select[Any]) -> dict[str, int]:
    rows: Iterable[Any] = connection.execute(grouped)
    return {str(row[0]): int(row[1]) for row in rows}
