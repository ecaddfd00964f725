"""The best file of some pixels in one format: drawings without loss, photographs by a quality search."""

from collections.abc import Callable, Sequence
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
    exact = encode_lossless_webp(pixels)
    if max_bytes is not None and len(exact) <= max_bytes:
        return SearchResult(quality=LOSSLESS_QUALITY, data=exact, encodes=1, met=True)
    other = lossy()
    encodes = other.encodes + 1
    if max_bytes is None and len(exact) <= len(other.data):
        return SearchResult(quality=LOSSLESS_QUALITY, data=exact, encodes=encodes, met=True)
    return SearchResult(quality=other.quality, data=other.data, encodes=encodes, met=other.met)


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
    low, high = recipe.quality_min, recipe.quality_max
    encode = partial(encode_animation, frames, animation, format)
    if max_bytes is None:
        return SearchResult(quality=high, data=encode(high), encodes=1, met=True)
    first = frames[0]
    # As if each frame were a picture of its own: too much, and corrected by the first encode.
    pixels = first.width * first.height * len(frames)
    model = curve_model(encoder(format, recipe.effort).name)
    curve = SizeCurve(model, probe(first), pixels=pixels, low=low, high=high)
    return search_quality(encode, max_bytes=max_bytes, low=low, high=high, forecast=curve)


def _lossy(
    pixels: Image.Image,
    format: ImageFormat,
    recipe: Recipe,
    *,
    max_bytes: int | None,
    features: Callable[[], Floats],
) -> SearchResult:
    low, high = recipe.quality_min, recipe.quality_max
    found = encoder(format, recipe.effort)
    if max_bytes is None:
        return SearchResult(quality=high, data=found.encode(pixels, high), encodes=1, met=True)
    return search_quality(
        partial(found.encode, pixels),
        max_bytes=max_bytes,
        low=low,
        high=high,
        forecast=forecast(found, pixels, features(), budget=max_bytes, low=low, high=high),
        good_fill=found.good_fill,
    )
