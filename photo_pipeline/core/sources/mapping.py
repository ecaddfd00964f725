"""The source mapping: which tables, rows and columns of the application refer to photos.

Models only: what a user may declare, and whether it is coherent. Reading rows is `core.catalog.rows`;
what a field's value means is the field kind's own module.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.sources.fields.computed import ComputedField
from photo_pipeline.core.sources.fields.json import JsonField
from photo_pipeline.core.sources.fields.path import PathField
from photo_pipeline.core.sources.fields.php_serialized import PhpSerializedField
from photo_pipeline.core.sources.fields.text import TextField
from photo_pipeline.core.sources.fields.url import UrlField

# A new kind of field is one module under `fields/` and one name in this union.
AnyField = UrlField | PathField | JsonField | TextField | ComputedField | PhpSerializedField
FieldSpec = Annotated[AnyField, Field(discriminator="kind")]

Quantity = str
"""What a written-back column receives; see `WRITE_BACK` for the names."""

WRITE_BACK = (
    *("bytes", "mime", "width", "height", "sha256", "s3_key", "bucket", "formats_json", "formats_strapi"),
    *("kilobytes", "original_bytes", "saved_bytes", "saved_percent"),
    *("placeholder", "thumbhash", "dominant_colour"),
)
Literally = str | int | float | bool | None
"""A value of `set`, written as it stands."""
# What `key_template` may name of a photo's local file.
KEY_PARTS = ("path", "name", "stem", "extension", "sha256")
_URL_OF_VARIANT = re.compile(r"url\.[a-z0-9_-]+", re.IGNORECASE)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Root(_Model):
    """One local folder, and how the application spells paths into it."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="The name that fields refer to.")
    dir: Path = Field(description="The folder; relative to the configuration file.")
    url_prefixes: tuple[str, ...] = Field(
        default=(),
        description="What stands before the relative path: /uploads/, https://shop.example/uploads/.",
    )

    @model_validator(mode="after")
    def _prefixes_end_with_a_slash(self) -> Self:
        for prefix in self.url_prefixes:
            if not prefix.endswith("/"):
                raise ValueError(
                    f"url_prefixes: {prefix!r} must end with a slash, or /uploads would match /uploads2"
                )
        return self


class Entity(_Model):
    """What a photo belongs to in the application."""

    type: str = Field(description="A word for the thing, such as item.")
    id: str | None = Field(default=None, description="The column with its id.")


class FocalPoint(_Model):
    """The columns that say what the middle of a cropped photo is, as fractions (0-1) of its size."""

    x: str = Field(description="Column with the fraction of the width, 0 left to 1 right.")
    y: str = Field(description="Column with the fraction of the height, 0 top to 1 bottom.")


class Where(_Model):
    """One structured condition on the rows of a source; all conditions must hold."""

    column: str = Field(description="The column that is compared.")
    op: Literal["eq", "ne", "in", "not_in", "is_null", "not_null", "like", "gt", "lt"] = Field(
        description="How it is compared; `like` knows % and _ as SQL does."
    )
    value: str | int | float | bool | list[str | int | float] | None = Field(
        default=None, description="What it is compared with; a list for `in` and `not_in`."
    )

    @model_validator(mode="after")
    def _value_fits_operator(self) -> Self:
        if self.op in ("in", "not_in") and not isinstance(self.value, list):
            raise ValueError(f"where: {self.op} on {self.column} needs a list as its value")
        if self.op not in ("is_null", "not_null") and self.value is None:
            raise ValueError(f"where: {self.op} on {self.column} needs a value")
        return self


class Rewrite(_Model):
    """What a migrated row receives."""

    mode: Literal["url", "key", "columns", "none"] = Field(
        description="url: the full CDN URL; key: the S3 key only; columns: the photo's column stays, and "
        "those under `set` and `write_back` say where it is now; none: no row is touched."
    )
    format: Literal["jpeg", "webp", "avif", "auto"] = Field(
        default="jpeg", description="Which format the value names; auto: the CDN chooses by Accept."
    )
    write_back: dict[str, Quantity] = Field(
        default_factory=dict, description=f"column: one of {', '.join(WRITE_BACK)} or url.<variant>"
    )
    set: dict[str, Literally] = Field(
        default_factory=dict, description="column: the value that says that the photo is in the store."
    )
    key_template: str | None = Field(
        default=None,
        description="mode columns: the key under which the framework will look for the untouched file, of "
        + ", ".join(f"{{{part}}}" for part in KEY_PARTS),
    )
    touch: tuple[str, ...] = Field(default=(), description="Columns set to the time of the rewrite.")

    @property
    def names_photos(self) -> bool:
        """Whether the columns that name photos are rewritten themselves."""
        return self.mode in ("url", "key")

    @property
    def addresses(self) -> tuple[str, ...]:
        """The written-back columns that say where the photo is: URLs, key, bucket."""
        where = ("s3_key", "bucket", "formats_json", "formats_strapi")
        return tuple(
            column for column, says in self.write_back.items() if says in where or says.startswith("url.")
        )

    @property
    def markers(self) -> tuple[str, ...]:
        """In mode columns, the columns that tell that a row's photos are in the store."""
        return () if self.mode != "columns" else tuple(self.set or self.write_back)

    @model_validator(mode="after")
    def _mode_has_what_it_needs(self) -> Self:
        if self.mode == "none" and (self.set or self.write_back or self.touch):
            raise ValueError("mode none touches no row: leave out set, write_back and touch")
        if self.mode == "columns" and not self.markers:
            raise ValueError("mode columns needs at least one column under set or write_back")
        if self.key_template is not None and self.mode != "columns":
            raise ValueError("key_template goes with mode columns; in other modes the keys are ours")
        return self

    @model_validator(mode="after")
    def _template_names_known_parts(self) -> Self:
        try:
            parts = [name for _, name, _, _ in Formatter().parse(self.key_template or "") if name is not None]
        except ValueError as error:
            raise ValueError(f"key_template: {error}") from error
        unknown = [name for name in parts if name not in KEY_PARTS]
        if unknown or (self.key_template is not None and not parts):
            known = ", ".join(f"{{{part}}}" for part in KEY_PARTS)
            raise ValueError(f"key_template: {self.key_template!r} must be made of {known}")
        return self

    @model_validator(mode="after")
    def _quantities_are_known(self) -> Self:
        for column, quantity in self.write_back.items():
            if quantity not in WRITE_BACK and not _URL_OF_VARIANT.fullmatch(quantity):
                known = ", ".join(WRITE_BACK)
                raise ValueError(
                    f"write_back.{column}: {quantity!r} is not known; use {known} or url.<variant>"
                )
        return self


class Source(_Model):
    """One table whose rows refer to photos."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]+$",
        description="What state tables and the report call it; do not change it later.",
    )
    table: str = Field(description="The table's name.")
    schema_name: str | None = Field(
        default=None, alias="schema", description="The table's schema, where it is not the default one."
    )
    key: tuple[str, ...] = Field(min_length=1, description="Columns that identify a row.")
    entity: Entity | None = None
    position: str | None = Field(default=None, description="Column with the photo's place within its entity.")
    focal_point: FocalPoint | None = None
    where: tuple[Where, ...] = ()
    preset: str = Field(
        default="default", description="Which of the presets under `variants` its photos get."
    )
    fields: tuple[FieldSpec, ...] = Field(min_length=1)
    rewrite: Rewrite
    protect: tuple[str, ...] = Field(default=(), description="Columns that are never written.")
    on_delete: Literal["set_null", "delete_row", "leave"] = Field(
        default="set_null",
        description="What `delete` does to a row: empty the columns that name the photo, remove the row, or "
        "leave it (then it shows a photo that is gone).",
    )

    @property
    def written_columns(self) -> tuple[str, ...]:
        """Every column that a rewrite of this source may change, in a fixed order."""
        named = [field.column for field in self.fields if field.written and field.column is not None]
        named = named if self.rewrite.names_photos else []
        return (*dict.fromkeys(named), *self.rewrite.set, *self.rewrite.write_back, *self.rewrite.touch)

    @property
    def cell_columns(self) -> tuple[str, ...]:
        """Every column that a rewrite looks into or changes, without repeats, in a fixed order."""
        return tuple(dict.fromkeys((*self.read_columns, *self.written_columns)))

    @property
    def read_columns(self) -> tuple[str, ...]:
        """Every column in which the fields look for photos, without repeats."""
        return tuple(dict.fromkeys(name for field in self.fields for name in field.reads))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that this source names, without repeats, in a fixed order."""
        named = [
            *self.key,
            *self.written_columns,
            *self.read_columns,
            *(clause.column for clause in self.where),
        ]
        if self.entity and self.entity.id:
            named.append(self.entity.id)
        if self.position:
            named.append(self.position)
        if self.focal_point:
            named += [self.focal_point.x, self.focal_point.y]
        return tuple(dict.fromkeys(named))

    @property
    def primary_field(self) -> str | None:
        """The first field with role primary: the photo that resized copies and write-back speak of."""
        return next((field.label for field in self.fields if field.role == "primary"), None)

    @property
    def primary_column(self) -> str | None:
        """The column of the primary field; None without one, or if it has none of its own."""
        return next((field.column for field in self.fields if field.label == self.primary_field), None)

    def field(self, label: str) -> AnyField:
        """Return the field of that name, which is its column unless the mapping says.

        Raises:
            ConfigurationError: the file no longer has such a field, although the state tables do.
        """
        for field in self.fields:
            if field.label == label:
                return field
        raise ConfigurationError(
            f"source {self.name}: field {label!r}",
            cause="the state tables hold photos of it but the configuration no longer names it",
            fix="put the field back, or roll its photos back first",
        )

    def is_embedded(self, label: str, column: str | None) -> bool:
        """Return whether photos of that field stand in a text, also if the field is declared no more.

        What no field looks into is taken as one whole value.
        """
        named = [field for field in self.fields if field.label == label]
        return any(field.embedded for field in named or self.fields_on(column or ""))

    def fields_on(self, column: str) -> list[AnyField]:
        """Return the fields that look into that column, in their order."""
        return [field for field in self.fields if field.column == column]

    @field_validator("key", mode="before")
    @classmethod
    def _key_identifies_a_row(cls, key: object, info: ValidationInfo) -> object:
        if not key:
            raise ValueError(
                f"table {info.data.get('table')!r}: without a key no row can be found again; "
                "name the columns that identify a row, or add a primary key to the table"
            )
        return key

    @model_validator(mode="after")
    def _columns_do_not_collide(self) -> Self:
        written = self.written_columns
        for field in self.fields:
            shared = self.fields_on(field.column) if field.written and field.column is not None else []
            if len(shared) > 1 and not all(each.embedded for each in shared):
                raise ValueError(f"source {self.name}: column {field.column!r} is written twice")
            if [each.label for each in self.fields].count(field.label) > 1:
                raise ValueError(
                    f"source {self.name}: two fields are called {field.label!r}; give one of them a `name`"
                )
        for column in written:
            if written.count(column) > 1:
                raise ValueError(f"source {self.name}: column {column!r} is written twice")
            if column in self.protect:
                raise ValueError(f"source {self.name}: column {column!r} is protected and would be written")
            if column in self.key:
                raise ValueError(f"source {self.name}: key column {column!r} would be written")
        roles = [field.role for field in self.fields]
        if self.rewrite.write_back and all(field.embedded for field in self.fields):
            raise ValueError(
                f"source {self.name}: write_back needs a field that holds one photo; of which of a text's "
                "photos would it speak?"
            )
        if "variant" in roles and "primary" not in roles:
            raise ValueError(f"source {self.name}: a field with role variant needs one with role primary")
        return self

    def check_against(self, *, roots: Collection[str], presets: Mapping[str, Collection[str]]) -> None:
        """Check the names that this source takes from elsewhere in the file.

        Raises:
            ValueError: an unknown root, preset or variant.
        """
        if self.preset not in presets:
            raise ValueError(f"source {self.name}: preset {self.preset!r} is not among {sorted(presets)}")
        for field in self.fields:
            if field.root not in roots:
                raise ValueError(
                    f"source {self.name}: field {field.label}: root {field.root!r} is not declared"
                )
            if field.variant not in presets[self.preset]:
                raise ValueError(
                    f"source {self.name}: field {field.label}: preset {self.preset!r} has no variant "
                    f"{field.variant!r}"
                )
        for column, quantity in self.rewrite.write_back.items():
            variant = quantity.removeprefix("url.")
            if quantity.startswith("url.") and variant not in presets[self.preset]:
                raise ValueError(f"source {self.name}: write_back.{column}: no variant {variant!r}")
