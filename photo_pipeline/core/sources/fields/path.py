"""Field kind `path`: the column holds a file path, usually relative to the root."""

from typing import Literal

from photo_pipeline.core.sources.fields.base import SinglePhotoField
from photo_pipeline.core.sources.spelling import Refused, RootSpelling, Spelled


class PathField(SinglePhotoField):
    """A column with one path; `%` and `?` are taken literally first, as in a file name."""

    kind: Literal["path"]

    def interpret(self, value: str, root: RootSpelling) -> Spelled | Refused:
        """Return the relative paths that `value` may mean, the likeliest first, or why it is refused."""
        return root.interpret(value, percent_encoded=False)
