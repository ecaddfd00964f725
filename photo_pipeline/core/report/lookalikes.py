"""Photos that look alike although their bytes differ: how many groups there are, and the largest by name.

Pure reads over an open connection; nothing is merged or deleted. What looks alike is decided in
`core.imaging.fingerprint`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import GONE, photo_table, picture_table
from photo_pipeline.core.imaging.fingerprint import FEATURELESS, near_duplicates

# Reading and comparing as many takes 5 s of a busy core and 27 MB (synthetic hashes, half of them in pairs).
MAX_COMPARED = 50_000
MAX_GROUPS = 20
MAX_PATHS = 6


@dataclass(frozen=True)
class LookalikeGroup:
    """Distinct contents that look alike; `paths` names one file of each of the first few."""

    photos: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Lookalikes:
    """What was compared, and what of it looks alike. All numbers count distinct contents.

    Attributes:
        comparable: Those with enough shapes to be told from others.
        compared: Those that were compared, at most MAX_COMPARED.
        groups: Groups of two or more that look alike.
        photos: Those in any group.
        largest: The largest groups, at most MAX_GROUPS.
    """

    comparable: int = 0
    compared: int = 0
    groups: int = 0
    photos: int = 0
    largest: tuple[LookalikeGroup, ...] = ()

    @property
    def is_capped(self) -> bool:
        """Whether there were more photos than are compared."""
        return self.compared < self.comparable


def collect_lookalikes(connection: Connection, *, limit: int = MAX_COMPARED) -> Lookalikes:
    """Return what looks alike among the photos of all batches, of which `limit` contents are compared."""
    total = sa.select(sa.func.count()).select_from(_pictures().subquery())
    # By hash, so that beyond the limit whole neighbourhoods are left out and not one of each pair.
    pictures = _pictures().order_by(picture_table.c.perceptual_hash, picture_table.c.sha256).limit(limit)
    hashes = {row.sha256: row.perceptual_hash for row in connection.execute(pictures)}
    groups = near_duplicates(hashes)
    largest = sorted(groups, key=lambda group: (-len(group), group))[:MAX_GROUPS]
    return Lookalikes(
        comparable=int(connection.execute(total).scalar_one()),
        compared=len(hashes),
        groups=len(groups),
        photos=sum(len(group) for group in groups),
        largest=_named(connection, largest),
    )


def _is_shown() -> sa.ColumnElement[bool]:
    """Whether a row of `pp_photo` is a photo of a batch that its row still names, and no resized copy."""
    photo = photo_table.c
    return sa.and_(photo.batch.is_not(None), photo.state.not_in(GONE), photo.role != "variant")


def _pictures() -> sa.Select[tuple[str, str]]:
    picture = picture_table.c
    shown = sa.exists().where(photo_table.c.sha256 == picture.sha256, _is_shown())
    return sa.select(picture.sha256, picture.perceptual_hash).where(
        picture.perceptual_hash != FEATURELESS, shown
    )


def _named(connection: Connection, groups: Iterable[tuple[str, ...]]) -> tuple[LookalikeGroup, ...]:
    listed = [(len(group), group[:MAX_PATHS]) for group in groups]
    contents = [content for _, group in listed for content in group]
    photo = photo_table.c
    # One path each: a content may be at thousands of them.
    query = (
        sa.select(photo.sha256, sa.func.min(photo.path))
        .where(photo.sha256.in_(contents), _is_shown())
        .group_by(photo.sha256)
    )
    paths = {row[0]: str(row[1]) for row in connection.execute(query)}
    return tuple(
        LookalikeGroup(photos, tuple(sorted(paths[content] for content in group))) for photos, group in listed
    )
