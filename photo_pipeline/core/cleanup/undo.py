"""Brings files back from the trash, to where they were: for a person who wants them, or for a rollback."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.scan import file_id
from photo_pipeline.core.catalog.tables import TrashState, trash_table
from photo_pipeline.core.cleanup.trash import NotTouchedError, Trash, settle
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.progress import Progress, no_progress

_CHUNK = 20
_HERE = (TrashState.TRASHED, TrashState.MOVING, TrashState.RESTORING, TrashState.PURGING)


@dataclass
class BroughtBack:
    """What an undo did; `left` says of each file that stays in the trash, why."""

    restored: list[str] = field(default_factory=list)
    bytes: int = 0
    left: dict[str, str] = field(default_factory=dict)


def bring_back(
    database: Database,
    config: PipelineConfig,
    *,
    run: str,
    batches: Sequence[str] = (),
    photos: Sequence[int] = (),
    why: str = "",
    progress: Progress = no_progress,
) -> BroughtBack:
    """Move files from the trash back to where they were; never over a file that is there by now.

    Args:
        database: With the manifest.
        config: With the roots.
        run: The id of this run.
        batches: Only files that photos of these batches showed.
        photos: Only files that these photos showed; with neither, all.
        why: What brought it about, for the audit log.
        progress: Told after each file.

    Raises:
        InfrastructureError: a root is not there or cannot be written.
    """
    outcome = BroughtBack()
    for root in config.roots:
        settle(database, root, run=run)
    by_root: dict[str, list[int]] = defaultdict(list)
    for row in _in_trash(database):
        chosen = not batches and not photos
        if chosen or not set(batches).isdisjoint(row.batches) or not set(photos).isdisjoint(row.photos):
            by_root[row.root].append(row.id)
    done = 0
    for name, ids in sorted(by_root.items()):
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            with Trash.opened(database, config.root(name), run=run) as trash:
                _bring_chunk(database, trash, chunk, outcome, why)
            done += len(chunk)
            progress("files", done, sum(map(len, by_root.values())))
    return outcome


def bring_back_file(database: Database, config: PipelineConfig, root: str, path: str, *, run: str) -> bool:
    """Bring one file back for a rollback, if the trash has it as it was; return whether it did.

    A file that is not what was moved in stays there: then the original in the store is the better one.

    Raises:
        InfrastructureError: the root is not there or cannot be written.
    """
    columns, file = trash_table.c, file_id(root, path)
    with database.read() as connection:
        query = sa.select(columns.id).where(columns.file_id == file, columns.state.in_(_HERE))
        ids = list(connection.execute(query.order_by(columns.id.desc())).scalars())
    if not ids:
        return False
    with Trash.opened(database, config.root(root), run=run) as trash:
        with database.read() as connection:
            rows = trash.rows(connection, ids, states=[TrashState.TRASHED])
        outcome = BroughtBack()
        for row in reversed(rows):
            if not outcome.restored and trash.holds(row):
                _bring_chunk(database, trash, [row.id], outcome, "rollback")
    return bool(outcome.restored)


def _bring_chunk(
    database: Database, trash: Trash, ids: Sequence[int], outcome: BroughtBack, why: str
) -> None:
    def announce(connection: Connection) -> list[Any]:
        return trash.begin(connection, ids, TrashState.RESTORING)

    going = database.transact(announce)
    back, kept = [], {}
    for row in going:
        try:
            trash.move_back(row)
            back.append(row)
        except (NotTouchedError, OSError) as error:
            kept[row.id] = str(error)
            outcome.left[str(Path(row.root) / row.path)] = str(error)

    def finish(connection: Connection) -> None:
        trash.finish(connection, back, kept, why=why)

    database.transact(finish)
    outcome.restored += [str(Path(row.root) / row.path) for row in back]
    outcome.bytes += sum(row.size for row in back)


def _in_trash(database: Database) -> list[Any]:
    with database.read() as connection:
        query = sa.select(trash_table).where(trash_table.c.state.in_(_HERE))
        return list(connection.execute(query.order_by(trash_table.c.id)))
