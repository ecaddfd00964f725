"""The local clean-up: moves due files to the trash, and deletes for good what was there long enough.

Nothing goes before its original is proven in the store anew and the file is proven to be the one that was
catalogued (DESIGN rule 6). Which files are due by the state tables is `due`; how one file is moved, `trash`.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.files import lookup_id
from photo_pipeline.core.catalog.inventory import take_inventory
from photo_pipeline.core.catalog.tables import (
    GONE,
    BatchState,
    PhotoClass,
    PhotoState,
    TrashState,
    batch_table,
    photo_table,
    trash_table,
    utc_now,
)
from photo_pipeline.core.cleanup.batch_leases import BatchLeases, BusyError, held
from photo_pipeline.core.cleanup.clean_up_counts import CleanedUp, Tally
from photo_pipeline.core.cleanup.due import (
    Candidate,
    DueFiles,
    FileClass,
    missing_references,
    original_key,
)
from photo_pipeline.core.cleanup.local_names import NamedFiles
from photo_pipeline.core.cleanup.trash import NotTouchedError, Trash, settle
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.watch import ControlWatch, require_running
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.probe import probe_store
from photo_pipeline.core.storage.proof import is_proven
from photo_pipeline.core.storage.store import PhotoStore

# Files per pair of transactions. A photo hashes in milliseconds; a lease lasts 120 s.
_CHUNK = 20


def plan_clean_up(
    database: Database, config: PipelineConfig, *, batches: Sequence[str] | None = None
) -> CleanedUp:
    """Return what a clean-up would do, as far as the state tables tell; touches nothing, asks no store."""
    outcome = CleanedUp(applied=False)
    due = DueFiles(database, config)
    named = NamedFiles(database, config, lambda: _may_go(database, config, due, batches))
    discarded = config.store.originals == "discard"
    for key in due.batches():
        for each in named.judged(_only(due.of_batch(key), batches)):
            if discarded and each.outcome is FileClass.DUE:
                outcome.count(FileClass.NOT_STORED, each, "store.originals is discard")
            else:
                outcome.count(each.outcome, each, each.reason)
    for row in _trashed(database):
        place = named.place(row.root, row.path)
        if place is not None:
            outcome.count_trash("referenced_again", row, _named_again(place))
        else:
            outcome.count_trash("due" if _may_be_purged(row, config) else "waiting", row)
    outcome.unreferenced = _unreferenced(database)
    return outcome


def clean_up(
    database: Database,
    config: PipelineConfig,
    store: PhotoStore,
    *,
    run: str,
    batches: Sequence[str] | None = None,
    progress: Progress = no_progress,
) -> CleanedUp:
    """Move due files to the trash, and delete for good what has been there long enough.

    Takes an inventory first, so that a row that refers to a file since the last one is known; then reads
    the rows that `where` leaves out, once for all files.

    Args:
        database: The application's database.
        config: Roots and waiting times.
        store: The bucket that must hold the originals.
        run: The id of this run.
        batches: Only files of these batches; None: of all. What is in the trash is dealt with in any case.
        progress: Told after each file.

    Raises:
        GuardRefusedError: originals are not kept, or a rollback is under way.
        PausedError: the migration is paused or aborted, before or meanwhile; what is moved is recorded.
        StoreError: the store cannot be asked; what is moved until then is recorded.
        InfrastructureError: a root cannot be listed or written.
    """
    refuse_unless_safe(database, config)
    for root in config.roots:
        # First of all, since an inventory would not understand what a run that died has left half done.
        settle(database, root, run=run)
    take_inventory(database, config, progress=progress)
    work = _CleanUp(database, config, store, run=run, batches=batches, progress=progress)
    work.empty_trash()
    work.move_due()
    work.outcome.unreferenced = _unreferenced(database)
    return work.outcome


def refuse_unless_safe(database: Database, config: PipelineConfig) -> None:
    """Check that files may be cleaned up at all.

    Raises:
        GuardRefusedError: originals are not kept, or a rollback is under way or was interrupted.
        PausedError: the migration is paused or aborted.
    """
    if config.store.originals == "discard":
        raise GuardRefusedError(
            "the local clean-up",
            cause="store.originals is discard, so that the local files are the only originals there are",
            fix="set store.originals to keep, and migrate again: then their originals are stored",
        )
    require_running(database)
    batch = batch_table.c
    with database.read() as connection:
        going = connection.execute(
            sa.select(batch.key).where(batch.state == BatchState.ROLLING_BACK).limit(1)
        ).scalar()
    if going is not None:
        raise GuardRefusedError(
            going,
            cause="its rollback is under way, or was interrupted",
            fix=f"finish it first: photo-pipeline rollback --batch {going}",
        )


class _CleanUp:
    def __init__(
        self,
        database: Database,
        config: PipelineConfig,
        store: PhotoStore,
        *,
        run: str,
        batches: Sequence[str] | None,
        progress: Progress,
    ) -> None:
        self._database = database
        self._config = config
        self._store = store
        self._run = run
        self._progress = progress
        self._naming = ObjectNaming(config, database)
        self._batches = batches
        self._due = DueFiles(database, config, run=run)
        self._named = NamedFiles(database, config, lambda: _may_go(database, config, self._due, batches))
        self._watch = ControlWatch(database)
        self._done = 0
        self.outcome = CleanedUp(applied=True)

    # --- into the trash

    def move_due(self) -> None:
        for key in self._due.batches():
            found = self._named.judged(_only(self._due.of_batch(key), self._batches))
            self._keep([each for each in found if each.outcome is not FileClass.DUE])
            groups: dict[tuple[tuple[str, ...], str], list[Candidate]] = defaultdict(list)
            for each in found:
                if each.outcome is FileClass.DUE:
                    groups[each.batches, each.root].append(each)
            for (needed, root), members in groups.items():
                for start in range(0, len(members), _CHUNK):
                    self._watch.check()
                    self._move_chunk(needed, root, members[start : start + _CHUNK])

    def _keep(self, candidates: Sequence[Candidate]) -> None:
        for each in candidates:
            self._count(each.outcome, each, each.reason)

    def _count(self, outcome: str, candidate: Candidate, reason: str = "") -> None:
        self.outcome.count(outcome, candidate, reason)
        self._done += 1
        self._progress("files", self._done, None)

    def _move_chunk(self, needed: Sequence[str], root: str, members: list[Candidate]) -> None:
        proven = []
        for each in members:
            if self._is_stored(original_key(self._naming, each.photo), each.photo.sha256, each.photo.size):
                proven.append(each)
            else:
                self._count(FileClass.NOT_STORED, each, "the store does not hold its original intact")
        try:
            with (
                held(self._database, needed, run=self._run) as leases,
                Trash.opened(self._database, self._config.root(root), run=self._run) as trash,
            ):
                self._move_held(trash, leases, proven)
        except BusyError as error:
            for each in proven:
                self._count(FileClass.BATCH_BUSY, each, str(error))

    def _move_held(self, trash: Trash, leases: BatchLeases, members: Sequence[Candidate]) -> None:
        now = self._due.of_files([each.file_id for each in members])
        still = [now[each.file_id] for each in members if each.file_id in now]
        self._keep([each for each in still if each.outcome is not FileClass.DUE])
        due = {each.file_id: each for each in still if each.outcome is FileClass.DUE}

        def announce(connection: Connection) -> list[Any]:
            leases.hold(connection)
            ids = trash.announce(connection, [self._manifest_row(each) for each in due.values()])
            return trash.rows(connection, ids, states=[TrashState.MOVING])

        rows = self._database.transact(announce)
        moved, kept = [], {}
        for row in rows:
            leases.renew()
            try:
                trash.move_in(row, links=self._config.cleanup.hard_links == "move")
                moved.append(row)
            except (NotTouchedError, OSError) as error:
                kept[row.id] = str(error)
                outcome = error.outcome if isinstance(error, NotTouchedError) else FileClass.NOT_PLAIN
                self._count(outcome, due[row.file_id], str(error))

        def finish(connection: Connection) -> None:
            leases.hold(connection)
            trash.finish(connection, moved, kept)

        self._database.transact(finish)
        for row in moved:
            self._count(FileClass.TRASHED, due[row.file_id])

    def _manifest_row(self, candidate: Candidate) -> dict[str, Any]:
        photo = candidate.photo
        return {
            "file_id": candidate.file_id,
            "path": candidate.path,
            "size": photo.size,
            "mtime_ns": photo.mtime_ns,
            "inode": photo.inode,
            "sha256": photo.sha256,
            "original_key": original_key(self._naming, photo),
            "batches": list(candidate.batches),
            "photos": [each.id for each in candidate.photos],
        }

    def _is_stored(self, key: str | None, sha256: str, size: int) -> bool:
        if key is None:
            return False
        probe = probe_store(self._database, self._store)
        return is_proven(self._store, probe, key, sha256, size=size)

    # --- out of it, for good

    def empty_trash(self) -> None:
        wanted = missing_references(self._database, self._config)
        groups: dict[tuple[tuple[str, ...], str], list[Any]] = defaultdict(list)
        for row in _trashed(self._database):
            if lookup_id(row.root, row.path) in wanted:
                self.outcome.count_trash("referenced_again", row, "a row refers to it; bring it back: --undo")
            elif (place := self._named.place(row.root, row.path)) is not None:
                self.outcome.count_trash("referenced_again", row, _named_again(place))
            elif not (_may_be_purged(row, self._config) and self._named.knows(row.root, row.path)):
                self.outcome.count_trash("waiting", row)
            else:
                groups[tuple(row.batches), row.root].append(row)
        for (needed, root), rows in groups.items():
            for start in range(0, len(rows), _CHUNK):
                self._watch.check()
                self._purge_chunk(needed, root, rows[start : start + _CHUNK])

    def _purge_chunk(self, needed: Sequence[str], root: str, rows: list[Any]) -> None:
        stored = []
        for row in rows:
            if self._is_stored(row.original_key, row.sha256, row.size):
                stored.append(row)
            else:
                self.outcome.count_trash("not_stored", row, "the store does not hold its original intact")
        try:
            with (
                held(self._database, needed, run=self._run) as leases,
                Trash.opened(self._database, self._config.root(root), run=self._run) as trash,
            ):
                self._purge_held(trash, leases, stored)
        except BusyError as error:
            for row in stored:
                self.outcome.count_trash("batch_busy", row, str(error))

    def _purge_held(self, trash: Trash, leases: BatchLeases, rows: Sequence[Any]) -> None:
        def announce(connection: Connection) -> list[Any]:
            leases.hold(connection)
            free = [row.id for row in rows if not _needed_locally(connection, row)]
            return trash.begin(connection, free, TrashState.PURGING)

        going = self._database.transact(announce)
        gone, kept = [], {}
        for row in going:
            leases.renew()
            try:
                trash.remove(row)
                gone.append(row)
            except (NotTouchedError, OSError) as error:
                kept[row.id] = str(error)
                outcome = error.outcome if isinstance(error, NotTouchedError) else "failed"
                self.outcome.count_trash(outcome, row, str(error))

        def finish(connection: Connection) -> None:
            leases.hold(connection)
            trash.finish(connection, gone, kept)

        self._database.transact(finish)
        for row in gone:
            self.outcome.count_trash("purged", row)
        left = {row.id for row in rows} - {row.id for row in going}
        for row in rows:
            if row.id in left:
                self.outcome.count_trash("referenced_again", row, "a row shows the local file again")


def _only(candidates: list[Candidate], batches: Sequence[str] | None) -> list[Candidate]:
    """Return the candidates that photos of those batches show; None: all."""
    if batches is None:
        return candidates
    return [each for each in candidates if not set(batches).isdisjoint(each.batches)]


def _may_go(
    database: Database, config: PipelineConfig, due: DueFiles, batches: Sequence[str] | None
) -> set[str]:
    """Return the lookup ids of all files that would be moved or deleted now."""
    found = {
        lookup_id(each.root, each.path)
        for key in due.batches()
        for each in _only(due.of_batch(key), batches)
        if each.outcome is FileClass.DUE
    }
    return found | {
        lookup_id(row.root, row.path) for row in _trashed(database) if _may_be_purged(row, config)
    }


def _named_again(place: str) -> str:
    return f"{place} names it; bring it back: --undo"


def _trashed(database: Database) -> list[Any]:
    with database.read() as connection:
        query = sa.select(trash_table).where(trash_table.c.state == TrashState.TRASHED)
        return list(connection.execute(query.order_by(trash_table.c.id)))


def _due_at(row: Any, config: PipelineConfig) -> Any:
    return row.trashed_at + timedelta(days=config.cleanup.trash_days)


def _may_be_purged(row: Any, config: PipelineConfig) -> bool:
    return row.original_key is not None and bool(_due_at(row, config) <= utc_now())


def _needed_locally(connection: Connection, row: Any) -> bool:
    """Return whether a photo shows (or may show) the local file again, since it was moved away."""
    photo = photo_table.c
    local = photo.state.not_in([PhotoState.MIGRATED, *GONE])
    query = sa.select(photo.id).where(photo.file_id == row.file_id, photo.source.is_not(None), local)
    return connection.execute(query.limit(1)).first() is not None


def _unreferenced(database: Database) -> Tally:
    photo = photo_table.c
    with database.read() as connection:
        row = connection.execute(
            sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(photo.size), 0)).where(
                photo["class"] == PhotoClass.FILE_UNREFERENCED, photo.source.is_(None)
            )
        ).one()
    return Tally(int(row[0]), int(row[1]))
