"""What a migrated row receives: the new value of each photo field, and the facts written back."""

import json
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.migration.naming import ObjectNaming, value_format
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.sources.mapping import Source

ObjectRows = Mapping[str, Any]
"""`pp_object` rows by key."""


# What `write_back` calls them, of the photo, its `pp_object` row, that row's key and the bucket.
_FACTS: dict[str, Callable[[Photo, Any, str, str], RawValue]] = {
    "bytes": lambda _photo, shown, _key, _bucket: int(shown.bytes),
    "kilobytes": lambda _photo, shown, _key, _bucket: round(int(shown.bytes) / 1000, 2),
    "mime": lambda _photo, shown, _key, _bucket: str(shown.mime),
    "width": lambda _photo, shown, _key, _bucket: int(shown.width),
    "height": lambda _photo, shown, _key, _bucket: int(shown.height),
    "sha256": lambda photo, _shown, _key, _bucket: photo.sha256,
    "s3_key": lambda _photo, _shown, key, _bucket: key,
    "bucket": lambda _photo, _shown, _key, bucket: bucket,
    "original_bytes": lambda photo, _shown, _key, _bucket: photo.size,
    "saved_bytes": lambda photo, shown, _key, _bucket: photo.size - int(shown.bytes),
    "saved_percent": lambda photo, shown, _key, _bucket: round(100 * (1 - int(shown.bytes) / photo.size)),
}

# What `write_back` calls that is said of the photo's content in `pp_picture`.
_LOOKS = ("placeholder", "thumbhash", "dominant_colour")


class RowValues:
    """Computes the new values of one source's rows."""

    def __init__(self, naming: ObjectNaming, source: Source, bucket: str) -> None:
        self._naming = naming
        self._source = source
        self._bucket = bucket
        self._extension, self._format = value_format(source)
        self._names_keys = source.rewrite.mode == "key"
        self._field_variants = {field.label: field.variant for field in source.fields}

    def field_value(self, photo: Photo, primary: Photo | None) -> str:
        """Return what is written where the photo is named; a resized copy names its row's primary."""
        shown = primary if photo.is_copy and primary is not None else photo
        return self._value(shown, self._variant(photo))

    def named_keys(self, photo: Photo, primary: Photo | None) -> list[str]:
        """Return the keys of the objects that the photo's new value may lead a browser to."""
        shown = primary if photo.is_copy and primary is not None else photo
        variant = self._variant(photo)
        if self._extension == "auto":
            return [each.key for each in self._naming.variants(shown) if each.variant == variant]
        return [self._naming.variant_key(shown, variant, self._extension)]

    def named(self, photo: Photo, primary: Photo | None) -> tuple[str, list[str], str]:
        """Return `field_value` and `named_keys` at once, and the recipe of those objects."""
        shown = primary if primary is not None and photo.is_copy else photo
        recipe = self._naming.recipe_digest(shown)
        if self._extension == "auto":
            return self.field_value(photo, primary), self.named_keys(photo, primary), recipe
        urls, variant = self._naming.urls, self._variant(photo)
        key = urls.variant_key(shown.sha256, recipe, variant, self._extension)
        return self._spelled(key), [key], recipe

    def write_back(self, primary: Photo, objects: ObjectRows) -> dict[str, RawValue]:
        """Return the value of each write-back column, taken from the row's primary photo.

        A column for what is not known any more (how a photo looks, after the state tables were rebuilt) is
        left out: what it says is better than nothing.
        """
        variant = self._variant(primary)
        key = self._naming.variant_key(primary, variant, self._format.extension)
        found: dict[str, RawValue] = {}
        for column, quantity in self._source.rewrite.write_back.items():
            fact = _FACTS.get(quantity)
            if fact is not None:
                found[column] = fact(primary, objects[key], key, self._bucket)
            elif quantity in _LOOKS:
                looks = self._naming.looks(primary)
                found |= {column: looks[quantity]} if looks else {}
            else:
                found[column] = self._document(quantity, primary, variant, objects)
        return found

    def addresses(self, column: str, primary: Photo) -> list[str]:
        """Return the URLs, key or bucket that a write-back column names; none if it holds another fact."""
        quantity, variant = self._source.rewrite.write_back[column], self._variant(primary)
        if quantity.startswith("url."):
            return [self._url(primary, quantity.removeprefix("url."))]
        if quantity == "formats_json":
            return [self._naming.urls.url(each.key) for each in self._naming.variants(primary)]
        if quantity == "formats_strapi":
            made = (each for each in self._naming.variants(primary) if each.format == self._format.value)
            return [self._url(primary, each.variant) for each in made if each.variant != variant]
        if quantity == "s3_key":
            return [self._naming.variant_key(primary, variant, self._format.extension)]
        return [self._bucket] if quantity == "bucket" else []

    def literals(self, *, is_sqlite: bool) -> dict[str, RawValue]:
        """Return the columns under `set` with their raw values."""
        return {
            name: raw.literal(value, is_sqlite=is_sqlite) for name, value in self._source.rewrite.set.items()
        }

    def _variant(self, photo: Photo) -> str:
        """Return the variant that the photo's value names: what it asks for, or what its field says."""
        return photo.variant or self._field_variants[photo.field]

    def _value(self, photo: Photo, variant: str) -> str:
        return self._spelled(self._naming.variant_key(photo, variant, self._extension))

    def _url(self, photo: Photo, variant: str) -> str:
        """Return the URL of a variant, also in mode key: what is called a URL is one."""
        return self._naming.urls.url(self._naming.variant_key(photo, variant, self._extension))

    def _spelled(self, key: str) -> str:
        return key if self._names_keys else self._naming.urls.url(key)

    def _document(self, quantity: str, primary: Photo, variant: str, objects: ObjectRows) -> RawValue:
        """Return what is written back that is no single fact: another variant's value, or all of them."""
        if quantity.startswith("url."):
            return self._url(primary, quantity.removeprefix("url."))
        if quantity == "formats_json":
            return self._formats(primary)
        return self._strapi_formats(primary, variant, objects)

    def _formats(self, primary: Photo) -> str:
        document: dict[str, dict[str, str]] = {}
        for each in self._naming.variants(primary):
            document.setdefault(each.variant, {})[each.format] = self._naming.urls.url(each.key)
        return json.dumps(document, separators=(",", ":"))

    def _strapi_formats(self, primary: Photo, own: str, objects: ObjectRows) -> str:
        """Return what Strapi keeps in `files.formats`: the other sizes of the picture, by name.

        Shape of Strapi's upload plugin (v4 and v5); `size` is in kilobytes of 1,000 bytes with two decimals.
        """
        document: dict[str, dict[str, Any]] = {}
        stem = PurePosixPath(primary.path).stem
        for each in self._naming.variants(primary):
            if each.variant == own or each.format != self._format.value:
                continue
            made = objects[each.key]
            document[each.variant] = {
                "name": f"{each.variant}_{stem}.{self._format.extension}",
                "hash": f"{each.variant}_{stem}",
                "ext": f".{self._format.extension}",
                "mime": str(made.mime),
                "path": None,
                "width": int(made.width),
                "height": int(made.height),
                "size": round(int(made.bytes) / 1000, 2),
                "url": self._url(primary, each.variant),
            }
        return json.dumps(document, separators=(",", ":"))
