"""Foretells a picture's file sizes: the size model, and where it is unsure a fast encode that settles it."""

from collections.abc import Sequence
from math import log

from PIL import Image

from photo_pipeline.core.imaging.encode import Encoder
from photo_pipeline.core.imaging.search import highest_fitting
from photo_pipeline.core.imaging.size_model import Floats, SizeCurve, curve_model

# Standard deviations within which the model alone is believed that the highest quality fits.
_SURE = 2.0


def forecast(
    encoder: Encoder, image: Image.Image, features: Floats, *, budget: int, qualities: Sequence[int]
) -> SizeCurve:
    """Returns what to expect of the image's files at some qualities.

    Where the encoder has a scout and the model alone cannot say that the highest fits, the scout is sent to
    the quality that would fill the budget: a curve is foretold best near where it was looked at.

    Args:
        encoder: The encoder.
        image: The pixels that will be encoded.
        features: What `probe` measured of them.
        budget: The bytes that a file may have.
        qualities: Ascending.
    """
    pixels = image.width * image.height
    curve = SizeCurve(curve_model(encoder.name), features, pixels=pixels, qualities=qualities)
    if encoder.scout is None or curve.log_bytes(sigmas=_SURE)[-1] <= log(budget):
        return curve
    quality = qualities[highest_fitting(curve.log_bytes(), budget)]
    curve.learn_scout(quality, len(encoder.scout(image, quality)))
    return curve
