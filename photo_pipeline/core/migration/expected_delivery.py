"""What the CDN must deliver for photos: each object by its name, and by Accept where rows carry `.auto`.

Decides what is asked for; asking is `core.delivery.canary` and `validate`. Only proven objects may be passed
in: a CDN keeps the error that it answers for a missing one (DESIGN rule 2).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.caching import cache_control
from photo_pipeline.core.delivery.canary import Expected
from photo_pipeline.core.delivery.routing import ACCEPT_BY_FORMAT, AUTO_SUFFIX
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.photos import Photo


def expected_of(config: PipelineConfig, url: str, row: Any) -> Expected:
    """Return what the URL must deliver, which is the object of that `pp_object` row."""
    header = cache_control(config.cdn, row.format)
    return Expected(url, row.checksum, row.mime, header, earlier=config.cdn.earlier_cache_control)


def negotiated(config: PipelineConfig, url: str, row: Any) -> Expected:
    """Return what an `.auto` URL must deliver to a browser that takes the row's format and none better."""
    return replace(expected_of(config, url, row), accept=ACCEPT_BY_FORMAT[row.format])


def canary_urls(
    config: PipelineConfig, naming: ObjectNaming, photos: Iterable[Photo], objects: Mapping[str, Any]
) -> list[Expected]:
    """Return one URL of each class: variant and format, by name, and by Accept where rows carry `.auto`.

    Args:
        config: The configuration.
        naming: Names the photos' objects.
        photos: Primary photos.
        objects: `pp_object` rows of proven objects, by key; a variant without one is left out.
    """
    seen: dict[tuple[str, str, bool], Expected] = {}
    for photo in photos:
        is_auto = config.source(photo.source).rewrite.format == "auto"
        for each in naming.variants(photo):
            row = objects.get(each.key)
            if row is None:
                continue
            by_name = (each.variant, each.format, False)
            if by_name not in seen:
                seen[by_name] = expected_of(config, naming.urls.url(each.key), row)
            if is_auto and (each.variant, each.format, True) not in seen:
                url = naming.urls.url(naming.variant_key(photo, each.variant, AUTO_SUFFIX[1:]))
                seen[each.variant, each.format, True] = negotiated(config, url, row)
    return list(seen.values())
