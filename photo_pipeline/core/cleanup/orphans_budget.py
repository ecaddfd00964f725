"""What a look for orphans will ask the store for, taken from the limits before it begins.

Marking and deleting are not here: they only list, and what they delete lowers the bill.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import object_table
from photo_pipeline.core.cleanup.listing import Prefixes
from photo_pipeline.core.cleanup.orphans_bucket import StoreBucket
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.guard import CostGuard
from photo_pipeline.core.cost.units import Amounts, Unit
from photo_pipeline.core.storage.many import pages_for

_PREFIXES = 2
# A HEAD each; where the store does not answer with a checksum, the bytes are fetched besides.
_QUESTIONS_OF_AN_OBJECT = 2
# Before the listing, and after it.
_QUESTIONS_OF_THE_TIME = 2


@contextmanager
def within_limits(
    database: Database, config: PipelineConfig, bucket: StoreBucket, *, checksums: bool
) -> Iterator[None]:
    """Reserve what scan and drift will ask for in the body.

    Args:
        database: With the state tables.
        config: The limits.
        bucket: What will be asked.
        checksums: Whether each object whose ETag is not known yet is asked for its checksum.

    Raises:
        BudgetError: the limits have no room for it.
    """
    with database.read() as connection:
        amounts = _needed(connection, bucket.prefixes, checksums=checksums)
    with CostGuard.of(database, config).reading(bucket.meter, amounts, what="the look for orphans"):
        yield


def _needed(connection: Connection, prefixes: Prefixes, *, checksums: bool) -> Amounts:
    columns = object_table.c
    known = (columns.verified_at.is_not(None), columns.deleted_at.is_(None))
    count = sa.select(sa.func.count()).select_from(object_table)
    objects = connection.execute(count.where(*known)).scalar_one()
    # No listing shows keys of the application's own (`key_template`), so each look asks for them anew.
    unlisted = sa.not_(sa.or_(_is_below(prefixes.photos), _is_below(prefixes.originals)))
    is_asked = sa.or_(unlisted, columns.etag.is_(None)) if checksums else unlisted
    asked = connection.execute(count.where(*known, is_asked)).scalar_one()
    gets = asked * (_QUESTIONS_OF_AN_OBJECT if checksums else 1)
    return {Unit.PUTS: pages_for(objects) + _PREFIXES, Unit.GETS: gets + _QUESTIONS_OF_THE_TIME}


def _is_below(prefix: str) -> sa.ColumnElement[bool]:
    # Not LIKE, which does not tell capitals from small letters on SQLite.
    return sa.func.substr(object_table.c.key, 1, len(prefix) + 1) == f"{prefix}/"
