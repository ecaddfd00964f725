"""Which objects a photo needs in the store, and what they are called: by its recipe, preset and prefixes."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import sqlalchemy as sa
from PIL import ImageColor
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database, insert_or_update
from photo_pipeline.core.catalog.tables import PhotoState, picture_table, recipe_table, utc_now
from photo_pipeline.core.config import ImageSettings, PipelineConfig, VariantSettings
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.imaging.recipe import Effort, ImageFormat, Recipe, VariantSpec
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.sources.mapping import Source

if TYPE_CHECKING:
    from photo_pipeline.core.imaging.placeholder import Placeholder

# Extension and media type of an untouched original, by the format that its content has.
ORIGINAL_TYPES = {
    "JPEG": ("jpg", "image/jpeg"),
    "PNG": ("png", "image/png"),
    "WEBP": ("webp", "image/webp"),
    "AVIF": ("avif", "image/avif"),
    "GIF": ("gif", "image/gif"),
    "TIFF": ("tif", "image/tiff"),
    "BMP": ("bmp", "image/bmp"),
    "HEIC": ("heic", "image/heic"),
}


@dataclass(frozen=True)
class WantedObject:
    """One object that a photo needs.

    `recipe` is empty for a file as it is; `variant` is then "original", or "framework" for the copy that the
    application's framework looks for.
    """

    key: str
    source_sha256: str
    recipe: str
    variant: str
    format: str

    @property
    def tells_content(self) -> bool:
        """Whether the key tells the content, so that no other bytes can be right there."""
        return self.variant != "framework"


@lru_cache(maxsize=32)
def _recipe(
    variants: tuple[tuple[str, VariantSettings], ...], images: ImageSettings, max_pixels: int
) -> Recipe:
    specs = tuple(VariantSpec(name=name, **spec.model_dump()) for name, spec in variants)
    watermark = None
    if images.watermark:
        from photo_pipeline.core.imaging.finish import Watermark  # numpy's 0.2 s, which most do not need

        watermark = Watermark(**images.watermark.model_dump()).pinned()
    return Recipe(
        variants=specs,
        effort=Effort(images.effort),
        sharpen=images.sharpen,
        watermark=watermark,
        animation=images.animation,
        background=ImageColor.getrgb(images.background)[:3],
        max_pixels=max_pixels,
    )


@lru_cache(maxsize=4096)
def _focused(recipe: Recipe, focal_point: tuple[float, float]) -> Recipe:
    return replace(recipe, focal_point=focal_point)


class ObjectNaming:
    """Which objects each photo needs, by the configuration's presets and prefixes.

    Args:
        config: The configuration.
        database: Knows the recipes of rows that were migrated earlier.
        keep_recipes: Whether migrated photos keep the objects of their own recipe; else the present one's.
    """

    def __init__(self, config: PipelineConfig, database: Database, *, keep_recipes: bool = True) -> None:
        self._config = config
        self._keep_recipes = keep_recipes
        self._database = database
        self._earlier: dict[str, RecipeShape] = {}
        self._present: dict[tuple[str, float | None, float | None], RecipeShape] = {}
        self._looks: dict[str, dict[str, str] | None] = {}
        self.urls = UrlScheme.of(config)

    def recipe(self, photo: Photo) -> Recipe:
        """Return the recipe of the photo: its source's preset, cropped around its own focal point."""
        name = self._config.source(photo.source).preset
        preset, images = self._config.variants[name], self._config.image_settings(name)
        recipe = _recipe(tuple(preset.items()), images, self._config.workers.max_pixels)
        if photo.focal_point is None or not any(spec.fit == "cover" for spec in recipe.variants):
            return recipe
        return _focused(recipe, photo.focal_point)

    def variants(self, photo: Photo) -> list[WantedObject]:
        """Return the variant objects of one (primary) photo: every variant in every format."""
        shape, key = self._shape(photo), self.urls.variant_key
        sha256, digest = photo.sha256, shape.digest
        return [
            WantedObject(key(sha256, digest, variant, extension), sha256, digest, variant, image_format)
            for variant, image_format, extension in shape.files
        ]

    def variant_key(self, photo: Photo, variant: str, extension: str) -> str:
        """Return the key of one variant of a photo."""
        return self.urls.variant_key(photo.sha256, self.recipe_digest(photo), variant, extension)

    def recipe_digest(self, photo: Photo) -> str:
        """Return the recipe that names the photo's objects: the present one, or its own if it is migrated.

        A changed preset (or library) makes a new recipe; rows that were migrated before keep showing the
        objects of theirs.
        """
        return self._shape(photo).digest

    def looks(self, photo: Photo) -> dict[str, str] | None:
        """Return `placeholder`, `thumbhash`, `dominant_colour` of the photo's content, if they are known."""
        if photo.sha256 not in self._looks:
            columns = picture_table.c
            query = sa.select(columns.placeholder, columns.thumbhash, columns.dominant_colour)
            with self._database.read() as connection:
                row = connection.execute(query.where(columns.sha256 == photo.sha256)).one_or_none()
            self._looks[photo.sha256] = None if row is None else dict(row._mapping)
        return self._looks[photo.sha256]

    def foresee_looks(self, photo: Photo, placeholder: "Placeholder") -> None:
        """Take the content's looks as known, for a plan, which keeps nothing of what it makes."""
        self._looks[photo.sha256] = {
            "placeholder": placeholder.data_uri,
            "thumbhash": placeholder.thumbhash,
            "dominant_colour": placeholder.dominant_colour,
        }

    def _shape(self, photo: Photo) -> "RecipeShape":
        settled = photo.state in (PhotoState.MIGRATED, PhotoState.STORED)
        if self._keep_recipes and settled and photo.recipe is not None:
            # Not by the present recipe, even where it is the same: its watermark may be gone by now.
            if photo.recipe not in self._earlier:
                self._earlier[photo.recipe] = _earlier_recipe(self._database, photo.recipe)
            return self._earlier[photo.recipe]
        # Comparing presets to find the recipe again takes longer than all the rest of a row's rewrite.
        wanted = (photo.source, photo.focal_x, photo.focal_y)
        if wanted not in self._present:
            present = self.recipe(photo)
            variants = tuple(spec.name for spec in present.variants)
            self._present[wanted] = RecipeShape(present.digest, variants, present.formats)
        return self._present[wanted]

    def original(self, photo: Photo) -> WantedObject | None:
        """Return the original object, or None where the configuration discards originals."""
        if self._config.store.originals == "discard":
            return None
        key = self.urls.original_key(photo.sha256, ORIGINAL_TYPES[photo.format][0])
        return WantedObject(key, photo.sha256, "", "original", photo.format.lower())

    def needed(self, photo: Photo, primary: Photo | None) -> list[WantedObject]:
        """Return every object that must be proven before the photo's row may be rewritten.

        Args:
            photo: The photo.
            primary: For a resized copy, the row's primary photo, whose variants it will name.
        """
        wanted = [] if photo.is_copy else self.variants(photo)
        if photo.is_copy and primary is not None:
            wanted = self.variants(primary)
            copied = self.original(primary)
            wanted += [copied] if copied else []
        return wanted + self.untouched(photo)

    def untouched(self, photo: Photo) -> list[WantedObject]:
        """Return the objects that hold the photo's file as it is: the original, the framework's copy."""
        original, framework = self.original(photo), self.framework_copy(photo)
        return [each for each in (original, framework) if each is not None]

    def framework_copy(self, photo: Photo) -> WantedObject | None:
        """Return the object that the framework looks for by itself (`key_template`), or None."""
        template = self._config.source(photo.source).rewrite.key_template
        if template is None:
            return None
        path = PurePosixPath(photo.path)
        key = template.format(
            path=photo.path,
            name=path.name,
            stem=path.stem,
            extension=path.suffix.removeprefix("."),
            sha256=photo.sha256,
        )
        return WantedObject(key, photo.sha256, "", "framework", photo.format.lower())


def value_format(source: Source) -> tuple[str, ImageFormat]:
    """Return the extension that rewritten values end in, and the format whose facts are written back."""
    name = source.rewrite.format
    image_format = ImageFormat.JPEG if name == "auto" else ImageFormat(name)
    return ("auto" if name == "auto" else image_format.extension), image_format


@dataclass(frozen=True)
class RecipeShape:
    """Which objects a recipe makes of a photo."""

    digest: str
    variants: tuple[str, ...]
    formats: tuple[ImageFormat, ...]

    @cached_property
    def files(self) -> tuple[tuple[str, str, str], ...]:
        """Each variant in each format: the variant, the format's name and its extension."""
        return tuple((name, each.value, each.extension) for name in self.variants for each in self.formats)


def _earlier_recipe(database: Database, digest: str) -> RecipeShape:
    with database.read() as connection:
        row = connection.execute(sa.select(recipe_table).where(recipe_table.c.digest == digest)).one_or_none()
    if row is None:
        raise ConfigurationError(
            f"recipe {digest}",
            cause="rows were migrated under it, but pp_recipe does not know it",
            fix="restore the pp_recipe table from a backup",
        )
    return RecipeShape(digest, tuple(row.variants), tuple(ImageFormat(name) for name in row.formats))


def remember_recipe(connection: Connection, recipe: Recipe) -> None:
    """Keep what the recipe makes, for the time when the configuration says something else."""
    known = connection.execute(
        sa.select(recipe_table.c.digest).where(recipe_table.c.digest == recipe.digest)
    ).one_or_none()
    if known is None:
        insert_or_update(
            connection,
            recipe_table,
            [
                {
                    "digest": recipe.digest,
                    "variants": [spec.name for spec in recipe.variants],
                    "formats": [each.value for each in recipe.formats],
                    "definition": {spec.name: asdict(spec) for spec in recipe.variants},
                    "first_used_at": utc_now(),
                }
            ],
        )


def staged_path(config: PipelineConfig, key: str) -> Path:
    """Return where the variant with that key waits for its upload."""
    return config.state.staging_dir / key
