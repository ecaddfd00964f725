"""How many variants are measured, and how good they ought to look."""

from pydantic import Field

from photo_pipeline.core.config.base import Settings


class QualitySettings(Settings):
    """How the variants' looks are measured (by ssimulacra2), and when to warn."""

    # To measure a photo of 1200 px in three formats takes 5 to 6 s of a core, to make them 0.5 s: 2 % are two
    # photos of a batch of 100, for a fifth of the batch's time.
    sample: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Share of each batch's photos that is measured, at least one; 0 switches it off. "
        "Of each, every format of the largest variant with fit `inside`.",
    )
    # The metric's author calls 30 low, 50 medium and 70 high quality. At 100 KB, photos have 69 to 75 on
    # average (facts/imaging.md); what falls below 50 is worth a look, and perhaps a larger byte target.
    floor: float = Field(
        default=50.0,
        le=100,
        allow_inf_nan=False,
        description="Points of ssimulacra2 below which a measured variant is warned about: "
        "90 visually lossless, 70 high, 50 medium, 30 low quality.",
    )
