"""What every contender makes of each photo. The rivals read the same values from their job.

A new choice of the product becomes a row of the table by one entry here.
"""

from dataclasses import replace

from photo_pipeline.core.imaging.recipe import Effort, Recipe, VariantSpec

FULL = VariantSpec(name="full", fit="inside", width=1200, height=1200, max_bytes=102_400)
THUMB = VariantSpec(name="thumb", fit="cover", width=150, height=150, max_bytes=None)

DEFAULT = "default"
_DEFAULT = Recipe(variants=(FULL, THUMB))

# The first is the one that the rivals are measured against and that has an oracle.
RECIPES = {
    DEFAULT: _DEFAULT,
    "speed": replace(_DEFAULT, effort=Effort.SPEED),
    "quality": replace(_DEFAULT, effort=Effort.QUALITY),
}
