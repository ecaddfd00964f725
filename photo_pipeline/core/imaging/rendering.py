"""The pixels of every variant of one photo, from its one decoded buffer.

Crop, resize and finish; nothing here encodes. Where a crop goes is decided in `crop.py`, what sharpening
and watermarks look like in `finish.py`.
"""

from functools import cached_property

from PIL import Image

from photo_pipeline.core.imaging.crop import attention_box
from photo_pipeline.core.imaging.encode import flattened
from photo_pipeline.core.imaging.finish import SHARPEN_MIN_SIDE, sharpened, watermarked
from photo_pipeline.core.imaging.recipe import ImageFormat, Recipe, VariantSpec
from photo_pipeline.core.imaging.resize import GAP, Geometry, Window, plan, render


class Rendering:
    """Makes pixels as they are asked for, each once."""

    def __init__(self, recipe: Recipe, buffer: Image.Image, *, width: int, height: int) -> None:
        """Takes the photo.

        Args:
            recipe: What is made of it.
            buffer: The whole upright picture at any scale.
            width: The source's displayed width in pixels.
            height: Its height.
        """
        self._recipe = recipe
        self._buffer = buffer
        self._width = width
        self._height = height
        self._windows: dict[float, Window] = {}
        self._resized: dict[Geometry, Image.Image] = {}
        self._finished: dict[Geometry, Image.Image] = {}

    def geometry(self, spec: VariantSpec, *, shrink: float = 1.0) -> Geometry:
        """Returns a variant's crop and size; see `plan`."""
        window = self._window(spec) if spec.fit == "cover" and spec.crop == "attention" else None
        return plan(spec, width=self._width, height=self._height, shrink=shrink, window=window)

    def pixels(self, geometry: Geometry, format: ImageFormat) -> Image.Image:
        """Returns a variant's pixels, RGB or (where the format keeps it) RGBA."""
        if geometry not in self._finished:
            self._finished[geometry] = self._finish(self._resize(geometry))
        return flattened(self._finished[geometry], format, self._recipe.background)

    def _finish(self, image: Image.Image) -> Image.Image:
        if self._recipe.sharpen and max(image.size) >= SHARPEN_MIN_SIDE:
            image = sharpened(image)
        if self._recipe.watermark is not None:
            image = watermarked(image, self._recipe.watermark)
        return image

    def _window(self, spec: VariantSpec) -> Window:
        aspect = spec.width / spec.height
        if aspect not in self._windows:
            self._windows[aspect] = attention_box(self._buffer, aspect=aspect, focal=self._recipe.focal_point)
        return self._windows[aspect]

    def _resize(self, geometry: Geometry) -> Image.Image:
        if geometry not in self._resized:
            base = self._base(geometry)
            self._resized[geometry] = render(base, geometry, width=self._width, height=self._height)
        return self._resized[geometry]

    def _base(self, geometry: Geometry) -> Image.Image:
        """The smallest whole picture of the recipe that has GAP times the pixels needed, or the buffer."""
        width, height = (side * geometry.scale * GAP for side in (self._width, self._height))
        good = [base for base in self._whole if base.size[0] >= width and base.size[1] >= height]
        return self._resize(min(good, key=lambda base: base.size)) if good else self._buffer

    @cached_property
    def _whole(self) -> list[Geometry]:
        """The variants that show the whole picture."""
        # Where a crop goes is not asked: a window moves the box, but never makes it the whole picture.
        plans = [plan(spec, width=self._width, height=self._height) for spec in self._recipe.variants]
        return [geometry for geometry in plans if geometry.box == (0, 0, self._width, self._height)]
