"""A text's places with photos, and how each was spelled by every rewrite of it.

A rewrite changes nothing outside of them, so what stands between two places is the same in all the texts.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

from photo_pipeline.core.sources.text.views import Span


@dataclass(frozen=True)
class Place:
    """One place.

    Attributes:
        spelled: What stood in it before the first rewrite, and after each.
        photos: Whose it may be: `pp_photo` rows with what stands in it now. Files with equal content have
            equal addresses; the local name, if it stood there, tells which.
    """

    spelled: tuple[str, ...]
    photos: tuple[Any, ...]

    @property
    def owner(self) -> int | None:
        """The photo whose local name stood there at first, or None if none did."""
        return next((photo.id for photo in self.photos if photo.value == self.spelled[0]), None)

    @property
    def was_changed(self) -> bool:
        """Whether any of the rewrites changed it."""
        return len(set(self.spelled)) > 1


@dataclass(frozen=True)
class CellPlaces:
    """The places of one text, and what stands around them."""

    around: tuple[str, ...]
    places: tuple[Place, ...]

    @classmethod
    def of(cls, texts: Sequence[str], shown: Sequence[tuple[Span, Sequence[Any]]]) -> Self | None:
        """Return the places, or None if the texts differ elsewhere.

        Args:
            texts: Before the first rewrite, and after each.
            shown: Places in the last of them, each with the photos that have this address.
        """
        spans = sorted(shown, key=lambda each: each[0].start)
        borders = [0, *(offset for span, _ in spans for offset in (span.start, span.end)), len(texts[-1])]
        around = tuple(texts[-1][start:end] for start, end in zip(borders[::2], borders[1::2], strict=True))
        spelled = [[span.spelled for span, _ in spans]]
        for text in reversed(texts[:-1]):
            pieces = _pieces(text, around, spelled[-1])
            if pieces is None:
                return None
            spelled.append(pieces)
        lines = zip(*reversed(spelled), strict=True)
        return cls(
            around, tuple(Place(line, tuple(span[1])) for line, span in zip(lines, spans, strict=True))
        )

    def are_local(self, photo: int) -> bool:
        """Return whether the photo's places had its local name before the first rewrite, and it has any."""
        own = [place for place in self.places if place.owner == photo]
        unknown = [place for place in self.places if place.owner is None and place.was_changed]
        return bool(own) and not any({each.id for each in place.photos} == {photo} for place in unknown)

    def without(self, photos: Collection[int]) -> list[str]:
        """Return the texts as they would be if those photos had never been rewritten."""
        return [
            self._text([each.spelled[0 if each.owner in photos else step] for each in self.places])
            for step in range(len(self.places[0].spelled) if self.places else 0)
        ]

    def _text(self, pieces: Sequence[str]) -> str:
        return self.around[0] + "".join(
            piece + after for piece, after in zip(pieces, self.around[1:], strict=True)
        )


def _pieces(text: str, around: Sequence[str], newer: Sequence[str]) -> list[str] | None:
    """Return what stands in each place of an older text, or None if it differs elsewhere."""
    if not text.startswith(around[0]):
        return None
    pieces: list[str] = []
    start = len(around[0])
    for number, (after, known) in enumerate(zip(around[1:], newer, strict=True), 1):
        if number == len(newer):
            end = len(text) - len(after) if text.endswith(after) else -1
        elif text.startswith(known + after, start):
            end = start + len(known)
        else:
            end = text.find(after, start + 1)
        if end < start:
            return None
        pieces.append(text[start:end])
        start = end + len(after)
    return pieces if start == len(text) else None
