"""Field kind `php_serialized`: a column of PHP's `serialize()`; its photos are read, it is not written."""

from functools import cached_property
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from photo_pipeline.core.sources.fields.base import Accepts, EmbeddedField, Found, RowValues
from photo_pipeline.core.sources.json_offsets import JsonPath
from photo_pipeline.core.sources.php_values import PhpProblemError, selected_php_strings


class PhpSerializedField(EmbeddedField):
    """A column of serialized PHP; what the paths select is brought to the store, and the column stays."""

    written: ClassVar[bool] = False

    kind: Literal["php_serialized"]
    paths: tuple[str, ...] = Field(min_length=1, description='Paths of the strings, such as "$.sizes.*.url".')

    @field_validator("paths")
    @classmethod
    def _are_understood(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            JsonPath.parse(path)
        return paths

    @cached_property
    def _compiled(self) -> tuple[JsonPath, ...]:
        return tuple(JsonPath.parse(path) for path in self.paths)

    def find(self, values: RowValues, accepts: Accepts) -> Found:
        """Return the URLs or paths at the declared places, or the problem if it is no such format."""
        document = values[self.column]
        if document is None or not str(document).strip():
            return Found()
        try:
            strings = selected_php_strings(str(document), self._compiled)
        except PhpProblemError as error:
            return Found(problem=str(error))
        return Found(tuple(view.span() for view in strings if view.text.strip()))
