"""Finds the URLs of a document in all its syntaxes, and replaces them by offset and by nothing else."""

from collections.abc import Callable, Iterable, Mapping

from photo_pipeline.core.sources.text.bbcode import bbcode_urls
from photo_pipeline.core.sources.text.html import html_urls
from photo_pipeline.core.sources.text.markdown import markdown_urls
from photo_pipeline.core.sources.text.urls import names_picture
from photo_pipeline.core.sources.text.views import Span, View

FINDERS = {"html": html_urls, "markdown": markdown_urls, "bbcode": bbcode_urls}
"""What looks for URLs, by syntax; a new syntax is one module and one entry here."""


def find_urls(document: View, syntaxes: Iterable[str], accepts: Callable[[Span], bool]) -> list[Span]:
    """Return the URLs that `accepts` wants, in order; none lies in another.

    Where one accepted URL carries another (in its query), or two syntaxes claim the same characters, the one
    that begins first and reaches farthest counts.

    Args:
        document: The document, or a part of one.
        syntaxes: Names in `FINDERS`.
        accepts: Whether a URL is wanted; asked for links only if they end like a picture's file name.
    """
    found = {
        (span.start, -span.end): span
        for syntax in reversed(list(syntaxes))
        for span in FINDERS[syntax](document)
        if span.end > span.start and (not span.is_link or names_picture(span.url)) and accepts(span)
    }
    return without_overlaps(found[place] for place in sorted(found))


def without_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Return the spans, which are in order, without those that begin inside an earlier one."""
    chosen: list[Span] = []
    for span in spans:
        if not chosen or span.start >= chosen[-1].end:
            chosen.append(span)
    return chosen


def replace_spans(document: str, new: Mapping[Span, str]) -> str:
    """Return the document with each span's characters replaced by that text, and all others as they are.

    Raises:
        ValueError: a span is not of this document, or two overlap.
    """
    end = len(document)
    for span in sorted(new, key=lambda each: each.start, reverse=True):
        if span.end > end or document[span.start : span.end] != span.spelled:
            raise ValueError(f"{span.spelled!r} does not stand at {span.start} of this document")
        document = document[: span.start] + new[span] + document[span.end :]
        end = span.start
    return document
