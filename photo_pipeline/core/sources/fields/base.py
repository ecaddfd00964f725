"""What every field kind has in common: where it looks, what it finds there, and what that means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from photo_pipeline.core.sources.spelling import Refused, RootSpelling, Spelled, without_query
from photo_pipeline.core.sources.text.views import Span, View

RowValues = Mapping[str, int | float | str | bytes | None]
"""A row's raw values (`catalog.raw.RawValue`), by column."""

Accepts = Callable[[Span], bool]
"""Whether a URL that stands among others is one of ours, old or new."""


@dataclass(frozen=True)
class Found:
    """What one field of one row names; with a problem, its cell is reported and never touched."""

    spans: tuple[Span, ...] = ()
    problem: str | None = None


class Box(Protocol):
    """A variant's size in pixels, as far as a field needs to know it."""

    @property
    def fit(self) -> str:
        """`inside` keeps the whole picture, `cover` crops it."""

    @property
    def width(self) -> int:
        """Of the box."""

    @property
    def height(self) -> int:
        """Of the box."""


class FieldBase(BaseModel):
    """One way in which a row refers to photos.

    Roles: `primary` is the photo itself; `variant` is a smaller copy that the application made of the row's
    primary (it receives the URL of one of the primary's variants); `duplicate` is the same photo spelled
    again elsewhere, and is migrated like a primary (equal content shares one set of objects).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Whether its cell may name several photos, among other text.
    embedded: ClassVar[bool] = False
    # Whether a rewrite changes its cell; else its photos are only brought to the store.
    written: ClassVar[bool] = True

    name: str | None = Field(default=None, description="What the field is called, if not by its column.")
    root: str = Field(description="The root that the value points into.")
    role: Literal["primary", "variant", "duplicate"] = Field(
        default="primary",
        description="primary: the photo itself; variant: a smaller copy that the application made of the "
        "row's primary; duplicate: the photo spelled again elsewhere, migrated like a primary.",
    )
    variant: str = Field(default="full", description="Which variant the rewritten value names.")

    def interpret(self, url: str, root: RootSpelling) -> Spelled | Refused:
        """Return the relative paths that `url` may mean, the likeliest first, or why it is refused."""
        return root.interpret(url, percent_encoded=True, alternatives=(without_query(url),))

    def variant_of(self, url: str, path: str, variants: Mapping[str, Box]) -> str | None:
        """Return the variant that `url` asks of the file at `path`, or None for the field's own."""
        return None


class ColumnField(FieldBase):
    """A field that is a column of the table."""

    column: str = Field(description="The column that names the photo or photos.")

    @property
    def label(self) -> str:
        """How the field is called in the state tables: its name, or else its column."""
        return self.name or self.column

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns whose values `find` needs."""
        return (self.column,)


class SinglePhotoField(ColumnField):
    """A column whose whole value refers to one photo."""

    def find(self, values: RowValues, accepts: Accepts) -> Found:
        """Return the whole value as the one URL; a blank one names nothing."""
        value = values[self.column]
        # A number or a blob in a URL column names no file; its text form makes the report readable.
        text = "" if value is None else str(value)
        return Found((View.of(text).span(),)) if text.strip() else Found()


class EmbeddedField(ColumnField):
    """A column whose text holds any number of photo URLs among other things.

    Each is a photo of its own, so none of them is the row's primary or a copy of it.
    """

    embedded: ClassVar[bool] = True

    role: Literal["duplicate"] = Field(
        default="duplicate", description="A photo in a text is nobody's primary and no copy."
    )
