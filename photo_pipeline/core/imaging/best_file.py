"""The best file of some pixels in one format: drawings without loss, photographs by a quality search."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from PIL import Image

from photo_pipeline.core.imaging.animation import Animation, encode_animation
from photo_pipeline.core.imaging.encode import encode_lossless_webp, encoder
from photo_pipeline.core.imaging.forecast import forecast
from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe
from photo_pipeline.core.imaging.search import SearchResult, search_quality
from photo_pipeline.core.imaging.size_model import Floats, SizeCurve, curve_model, probe

# A photograph of 150 x 150 px already has some 15,000 colours, a screenshot or diagram seldom 2,000.
_DRAWING_COLOURS = 2_000

LOSSLESS_QUALITY = 100
"""What the catalogue says of a file that lost nothing."""


def best_file(
    pixels: Image.Image,
    format: ImageFormat,
    recipe: Recipe,
    *,
    max_bytes: int | None,
    is_drawing: bool,
    features: Callable[[], Floats],
) -> SearchResult:
    """Returns the best file within the budget.

    Args:
        pixels: What to encode.
        format: The format.
        recipe: The range of qualities, and the effort.
        max_bytes: The budget; None for none.
        is_drawing: Whether the source's format is one that drawings come in. If there are few colours too,
            a WebP may be lossless: it is taken where it fits the budget, or without a budget where it is
            smaller than the lossy file.
        features: What `probe` measures of these pixels; asked for only where a search needs it.
    """
    lossy = partial(_lossy, pixels, format, recipe, max_bytes=max_bytes, features=features)
    if not (is_drawing and format is ImageFormat.WEBP and pixels.getcolors(_DRAWING_COLOURS)):
        return lossy()
    exact = SearchResult(quality=LOSSLESS_QUALITY, data=encode_lossless_webp(pixels), encodes=1, met=True)
    if max_bytes is not None and len(exact.data) <= max_bytes:
        return exact
    other = lossy()
    is_smaller = max_bytes is None and len(exact.data) <= len(other.data)
    return replace(exact if is_smaller else other, encodes=other.encodes + 1)


def best_animation(
    frames: Sequence[Image.Image],
    animation: Animation,
    format: ImageFormat,
    recipe: Recipe,
    *,
    max_bytes: int | None,
) -> SearchResult:
    """Returns the best animated file within the budget, which is for all frames together.

    Args:
        frames: The pixels of each frame.
        animation: Durations and loop.
        format: One that can be animated.
        recipe: The range of qualities.
        max_bytes: The budget; None for none.
    """
    first = frames[0]
    name = encoder(format, recipe.effort).name
    qualities = range(recipe.quality_min, recipe.quality_max + 1)

    def expected(_: int) -> SizeCurve:
        # As if each frame were a picture of its own: too much, and corrected by the first encode.
        pixels = first.width * first.height * len(frames)
        return SizeCurve(curve_model(name), probe(first), pixels=pixels, qualities=qualities)

    encode = partial(encode_animation, frames, animation, format)
    return search_quality(encode, max_bytes=max_bytes, qualities=qualities, forecast=expected)


def _lossy(
    pixels: Image.Image,
    format: ImageFormat,
    recipe: Recipe,
    *,
    max_bytes: int | None,
    features: Callable[[], Floats],
) -> SearchResult:
    found = encoder(format, recipe.effort)
    qualities = range(recipe.quality_min, recipe.quality_max + 1)
    return search_quality(
        partial(found.encode, pixels),
        max_bytes=max_bytes,
        qualities=qualities,
        forecast=lambda budget: forecast(found, pixels, features(), budget=budget, qualities=qualities),
        good_fill=found.good_fill,
        caution=found.caution,
    )
