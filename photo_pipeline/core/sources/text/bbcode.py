"""Finds the URLs of BBCode: `[img]…[/img]`, `[img=…]`, `[url]…[/url]` and `[url=…]`, in either case."""

import re
from collections.abc import Iterator

from photo_pipeline.core.sources.text.urls import whole_url
from photo_pipeline.core.sources.text.views import Span, View

_IMAGE_TAGS = "img|image|thumb"
_AROUND = re.compile(
    rf"\[(?P<tag>{_IMAGE_TAGS}|url)(?:[= ][^\[\]\n]*)?\](?P<url>[^\[\]\n]*)\[/(?P=tag)\]", re.IGNORECASE
)
_WITHIN = re.compile(
    rf"\[(?P<tag>{_IMAGE_TAGS}|url)=(?:\"(?P<double>[^\"\n]*)\"|'(?P<single>[^'\n]*)'|(?P<bare>[^\s\[\]\"'][^\s\[\]]*))"
    r"(?=[\s\]])",
    re.IGNORECASE,
)


def bbcode_urls(view: View) -> Iterator[Span]:
    """Yield every URL of the BBCode."""
    for match in _AROUND.finditer(view.text):
        yield from whole_url(view.part(*match.span("url")), is_link=match["tag"].lower() == "url")
    for match in _WITHIN.finditer(view.text):
        group = next(name for name in ("double", "single", "bare") if match[name] is not None)
        yield from whole_url(view.part(*match.span(group)), is_link=match["tag"].lower() == "url")
