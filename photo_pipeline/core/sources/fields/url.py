"""Field kind `url`: the column holds a URL (or a URL path) of the photo."""

from typing import Literal

from photo_pipeline.core.sources.fields.base import SinglePhotoField


class UrlField(SinglePhotoField):
    """A column with one photo URL; percent-encoding and a query string are understood as in a URL."""

    kind: Literal["url"]
