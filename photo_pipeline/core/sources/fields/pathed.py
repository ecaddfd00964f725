"""What the kinds of structured documents share: the paths of the strings that name photos."""

from functools import cached_property

from pydantic import Field, field_validator

from photo_pipeline.core.sources.fields.base import EmbeddedField
from photo_pipeline.core.sources.json_offsets import JsonPath


class PathedField(EmbeddedField):
    """A column with a document in which declared paths lead to the strings."""

    paths: tuple[str, ...] = Field(min_length=1, description='JSONPaths of the strings, such as "$.*.url".')

    @field_validator("paths")
    @classmethod
    def _are_understood(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            JsonPath.parse(path)
        return paths

    @cached_property
    def _compiled(self) -> tuple[JsonPath, ...]:
        return tuple(JsonPath.parse(path) for path in self.paths)
