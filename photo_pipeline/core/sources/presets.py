"""The shipped starting points for a configuration file; the files are under `preset_files/`."""

from importlib.resources import files

from photo_pipeline.core.errors import ConfigurationError

# The one that names no table.
CUSTOM = "custom"
# Name to one line of what it fits; a new preset is a file and a line here.
PRESETS = {
    "item_photos": "Prisma-style table of photo URLs that belong to items",
    "property_images": "images of properties and projects, and avatars: three tables at once",
    "django_imagefield": "Django ImageField: a path below MEDIA_ROOT",
    "strapi": "Strapi's upload plugin: url and formats of `files`",
    "laravel_media_library": "Laravel Media Library (spatie): the `media` table",
    "rails_active_storage": "Rails Active Storage, disk service: `active_storage_blobs`",
    "wordpress": "WordPress: attachments, and the photos in posts",
    CUSTOM: "any other application: no tables yet; `mapping suggest` proposes them from its database",
}


def preset_text(name: str) -> str:
    """Return the configuration file that the preset `name` starts with.

    Raises:
        ConfigurationError: there is no such preset.
    """
    if name not in PRESETS:
        known = "; ".join(f"{key} ({text})" for key, text in PRESETS.items())
        raise ConfigurationError(
            f"preset {name!r}", cause="there is no such preset", fix=f"use one of: {known}"
        )
    package = files("photo_pipeline.core.sources")
    return (package / "preset_files" / f"{name}.yaml").read_text(encoding="utf-8")
