"""Finds the URLs of Markdown: images, links, reference definitions and autolinks (CommonMark 0.31).

Code spans and fenced code show text and are left alone. HTML in Markdown is `html`'s.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator

from photo_pipeline.core.sources.text.urls import whole_url
from photo_pipeline.core.sources.text.views import Span, View

# Fenced code first: the backticks inside belong to it. An unclosed fence runs to the end, as in CommonMark.
_CODE = re.compile(
    r"^ {0,3}(?P<fence>`{3,}+(?=[^`\n]*\n)|~{3,}+)[^\n]*\n.*?(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)"
    r"|(?<!`)(?P<ticks>`++)(?:(?!\n[ \t]*\n).)*?(?<!`)(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)
# Parentheses in an address are balanced, here to two levels.
_ADDRESS = (
    r"<(?P<angled>[^<>\n]*)>|(?P<plain>(?!<)(?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*\))*\))+)"
)
_TITLE = r"(?:\s+(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|\((?:[^()\\]|\\.)*\)))?"
_BRACKET = re.compile(r"\\.|!?\[|\]", re.DOTALL)
_TARGET = re.compile(rf"\(\s*(?:{_ADDRESS}){_TITLE}\s*\)", re.DOTALL)
_DEFINITION = re.compile(
    rf"^ {{0,3}}\[(?:[^\[\]\\]|\\.)+\]:[ \t]*\n?[ \t]*(?:{_ADDRESS})(?:{_TITLE})[ \t]*$", re.MULTILINE
)
_AUTOLINK = re.compile(r"<(?P<angled>https?://[^\s<>]*)>", re.IGNORECASE)


def markdown_urls(view: View) -> Iterator[Span]:
    """Yield every URL of the Markdown, by kind of place."""
    code = [match.span() for match in _CODE.finditer(view.text)]
    for match, is_link in _places(view.text, code):
        group = "angled" if match["angled"] is not None else "plain"
        yield from whole_url(view.part(*match.span(group)).without_entities(), is_link=is_link)


def _places(text: str, code: list[tuple[int, int]]) -> Iterator[tuple[re.Match[str], bool]]:
    yield from _inline(text, code)
    for pattern in (_DEFINITION, _AUTOLINK):
        for match in pattern.finditer(text):
            if not _inside(match.start(), code):
                yield match, True


def _inline(text: str, code: list[tuple[int, int]]) -> Iterator[tuple[re.Match[str], bool]]:
    """Yield the target after each closed bracket, and whether its bracket opened a link (not an image)."""
    opened: list[bool] = []
    for bracket in _BRACKET.finditer(text):
        if bracket[0].startswith("\\") or _inside(bracket.start(), code):
            continue
        if bracket[0] != "]":
            opened.append(not bracket[0].startswith("!"))
        elif opened:
            is_link = opened.pop()
            target = _TARGET.match(text, bracket.end())
            if target:
                yield target, is_link


def _inside(position: int, ranges: list[tuple[int, int]]) -> bool:
    before = bisect_right(ranges, (position, len(ranges) and ranges[-1][1]))
    return before > 0 and position < ranges[before - 1][1]
