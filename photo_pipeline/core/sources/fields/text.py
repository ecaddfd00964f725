"""Field kind `text`: a column with HTML, Markdown or BBCode that shows photos."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Literal

from pydantic import Field, field_validator

from photo_pipeline.core.sources.fields.base import Accepts, Box, EmbeddedField, Found, RowValues
from photo_pipeline.core.sources.spelling import Refused, RootSpelling, Spelled, without_query
from photo_pipeline.core.sources.text.document import find_urls
from photo_pipeline.core.sources.text.views import View


class TextField(EmbeddedField):
    """A column with a document; only URLs below the root's declared prefixes are looked at."""

    kind: Literal["text"]
    syntaxes: tuple[Literal["html", "markdown", "bbcode"], ...] = Field(
        default=("html", "markdown", "bbcode"), min_length=1, description="What the documents are written in."
    )
    size_suffix: str | None = Field(
        default=None,
        description='How resized copies are named before the extension, such as "-{width}x{height}".',
    )

    @field_validator("size_suffix")
    @classmethod
    def _has_a_width(cls, pattern: str | None) -> str | None:
        if pattern is not None and pattern.count("{width}") != 1:
            raise ValueError(
                f"size_suffix {pattern!r} must have {{width}} once, such as -{{width}}x{{height}}"
            )
        return pattern

    def find(self, values: RowValues, accepts: Accepts) -> Found:
        """Return the photo URLs of the document."""
        document = values[self.column]
        if not isinstance(document, str):
            return Found(problem=None if document is None else "it is not stored as text")
        return Found(tuple(find_urls(View.of(document), self.syntaxes, accepts)))

    def interpret(self, url: str, root: RootSpelling) -> Spelled | Refused:
        """Return what `url` may mean; of a resized copy, the photo that it was made of comes first."""
        literal = super().interpret(url, root)
        base = self._without_suffix(without_query(url))
        if base is None or isinstance(literal, Refused):
            return literal
        meant = super().interpret(base, root)
        if isinstance(meant, Refused):
            return literal
        return Spelled(tuple(dict.fromkeys((*meant.candidates, *literal.candidates))))

    def variant_of(self, url: str, path: str, variants: Mapping[str, Box]) -> str | None:
        """Return the variant of the asked size: that very box, else the smallest whole picture as wide."""
        match = self._suffix.search(without_query(url)) if self._suffix else None
        if match is None or self._without_suffix(path) is not None:
            return None
        groups = match.groupdict()
        width, height = int(groups["width"]), int(groups.get("height") or 0)
        for name, box in variants.items():
            if (box.width, box.height) == (width, height):
                return name
        wide = [
            (box.width, name) for name, box in variants.items() if box.fit == "inside" and box.width >= width
        ]
        return min(wide)[1] if wide else None

    @cached_property
    def _suffix(self) -> re.Pattern[str] | None:
        if self.size_suffix is None:
            return None
        escaped = re.escape(self.size_suffix)
        for name in ("width", "height"):
            escaped = escaped.replace(re.escape(f"{{{name}}}"), rf"(?P<{name}>[1-9][0-9]{{0,4}})", 1)
        return re.compile(rf"{escaped}(?=\.[A-Za-z0-9]+$)")

    def _without_suffix(self, path: str) -> str | None:
        """Return the name that a resized copy was made of, or None if this is no copy's name."""
        match = self._suffix.search(path) if self._suffix else None
        return path[: match.start()] + path[match.end() :] if match else None
