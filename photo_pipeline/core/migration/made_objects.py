"""What the catalog says of variants that were just made, and of the photo that they were made of."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import insert_or_update
from photo_pipeline.core.catalog.tables import object_table, picture_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.naming import ObjectNaming, remember_recipe
from photo_pipeline.core.migration.photos import Photo

if TYPE_CHECKING:  # as in `process`
    from photo_pipeline.core.imaging.variants import MadePhoto, MadeVariant


def object_row(bucket: str, key: str, photo: Photo, recipe: str, made: "MadeVariant") -> dict[str, Any]:
    """Return the `pp_object` row of a variant that no store has yet.

    Args:
        bucket: Where it will be.
        key: Its key there.
        photo: What it was made of.
        recipe: The digest of the recipe that it was made by.
        made: The file.
    """
    return {
        "bucket": bucket,
        "key": key,
        "source_sha256": photo.sha256,
        "recipe": recipe,
        "variant": made.variant,
        "format": made.format.value,
        "mime": made.format.mime,
        "bytes": made.bytes,
        "width": made.width,
        "height": made.height,
        "quality": made.quality,
        "encodes": made.encodes,
        "met_target": made.met_target,
        "checksum": made.sha256,
        "md5": made.md5,
        "made_at": utc_now(),
    }


def catalogue(
    connection: Connection, config: PipelineConfig, naming: ObjectNaming, photo: Photo, made: "MadePhoto"
) -> None:
    """Write down what was made of the photo: its objects, their recipe, and what the content looks like."""
    recipe = naming.recipe(photo)
    rows = [
        object_row(
            config.store.bucket,
            naming.variant_key(photo, each.variant, each.format.extension),
            photo,
            recipe.digest,
            each,
        )
        | {"verified_at": None, "deleted_at": None}
        for each in made.variants
    ]
    # A proven object stays as it is: rows of another batch may be showing it.
    unproven = object_table.c.verified_at.is_(None) | object_table.c.deleted_at.is_not(None)
    insert_or_update(connection, object_table, rows, only_if=unproven)
    remember_recipe(connection, recipe)
    _remember_picture(connection, config, photo, made)


def _remember_picture(
    connection: Connection, config: PipelineConfig, photo: Photo, made: "MadePhoto"
) -> None:
    """Keep what the content looks like and what its camera said, once per content."""
    with_gps = config.image_settings(config.source(photo.source).preset).gps
    camera, placeholder = made.info.camera, made.placeholder
    row = {
        "sha256": photo.sha256,
        "thumbhash": placeholder.thumbhash,
        "placeholder": placeholder.data_uri,
        "dominant_colour": placeholder.dominant_colour,
        "perceptual_hash": made.perceptual_hash,
        "camera": camera.name,
        "taken_at": camera.taken_at,
        "latitude": camera.latitude if with_gps else None,
        "longitude": camera.longitude if with_gps else None,
        "seconds": sum(made.timings.values()) or None,
        "updated_at": utc_now(),
    }
    insert_or_update(connection, picture_table, [row])
