"""The worst measured variants beside their photos, as data URIs: what the scores mean to the eye.

Scaled down, artefacts vanish. So both sides show the same detail at the variant's own resolution, from where
they differ most. As in `pictures`, nothing here may break a report.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from PIL import Image, ImageChops, ImageStat

from photo_pipeline.core.catalog.checksums import has_checksum
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import photo_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.errors import ConfigurationError, PhotoError
from photo_pipeline.core.imaging.quality import make_reference, open_variant
from photo_pipeline.core.imaging.recipe import Recipe
from photo_pipeline.core.migration.naming import ObjectNaming, staged_path
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.report.pictures import (
    MAX_SHOWN_PIXELS,
    Deliveries,
    NoPictureError,
    Picture,
    data_uri,
    read_local,
)
from photo_pipeline.core.report.visual_quality import WorstVariant

DETAIL = (360, 240)
"""Width and height of the detail, in pixels; six pairs then take about 0.5 MB, and 1.2 MB of pure noise."""

# Visually lossless: what is seen must be the variant's artefacts, not ours.
_WEBP_QUALITY = 90


@dataclass(frozen=True)
class QualityPair:
    """One variant beside its photo at the same size; `url` is where the CDN serves it, if it does."""

    worst: WorstVariant
    url: str | None
    original: Picture
    variant: Picture


def worst_pairs(
    database: Database, config: PipelineConfig, cdn: Cdn, worst: Sequence[WorstVariant]
) -> tuple[QualityPair, ...]:
    """Return the variants beside their photos; reads local files, and the CDN for what left staging."""
    with database.read() as connection:
        query = sa.select(photo_table).where(photo_table.c.id.in_([each.photo_id for each in worst]))
        rows = {row.id: row for row in connection.execute(query)}
    naming, delivered = ObjectNaming(config, database), Deliveries(config, cdn)
    return tuple(_pair(each, rows[each.photo_id], config, naming, delivered) for each in worst)


def _pair(
    worst: WorstVariant, row: Any, config: PipelineConfig, naming: ObjectNaming, delivered: Deliveries
) -> QualityPair:
    url = naming.urls.url(worst.key) if worst.proven else None
    recipe = _recipe(row, naming)
    original = _tried(lambda: _original(worst, row, config, recipe))
    variant = _tried(lambda: _variant(worst, url, config, recipe, delivered))
    box = where_they_differ(original, variant, (worst.width, worst.height))
    return QualityPair(
        worst,
        url,
        _detail(original, box, Picture(bytes=row.size, width=row.width, height=row.height)),
        _detail(variant, box, Picture(bytes=worst.bytes, width=worst.width, height=worst.height)),
    )


def _recipe(row: Any, naming: ObjectNaming) -> Recipe | None:
    """Return the recipe of a `pp_photo` row, or None where the configuration no longer has its source."""
    try:
        return naming.recipe(Photo(**{name: row._mapping[name] for name in Photo.__dataclass_fields__}))
    except ConfigurationError:
        return None


def _background(recipe: Recipe | None) -> tuple[int, int, int]:
    return recipe.background if recipe else (255, 255, 255)


def _tried(make: Callable[[], Image.Image]) -> Image.Image | str:
    """Return the picture, or the sentence why there is none."""
    try:
        return make()
    except (NoPictureError, ConfigurationError) as problem:
        return str(problem)


def _original(worst: WorstVariant, row: Any, config: PipelineConfig, recipe: Recipe | None) -> Image.Image:
    def resized(path: Path) -> Image.Image:
        size = (worst.width, worst.height)
        return make_reference(
            path,
            [size],
            background=_background(recipe),
            max_pixels=MAX_SHOWN_PIXELS,
            watermark=recipe.watermark if recipe else None,
        )[size]

    return read_local(row, config, resized)


def _variant(
    worst: WorstVariant,
    url: str | None,
    config: PipelineConfig,
    recipe: Recipe | None,
    delivered: Deliveries,
) -> Image.Image:
    file = _staged(worst, config)
    if file is None and url is None:
        raise NoPictureError("It is neither in staging nor proven in the store.")
    try:
        bytes_or_path = file or delivered.fetch(url or "", f"image/{worst.format}")
        return open_variant(bytes_or_path, background=_background(recipe))
    except PhotoError as error:
        raise NoPictureError(f"The variant cannot be shown: {error.cause}.") from error


def _staged(worst: WorstVariant, config: PipelineConfig) -> Path | None:
    path = staged_path(config, worst.key)
    return path if has_checksum(path, worst.checksum) else None


def where_they_differ(
    original: Image.Image | str, variant: Image.Image | str, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the detail with the largest difference, or the middle where there is nothing to compare."""
    width, height = min(size[0], DETAIL[0]), min(size[1], DETAIL[1])
    if isinstance(original, str) or isinstance(variant, str) or original.size != variant.size:
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        return (left, top, left + width, top + height)
    difference = ImageChops.difference(original, variant).convert("L")
    boxes = [
        (left, top, left + width, top + height)
        for top in _starts(size[1], height)
        for left in _starts(size[0], width)
    ]
    return max(boxes, key=lambda box: ImageStat.Stat(difference.crop(box)).sum[0])


def _starts(side: int, length: int) -> list[int]:
    """Where details of that length begin along a side: half overlapping, the last one at its end."""
    return [*range(0, side - length, ceil(length / 2)), side - length]


def _detail(shown: Image.Image | str, box: tuple[int, int, int, int], facts: Picture) -> Picture:
    if isinstance(shown, str):
        return replace(facts, problem=shown)
    return replace(facts, data_uri=data_uri(shown.crop(box), "WEBP", quality=_WEBP_QUALITY))
