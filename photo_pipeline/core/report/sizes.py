"""Bytes before and after, and the variants behind them, by format.

Pure reads over an open connection. Counts of everything else are `measures`.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import PhotoState, object_table, photo_table
from photo_pipeline.core.config import PipelineConfig, VariantSettings
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.migration.naming import value_format
from photo_pipeline.core.report.measures import counted

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


def main_variant(preset: dict[str, VariantSettings]) -> str:
    """Return the preset's full-size variant: `full`, or else the one with the largest box."""
    return (
        "full" if "full" in preset else max(preset, key=lambda name: preset[name].width * preset[name].height)
    )


def main_variants(config: PipelineConfig) -> list[str]:
    """Return the names of the full-size variants of every preset in use."""
    return sorted({main_variant(dict(config.variants[source.preset])) for source in config.sources})


def collect_sizes(connection: Connection, config: PipelineConfig) -> Sizes:
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


def batch_size(connection: Connection, config: PipelineConfig, batch: str) -> FormatSize | None:
    """Return a batch's migrated photos before and after, in the format that most rows name, or None."""
    contents = _contents(sa.and_(photo_table.c.role != "variant", photo_table.c.batch == batch)).subquery()
    rows_format = _rows_format(connection, config)
    return next(
        (each for each in _by_format(connection, config, contents) if each.format == rows_format), None
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
        .where(
            *_proven(config),
            stored.recipe != "",
            stored.variant.in_(main_variants(config)),
            # Else one batch's sizes would read every object.
            stored.source_sha256.in_(sa.select(contents.c.sha256)),
        )
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
    return tuple(found[name] for name in sorted(found, key=format_rank))


def format_rank(name: str) -> tuple[int, str]:
    """Return the sort key that puts formats in their usual order, unknown ones last."""
    return (_FORMATS.index(name) if name in _FORMATS else len(_FORMATS), name)


def _rows_format(connection: Connection, config: PipelineConfig) -> str:
    photo = photo_table.c
    grouped = (
        sa.select(photo.source, sa.func.count())
        .where(photo.state == PhotoState.MIGRATED)
        .group_by(photo.source)
    )
    migrated, votes = counted(connection, grouped), Counter[str]()
    for source in config.sources:
        votes[value_format(source)[1].value] += migrated.get(source.name, 0)
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
    order = sorted(groups, key=lambda key: (key[0] not in mains, key[0], format_rank(key[1])))
    return tuple(_variant(key, groups[key]) for key in order)


def _variant(key: tuple[str, str], rows: list[Any]) -> VariantFiles:
    files = sum(int(row[3]) for row in rows)
    qualities = {int(row[2]): int(row[3]) for row in rows if row[2] is not None}
    return VariantFiles(
        variant=key[0],
        format=key[1],
        files=files,
        bytes=sum(int(row[4]) for row in rows),
        median_quality=median(qualities),
        mean_encodes=sum(int(row[5] or 0) for row in rows) / files,
        missed_targets=sum(int(row[6]) for row in rows),
        qualities=dict(sorted(qualities.items())),
    )


def median(counts: dict[int, int]) -> float | None:
    """Return the median of counted values, or None without any."""
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
