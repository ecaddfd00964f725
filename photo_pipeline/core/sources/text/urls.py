r"""Reads a place that holds one URL: its escapes, and URLs that it carries as query parameters."""

import re
from collections.abc import Iterator

from photo_pipeline.core.sources.text.views import Span, View

# The whole URL was encoded: it begins with a scheme, a host or a root, and its slashes are %2F.
_ENCODED_URL = re.compile(r"(?:https?(?::|%3a))?%2f[^/]*", re.IGNORECASE)
_PARAMETER = re.compile(r"(?<=[?&;])[^=&;#?]*=([^&;#]*)")
# Where a link to a page ends, a link to a picture (a lightbox) is told by its extension.
_PICTURE = re.compile(
    r"\.(?:jpe?g|jpe|jfif|png|gif|webp|avif|bmp|tiff?|hei[cf]|svg)(?=$|[?#])", re.IGNORECASE
)


def whole_url(view: View, *, is_link: bool = False) -> Iterator[Span]:
    """Yield the URL that the view is, then the URLs in its query; blank views hold none."""
    view = view.stripped()
    if "\\/" in view.text:
        view = view.without_json_escapes()
    if _ENCODED_URL.fullmatch(view.text):
        view = view.without_percent()
    if not view.text or any(char in view.text for char in "\r\n\t"):
        return
    yield view.span(is_link=is_link)
    for match in _PARAMETER.finditer(view.text):
        value = view.part(*match.span(1))
        if _ENCODED_URL.fullmatch(value.text):
            yield value.without_percent().span(is_link=is_link)
        elif value.text.startswith(("/", "http://", "https://")):
            yield value.span(is_link=is_link)


def names_picture(url: str) -> bool:
    """Return whether a URL's path ends like a picture's file name."""
    return _PICTURE.search(url) is not None
