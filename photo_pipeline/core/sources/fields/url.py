"""Field kind `url`: the column holds a URL (or a URL path) of the photo."""

from typing import Literal

from photo_pipeline.core.sources.fields.base import SinglePhotoField
from photo_pipeline.core.sources.spelling import Refused, RootSpelling, Spelled, without_query


class UrlField(SinglePhotoField):
    """A column with one photo URL; percent-encoding and a query string are understood as in a URL."""

    kind: Literal["url"]

    def interpret(self, value: str, root: RootSpelling) -> Spelled | Refused:
        """Return the relative paths that `value` may mean, the likeliest first, or why it is refused."""
        return root.interpret(value, percent_encoded=True, alternatives=(without_query(value),))
