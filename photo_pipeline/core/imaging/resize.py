"""Where a variant's pixels come from: crop, size, and the one resampling that makes them.

Nothing here ever enlarges. Decoding lives in `decode.py`.
"""

from dataclasses import dataclass

from PIL import Image

from photo_pipeline.core.imaging.recipe import VariantSpec

# A whole picture that was itself resampled by Lanczos, of at least 1.5 x the target, is good enough to make
# a smaller one from.
GAP = 1.5


Window = tuple[float, float, float, float]
"""Left, top, right, bottom in fractions of the picture."""


@dataclass(frozen=True)
class Geometry:
    """How a variant is cut out of the upright source.

    Attributes:
        box: Left, top, right, bottom of the part that is shown, in source pixels.
        size: Width and height of the variant in pixels.
    """

    box: tuple[float, float, float, float]
    size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Variant pixels per source pixel, at most about 1; the larger of both axes."""
        left, top, right, bottom = self.box
        return max(self.size[0] / (right - left), self.size[1] / (bottom - top))


def plan(
    spec: VariantSpec, *, width: int, height: int, shrink: float = 1.0, window: Window | None = None
) -> Geometry:
    """Decides a variant's crop and size.

    Args:
        spec: The variant.
        width: The source's displayed width in pixels.
        height: The source's displayed height in pixels.
        shrink: Factor on the variant's size, at most 1: the step down when no quality fits the bytes.
        window: Where a "cover" variant is cut out; None for the centre. Its size is not taken from here.

    Returns:
        The geometry. Its size is at least 1x1 and never larger than the box or the source.
    """
    if spec.fit == "cover":
        box, (fit_width, fit_height) = _cover(spec, width, height, window)
    else:
        box, (fit_width, fit_height) = _inside(spec, width, height)
    size = (max(1, round(fit_width * shrink)), max(1, round(fit_height * shrink)))
    return Geometry(box=box, size=size)


def render(base: Image.Image, geometry: Geometry, *, width: int, height: int) -> Image.Image:
    """Makes a variant's pixels in one resampling step.

    Args:
        base: The whole upright source, at any scale.
        geometry: What `plan` decided.
        width: The source's displayed width in pixels, which the geometry's box is measured in.
        height: The source's displayed height in pixels.

    Returns:
        An image of exactly `geometry.size`; `base` itself when there is nothing to do.
    """
    across, down = base.width / width, base.height / height
    left, top, right, bottom = geometry.box
    box = (left * across, top * down, right * across, bottom * down)
    if geometry.size == base.size and box == (0, 0, *base.size):
        return base
    # Rounding may put an edge a billionth beyond the buffer, which Pillow refuses.
    box = (box[0], box[1], min(box[2], base.width), min(box[3], base.height))
    return base.resize(geometry.size, Image.Resampling.LANCZOS, box=box, reducing_gap=GAP)


def within_square(image: Image.Image, side: int) -> Image.Image:
    """Returns the whole picture within a square of that side in pixels; never enlarged."""
    square = VariantSpec(name="square", fit="inside", width=side, height=side, max_bytes=None)
    geometry = plan(square, width=image.width, height=image.height)
    return render(image, geometry, width=image.width, height=image.height)


def _inside(
    spec: VariantSpec, width: int, height: int
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    scale = min(spec.width / width, spec.height / height, 1.0)
    return (0.0, 0.0, float(width), float(height)), (round(width * scale), round(height * scale))


def _cover(
    spec: VariantSpec, width: int, height: int, window: Window | None
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    aspect = spec.width / spec.height
    cut_width = min(float(width), max(1.0, height * aspect))
    cut_height = min(float(height), max(1.0, width / aspect))
    left, top = (width - cut_width) / 2, (height - cut_height) / 2
    if window is not None:
        left = min(max(0.0, window[0] * width), width - cut_width)
        top = min(max(0.0, window[1] * height), height - cut_height)
    size = (min(spec.width, round(cut_width)), min(spec.height, round(cut_height)))
    return (left, top, left + cut_width, top + cut_height), size
