"""Rebuilds lost state tables from the bucket: from its objects' metadata, and from the copies of the catalog.

Afterwards `validate`, `rollback`, `repoint` and `migrate` work as before. What no copy has is listed, not
made up: rows that show our URLs without a copied ledger go back by `restore`. Rows are only read.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.database import Database, insert_or_update
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.catalog.tables import (
    BatchState,
    PhotoState,
    RewriteOutcome,
    batch_table,
    object_table,
    photo_table,
    recipe_table,
    rewrite_photo_table,
    rewrite_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.backup_file import BackupFile, BackupKind
from photo_pipeline.core.migration.naming import ORIGINAL_TYPES
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.keys import is_usable_key
from photo_pipeline.core.storage.objects import StoredObject
from photo_pipeline.core.storage.probe import StoreProbe, probe_store
from photo_pipeline.core.storage.proof import proven_by
from photo_pipeline.core.storage.store import PhotoStore

_THREADS = 16
_ROWS_PER_INSERT = 500

NOT_REBUILT = (
    "the audit log (it starts anew)",
    "placeholders, look-alikes and measured quality (made again with the next new variants)",
    "validation results (run: photo-pipeline validate)",
    "the list of local files (run: photo-pipeline migrate, which takes an inventory first)",
)
"""What is in no object's metadata and in no copy."""


@dataclass
class Rebuilt:
    """What was rebuilt, by table; `foreign` are keys under our prefixes that no metadata of ours explains."""

    objects: int = 0
    unproven: int = 0
    recipes: int = 0
    batches: int = 0
    photos: int = 0
    rewrites: int = 0
    rolled_back_since: int = 0
    foreign: list[str] = field(default_factory=list)
    without_copy: list[str] = field(default_factory=list)
    not_rebuilt: tuple[str, ...] = NOT_REBUILT

    @property
    def has_findings(self) -> bool:
        """Whether something needs a person: objects that are not proven, rewrites that no copy has."""
        return bool(self.unproven or self.foreign or self.without_copy)


def rebuild_state(
    database: Database,
    config: PipelineConfig,
    store: PhotoStore,
    files: Sequence[BackupFile],
    *,
    run: str,
    progress: Progress = no_progress,
) -> Rebuilt:
    """Make the state tables anew. Safe to repeat after an interruption.

    Args:
        database: The application's database, without state tables or with empty ones.
        config: The configuration that the migration had.
        store: The bucket.
        files: The backup files; see `restore.read_bucket_backups`.
        run: The id under which it is recorded.
        progress: Told after each object.

    Raises:
        GuardRefusedError: the state tables are there, and not empty.
        StoreError: the store cannot be asked.
        DatabaseError: the database went away.
    """
    if schema_exists(database):
        _refuse_unless_lost(database)
    ensure_schema(database)
    outcome = Rebuilt()
    rows = _objects(config, store, probe_store(database, store), outcome, progress)
    catalog, rewrites = _newest(files, BackupKind.PHOTOS), _newest(files, BackupKind.LEDGER)
    recipes = _recipes(catalog, rows)
    # One transaction: half a catalog would be taken for a whole one.
    with database.write() as connection:
        for start in range(0, len(rows), _ROWS_PER_INSERT):
            insert_or_update(connection, object_table, rows[start : start + _ROWS_PER_INSERT])
        insert_or_update(connection, recipe_table, recipes)
        outcome.photos = _insert_photos(connection, catalog)
        outcome.rewrites = _insert_rewrites(connection, rewrites)
        outcome.rolled_back_since = _settle(connection, database, config)
        outcome.batches = _insert_batches(connection)
        _advance_sequences(connection)
        outcome.objects, outcome.recipes = len(rows), len(recipes)
        audit.record(
            connection,
            action="rebuild",
            subject=f"{outcome.photos} photos, {outcome.rewrites} rewrites, {outcome.objects} objects",
            details={"files": [file.name for file in files]},
            run=run,
        )
    outcome.without_copy = _batches_without_copy(files)
    return outcome


def _refuse_unless_lost(database: Database) -> None:
    ensure_schema(database)
    with database.read() as connection:
        for table in (rewrite_table, batch_table):
            if connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one():
                raise GuardRefusedError(
                    "the state tables",
                    cause=f"{table.name} is there and has rows, so they are not lost",
                    fix="use `rollback`, or drop every pp_ table if they are beyond use",
                )


def _objects(
    config: PipelineConfig, store: PhotoStore, probe: StoreProbe, outcome: Rebuilt, progress: Progress
) -> list[dict[str, Any]]:
    """Ask the store about every object under our prefixes; return `pp_object` rows."""
    prefixes = (f"{config.store.prefix}/", f"{config.store.originals_prefix}/")
    keys = [key for prefix in prefixes for key, _ in store.list(prefix)]
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="rebuild") as pool:
        # A stranger's key may be one that we could not have made.
        found = pool.map(lambda key: (key, store.head(key) if is_usable_key(key) else None), keys)
        for done, (key, stored) in enumerate(found, start=1):
            row = _object_row(store, probe, stored) if stored else None
            if row is None:
                outcome.foreign.append(key)
            else:
                outcome.unproven += row["verified_at"] is None
                rows.append(row)
            progress("objects", done, len(keys))
    return rows


def _object_row(store: PhotoStore, probe: StoreProbe, stored: StoredObject) -> dict[str, Any] | None:
    """Return the object's row by its metadata, or None if it has none of ours."""
    facts = stored.metadata
    image_format = _format(stored.key, is_original=facts.get("variant") == "original")
    if not {"source-sha256", "sha256", "variant"} <= set(facts) or image_format is None:
        return None
    how = proven_by(store, probe, stored.key, facts["sha256"], size=stored.size)
    now = utc_now()
    return {
        "bucket": store.bucket,
        "key": stored.key,
        "source_sha256": facts["source-sha256"],
        "recipe": facts.get("recipe", ""),
        "variant": facts["variant"],
        "format": image_format,
        "mime": stored.content_type or "application/octet-stream",
        "bytes": stored.size,
        "width": _number(facts.get("width")),
        "height": _number(facts.get("height")),
        "quality": _number(facts.get("quality")),
        "checksum": facts["sha256"],
        "md5": None,
        "made_at": now,
        "uploaded_at": now,
        "verified_at": now if how else None,
        "verified_by": how or None,
    }


def _format(key: str, *, is_original: bool) -> str | None:
    extension = key.rpartition(".")[2]
    if is_original:
        formats = {each: name.lower() for name, (each, _) in ORIGINAL_TYPES.items()}
    else:
        formats = {each.extension: each.value for each in ImageFormat}
    return formats.get(extension)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _newest(files: Sequence[BackupFile], kind: BackupKind) -> list[BackupFile]:
    """Return the last copy of each batch and source."""
    newest: dict[tuple[str, str], BackupFile] = {}
    for file in sorted(files, key=lambda each: each.made_at):
        if file.kind is kind:
            newest[file.batch, file.source.name] = file
    return [newest[name] for name in sorted(newest)]


def _recipes(catalog: Sequence[BackupFile], objects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the recipes as the copies have them; the others by which variants there are of each."""
    now, found = utc_now(), dict[str, dict[str, Any]]()
    for row in objects:
        if row["recipe"]:
            seen = found.setdefault(row["recipe"], {"variants": [], "formats": []})
            seen["variants"] += [row["variant"]] if row["variant"] not in seen["variants"] else []
            seen["formats"] += [row["format"]] if row["format"] not in seen["formats"] else []
    for file in catalog:
        for recipe in file.facts.get("recipes", ()):
            found[recipe["digest"]] = {name: recipe[name] for name in ("variants", "formats", "definition")}
    return [
        {"digest": digest, "definition": {}, "first_used_at": now} | facts for digest, facts in found.items()
    ]


def _insert_photos(connection: Connection, catalog: Sequence[BackupFile]) -> int:
    rows = [_known(photo_table, row) for file in catalog for row in file.rows]
    for start in range(0, len(rows), _ROWS_PER_INSERT):
        insert_or_update(connection, photo_table, rows[start : start + _ROWS_PER_INSERT])
    return len(rows)


def _insert_rewrites(connection: Connection, copies: Sequence[BackupFile]) -> int:
    rows = [row for file in copies for row in file.rows]
    entries = [_known(rewrite_table, row) for row in rows]
    links = [
        {"rewrite_id": row["id"], "photo_id": photo_id}
        for row in rows
        if len(row["photos"] or ()) > 1
        for photo_id in row["photos"]
    ]
    for start in range(0, len(entries), _ROWS_PER_INSERT):
        insert_or_update(connection, rewrite_table, entries[start : start + _ROWS_PER_INSERT])
    if links:
        connection.execute(sa.insert(rewrite_photo_table), links)
    return len(entries)


def _known(table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with the columns that the table has now; a copy may be of an older version."""
    return {column.name: row.get(column.name) for column in table.columns}


def _settle(connection: Connection, database: Database, config: PipelineConfig) -> int:
    """Bring ledger and catalog up to what the rows show; return how many rewrites were taken back meanwhile.

    A copy is made after a rewrite and not after a rollback.
    """
    columns, back = rewrite_table.c, 0
    query = sa.select(rewrite_table).where(columns.outcome == RewriteOutcome.APPLIED).order_by(columns.id)
    for entry in connection.execute(query).all():
        if _was_taken_back(connection, database, config, entry):
            back += 1
            connection.execute(
                sa.update(rewrite_table)
                .where(columns.id == entry.id)
                .values(outcome=RewriteOutcome.ROLLED_BACK, reason="found so when the catalog was rebuilt")
            )
            photos = ledger.photos_of(connection, [entry])[entry.id]
            connection.execute(
                sa.update(photo_table)
                .where(photo_table.c.id.in_(photos), photo_table.c.state == PhotoState.MIGRATED)
                .values(state=PhotoState.ROLLED_BACK)
            )
    return back


def _was_taken_back(connection: Connection, database: Database, config: PipelineConfig, entry: Any) -> bool:
    """Return whether the cell holds what it held before this rewrite, or one that this one followed."""
    columns = rewrite_table.c
    address = RowAddress.of(database, config.source(entry.source), entry.row_key)
    if entry.column not in address.table.columns:
        return False  # The column was dropped since: a rollback says so.
    current = address.read(connection, [entry.column], lock=False)
    if current is None:
        return False
    chain = connection.execute(
        sa.select(rewrite_table)
        .where(columns.row_id == entry.row_id, columns.column == entry.column)
        .where(columns.outcome.in_([RewriteOutcome.APPLIED, RewriteOutcome.ROLLED_BACK]))
        .order_by(columns.id)
    ).all()
    if current[entry.column] == ledger.after_of(chain[-1]):
        return False
    return any(current[entry.column] == ledger.before_of(each) for each in chain if each.id <= entry.id)


def _insert_batches(connection: Connection) -> int:
    photo = photo_table.c
    counted: dict[str, dict[str, int]] = {}
    query = sa.select(photo.batch, photo.state, sa.func.count()).where(photo.batch.is_not(None))
    for batch, state, count in connection.execute(query.group_by(photo.batch, photo.state)):
        counted.setdefault(batch, {})[state] = count
    now = utc_now()
    rows = [
        {
            "key": batch,
            "state": _batch_state(states),
            "priority": int(batch.rpartition("-")[2]),
            "photos": sum(states.values()),
            "lease_token": 0,
            "created_at": now,
            "updated_at": now,
        }
        for batch, states in sorted(counted.items())
    ]
    insert_or_update(connection, batch_table, rows)
    return len(rows)


def _batch_state(states: Mapping[str, int]) -> BatchState:
    if any(states.get(each) for each in (PhotoState.PENDING, PhotoState.PROCESSED, PhotoState.UPLOADED)):
        return BatchState.PENDING
    only_back = states.get(PhotoState.ROLLED_BACK) and not states.get(PhotoState.MIGRATED)
    return BatchState.ROLLED_BACK if only_back else BatchState.COMPLETED


def _advance_sequences(connection: Connection) -> None:
    """Let new ids start after those that were inserted (PostgreSQL; SQLite does so by itself)."""
    if connection.dialect.name != "postgresql":
        return
    for table in (photo_table, rewrite_table):
        last = sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0) + 1).scalar_subquery()
        sequence = sa.func.pg_get_serial_sequence(table.name, "id")
        connection.execute(sa.select(sa.func.setval(sequence, last, sa.false())))


def _batches_without_copy(files: Sequence[BackupFile]) -> list[str]:
    """Return the batches that were about to be rewritten, and of whose last rewrites there is no copy."""
    newest: dict[BackupKind, dict[tuple[str, str | None], datetime]] = {kind: {} for kind in BackupKind}
    for file in sorted(files, key=lambda each: each.made_at):
        for source in (file.source.name, None):
            newest[file.kind][file.batch, source] = file.made_at
    found = set()
    for (batch, source), backed_up in newest[BackupKind.ROWS].items():
        # The catalog is copied last and for every source; of a source nothing may have been rewritten.
        kind = BackupKind.LEDGER if source is None else BackupKind.PHOTOS
        copied = newest[kind].get((batch, source))
        if copied is None or copied < backed_up:
            found.add(batch)
    return sorted(found)


def all_files(*places: Sequence[BackupFile]) -> Iterator[BackupFile]:
    """Yield each file once, wherever copies of it are."""
    seen: set[str] = set()
    for file in (each for place in places for each in place):
        name = file.name.rpartition("/")[2]
        if name not in seen:
            seen.add(name)
            yield file
