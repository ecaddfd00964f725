"""How the measured variants look: scores by format, and the worst of them by name.

Pure reads over an open connection. The pictures of the worst are `quality_pictures`; which variants are
measured is decided in `core.migration.visual_quality`.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import PhotoState, object_table, photo_table, quality_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.report.measures import counted
from photo_pipeline.core.report.sizes import format_rank, median

WORST = 6

# Rows in memory at a time: where everything is measured, there are millions.
_CHUNK = 2_000


@dataclass(frozen=True)
class FormatQuality:
    """The scores of one format; `below` counts those under the floor."""

    format: str
    measured: int
    mean: float
    median: float
    worst: float
    below: int


@dataclass(frozen=True)
class WorstVariant:
    """The variant with the lowest score of one photo.

    `quality` is the encoder's setting, None for lossless; `proven` says whether the store holds it. The photo
    is named by one of the rows that show it.
    """

    score: float
    key: str
    variant: str
    format: str
    bytes: int
    width: int
    height: int
    quality: int | None
    checksum: str
    proven: bool
    photo_id: int
    source: str
    row_key: str
    path: str


@dataclass(frozen=True)
class VisualQuality:
    """What was measured, in points of the metrics in `metrics` (name and version).

    `not_measured` counts variants of the sample by the reason why they have no score.
    """

    floor: float = 0.0
    metrics: tuple[str, ...] = ()
    by_format: tuple[FormatQuality, ...] = ()
    worst: tuple[WorstVariant, ...] = ()
    not_measured: dict[str, int] = field(default_factory=dict)

    @property
    def measured(self) -> int:
        """How many variants have a score."""
        return sum(each.measured for each in self.by_format)

    @property
    def below(self) -> int:
        """How many of them are below the floor."""
        return sum(each.below for each in self.by_format)


def collect_quality(connection: Connection, config: PipelineConfig, *, limit: int = WORST) -> VisualQuality:
    """Return the scores by format, and the worst variant of each of the `limit` worst photos."""
    columns = quality_table.c
    reasons = _measured(config, columns.reason, sa.func.count(), has_score=False).group_by(columns.reason)
    metrics = _measured(config, columns.metric).distinct().order_by(columns.metric)
    return VisualQuality(
        floor=config.quality.floor,
        metrics=tuple(connection.execute(metrics).scalars()),
        by_format=_by_format(connection, config),
        worst=_worst(connection, config, limit),
        not_measured=counted(connection, reasons),
    )


def _measured(config: PipelineConfig, *columns: Any, has_score: bool = True) -> sa.Select[Any]:
    """Select from the measured variants that were not deleted since."""
    quality, stored = quality_table.c, object_table.c
    return (
        sa.select(*columns)
        .select_from(quality_table)
        .join(object_table, sa.and_(stored.bucket == quality.bucket, stored.key == quality.key))
        .where(
            quality.bucket == config.store.bucket,
            stored.deleted_at.is_(None),
            quality.score.is_not(None) if has_score else quality.score.is_(None),
        )
    )


def _by_format(connection: Connection, config: PipelineConfig) -> tuple[FormatQuality, ...]:
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    query = _measured(config, object_table.c.format, quality_table.c.score)
    for chunk in connection.execute(query.execution_options(yield_per=_CHUNK)).partitions():
        for name, score in chunk:
            # In hundredths of a point, so that memory does not grow with the photos.
            counts[name][round(score * 100)] += 1
    floor = config.quality.floor
    return tuple(_format_quality(name, counts[name], floor) for name in sorted(counts, key=format_rank))


def _format_quality(name: str, counts: Counter[int], floor: float) -> FormatQuality:
    measured = counts.total()
    return FormatQuality(
        format=name,
        measured=measured,
        mean=sum(score * count for score, count in counts.items()) / measured / 100,
        median=(median(counts) or 0) / 100,
        worst=min(counts) / 100,
        below=sum(count for score, count in counts.items() if score < floor * 100),
    )


def _worst(connection: Connection, config: PipelineConfig, limit: int) -> tuple[WorstVariant, ...]:
    content, score = object_table.c.source_sha256, quality_table.c.score
    query = _measured(config, content).group_by(content).order_by(sa.func.min(score), content).limit(limit)
    found = []
    for each in connection.execute(query).scalars().all():
        of_photo = _measured(config, score, object_table).where(content == each).order_by(score)
        variant = connection.execute(of_photo.limit(1)).one()
        photo = _photo(connection, each)
        if photo is not None:
            found.append(_worst_variant(variant, photo))
    return tuple(found)


def _photo(connection: Connection, content: str) -> Any | None:
    """Return one row of `pp_photo` that shows the content, the first of those that still do."""
    photo = photo_table.c
    query = (
        sa.select(photo_table)
        .where(photo.sha256 == content, photo.source.is_not(None), photo.role != "variant")
        .order_by(photo.state == PhotoState.SUPERSEDED, photo.id)
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def _worst_variant(row: Any, photo: Any) -> WorstVariant:
    return WorstVariant(
        score=row.score,
        key=row.key,
        variant=row.variant,
        format=row.format,
        bytes=row.bytes,
        width=row.width,
        height=row.height,
        quality=row.quality,
        checksum=row.checksum,
        proven=row.verified_at is not None,
        photo_id=photo.id,
        source=photo.source,
        row_key=photo.row_key,
        path=photo.path,
    )
