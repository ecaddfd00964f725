"""What is made of a photo: the presets' variants, and how their pixels are made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from photo_pipeline.core.config.base import Settings
from photo_pipeline.core.config.size import SizeBytes


class VariantSettings(Settings):
    """One web variant of each photo."""

    fit: Literal["inside", "cover"] = Field(
        description="inside: fit within the box; cover: fill it and crop."
    )
    width: int = Field(gt=0, le=10_000, description="Box width in pixels.")
    height: int = Field(gt=0, le=10_000, description="Box height in pixels.")
    max_bytes: SizeBytes | None = Field(default=None, description="Byte target per file, e.g. 100 KB.")
    crop: Literal["attention", "center"] = Field(
        default="attention", description="Where cover crops: around the subject, or in the middle."
    )


class WatermarkSettings(Settings):
    """A mark that is laid over every variant of a preset."""

    image: Path = Field(description="Its file, best a PNG with transparency.")
    opacity: float = Field(default=0.5, gt=0, le=1, description="How strongly it covers.")
    position: Literal["bottom-right", "bottom-left", "top-right", "top-left", "center"] = Field(
        default="bottom-right", description="Where it lies."
    )
    scale: float = Field(default=0.2, gt=0, le=1, description="Its width as a share of the variant's.")
    margin: float = Field(default=0.02, ge=0, lt=0.5, description="Distance from the edges, as a share.")


class ImageSettings(Settings):
    """How a preset's pixels are made."""

    effort: Literal["speed", "balanced", "quality"] = Field(
        default="balanced", description="How much time an AVIF may cost: about 0.2, 0.3 or 1.3 s of a core."
    )
    # Off: at the same bytes it costs quality by every metric, and fidelity to what the photographer made.
    sharpen: bool = Field(default=False, description="Sharpen variants of 800 px and more lightly.")
    background: str = Field(
        default="#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", description="Shown through transparency in JPEG."
    )
    animation: Literal["first_frame", "keep"] = Field(
        default="first_frame", description="keep: animations stay animated in WebP and AVIF."
    )
    watermark: WatermarkSettings | None = None
    gps: bool = Field(
        default=False, description="Keep the photos' GPS position in the catalog; never in the variants."
    )


def _widths(targets: Mapping[int, int | None]) -> dict[str, VariantSettings]:
    """Variants by width alone: the box is as high as a box may be."""
    return {
        f"w{width}": VariantSettings(fit="inside", width=width, height=10_000, max_bytes=target)
        for width, target in targets.items()
    }


_THUMB = VariantSettings(fit="cover", width=150, height=150)

# PRODUCT B1. The responsive byte targets follow the default's 100 KB at 1200 px by the pixels to the power
# of 0.8, as photographs' bytes do at equal quality.
DEFAULT_VARIANTS: Mapping[str, Mapping[str, VariantSettings]] = {
    "default": {
        "full": VariantSettings(fit="inside", width=1200, height=1200, max_bytes=102_400),
        "thumb": _THUMB,
    },
    "responsive": _widths({300: 11_264, 400: 17_408, 800: 53_248, 1200: 102_400, 1600: 162_816})
    | {"thumb": _THUMB},
    "original": {
        "full": VariantSettings(fit="inside", width=4000, height=4000),
        "thumb": _THUMB,
    },
}
