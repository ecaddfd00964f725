r"""Finds the URLs of HTML: in attributes, srcset, style, data-*, and in JSON of scripts and comments.

A tokenizer after the HTML standard (https://html.spec.whatwg.org/multipage/parsing.html#tokenization), as
far as it concerns attributes. It needs no valid document: a tag that never ends holds no URL, as in browsers.
"""

import re
from collections.abc import Iterator

from photo_pipeline.core.sources.text.urls import whole_url
from photo_pipeline.core.sources.text.views import Span, View

# As in the standard, a name may hold anything but white space, a slash, = and >; an = may begin one, and a
# quoted value that never ends takes the rest of the document. So each of these takes what it finds, without
# a second try: the time grows with the document's length, whatever stands in it.
_NAME = r"(?:=[^\s/>=]*+|[^\s/>=]++)"
_VALUE = r"(?:\"(?P<double>[^\"]*+)(?:\"|\Z)|'(?P<single>[^']*+)(?:'|\Z)|(?P<bare>[^\s\"'>][^\s>]*+))"
_UNNAMED_VALUE = re.sub(r"\?P<\w+>", "?:", _VALUE)
_OPENING = re.compile(r"<(?:!--|(?=[A-Za-z]))")
_TAG = re.compile(
    rf"(?P<name>[A-Za-z][^\s/>]*+)(?P<attributes>(?:\s++|/|{_NAME}(?:\s*+=\s*+{_UNNAMED_VALUE})?+)*+)(?P<end>>|\Z)"
)
_ATTRIBUTE = re.compile(rf"(?P<name>{_NAME})\s*+=\s*+{_VALUE}")
_URL_ATTRIBUTES = {"src", "poster", "background", "data", "content", "lowsrc"}
_LINK_ATTRIBUTES = {"href", "xlink:href"}
# A whole document that was escaped for JSON once too often: src=\"…\".
_ESCAPED_QUOTES = re.compile(r"\\([\"'])(.*)\\\1", re.DOTALL)
_CANDIDATE = re.compile(r"[\s,]*(?P<url>\S+)(?:[^,(]++|\([^)]*+(?:\)|\Z))*+")
_CSS_URL = re.compile(r"url\(\s*(?:\"([^\"\\]*)\"|'([^'\\]*)'|([^\s\"'()\\]+))\s*\)", re.IGNORECASE)
_STRING = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)'")
# Scripts may hold HTML, which may hold data-* with JSON; nobody means more layers than these.
_MOST_LAYERS = 4


def html_urls(view: View, *, layers: int = 0) -> Iterator[Span]:
    """Yield every URL of an HTML document or fragment, in the order of the document."""
    position = 0
    while opening := _OPENING.search(view.text, position):
        start = opening.end()
        if opening[0] == "<!--":
            end = view.text.find("-->", start)
            if end < 0:
                return
            yield from quoted_urls(view.part(start, end), layers=layers)
            position = end
            continue
        tag = _TAG.match(view.text, start)
        if tag is None or not tag["end"]:
            return
        attributes = view.part(*tag.span("attributes"))
        for attribute in _ATTRIBUTE.finditer(attributes.text):
            yield from _attribute(attributes, attribute, layers)
        position = tag.end()
        name = tag["name"].lower()
        if name in ("script", "style"):
            end = _raw_text_end(view.text, position, name)
            inside = view.part(position, end)
            yield from quoted_urls(inside, layers=layers) if name == "script" else css_urls(inside)
            position = end


def css_urls(view: View) -> Iterator[Span]:
    """Yield what stands in each `url(…)` of a style; escaped characters (backslashes) are not understood."""
    for match in _CSS_URL.finditer(view.text):
        group = next(number for number in (1, 2, 3) if match[number] is not None)
        yield from whole_url(view.part(*match.span(group)))


def srcset_urls(view: View) -> Iterator[Span]:
    """Yield the URL of each candidate of a `srcset`; widths and densities are left alone.

    As the standard has it, a comma ends a candidate only after white space or at the URL's very end.
    """
    position = 0
    while match := _CANDIDATE.match(view.text, position):
        start, end = match.span("url")
        url = match["url"].rstrip(",")
        position = end if len(url) < end - start else match.end()
        yield from whole_url(view.part(start, start + len(url)))


def quoted_urls(view: View, *, layers: int = 0) -> Iterator[Span]:
    """Yield URLs that are a whole quoted string of JSON or JavaScript, and those of HTML in such strings."""
    if layers >= _MOST_LAYERS:
        return
    for match in _STRING.finditer(view.text):
        group = 1 if match[1] is not None else 2
        inside = view.part(*match.span(group)).without_json_escapes()
        if "<" in inside.text:
            yield from html_urls(inside, layers=layers + 1)
        elif "/" in inside.text:
            yield from whole_url(inside)


def _attribute(tag: View, match: re.Match[str], layers: int) -> Iterator[Span]:
    group = next(name for name in ("double", "single", "bare") if match[name] is not None)
    value = tag.part(*match.span(group))
    escaped = _ESCAPED_QUOTES.fullmatch(value.text)
    if escaped:
        value = value.part(*escaped.span(2)).without_json_escapes()
    value = value.without_entities()
    name = match["name"].lower()
    if name.endswith("srcset"):
        yield from srcset_urls(value)
    elif name == "style":
        yield from css_urls(value)
    elif name.startswith("data-"):
        yield from _data(value, layers)
    elif name in _URL_ATTRIBUTES or name in _LINK_ATTRIBUTES:
        yield from whole_url(value, is_link=name in _LINK_ATTRIBUTES)


def _data(value: View, layers: int) -> Iterator[Span]:
    """Yield from an attribute of the application's own: a URL, a style, or a JSON document."""
    text = value.text.strip()
    if text[:1] in ("{", "["):
        yield from quoted_urls(value, layers=layers + 1)
    elif "url(" in text.lower():
        yield from css_urls(value)
    else:
        yield from whole_url(value)


def _raw_text_end(text: str, start: int, name: str) -> int:
    end = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(text, start)
    return end.start() if end else len(text)
