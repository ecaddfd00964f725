"""Everything that refers to an object, read in one snapshot of the database into the workspace.

The application's cells (of every table, unless the configuration says otherwise), the catalog's photos, and
the ledger's values. In one transaction, since a URL that the application moves from one row to another must
not be missed in both. What counts in the end is `orphans_compare`'s to say.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from photo_pipeline.core.catalog import raw
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.rows import row_id
from photo_pipeline.core.catalog.tables import (
    STATE_TABLES,
    PhotoState,
    object_table,
    photo_table,
    recipe_table,
    rewrite_photo_table,
    rewrite_table,
)
from photo_pipeline.core.cleanup.cell_texts import PAGE, as_text, streamed, text_columns, text_expression
from photo_pipeline.core.cleanup.orphans_keys import (
    ANY,
    Mention,
    is_plain_name,
    mentions,
    names,
    stands_after,
)
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.migration.naming import ORIGINAL_TYPES, ObjectNaming
from photo_pipeline.core.migration.photos import Photo
from photo_pipeline.core.sources.mapping import Source

# More strange names than this are not looked for one by one: then they count as referred to.
MOST_NAMES = 10_000
_SETTLED = (PhotoState.MIGRATED, PhotoState.STORED)


class References:
    """Reads the snapshot.

    Args:
        database: The application's database.
        config: Its mapping, and where to look.
        workspace: Receives what is found.
        tick: Called every few thousand rows.
    """

    def __init__(
        self, database: Database, config: PipelineConfig, workspace: Workspace, tick: Callable[[], None]
    ) -> None:
        self._database = database
        self._config = config
        self._workspace = workspace
        self._tick = tick
        self._names: frozenset[str] = frozenset()
        self._rows_since_tick = 0
        self.rows = 0
        """Rows of the sources' tables that were read."""

    def gather(self) -> None:
        """Fill the workspace.

        Raises:
            GuardRefusedError: a table cannot be read, so that nobody knows what it refers to.
            ConfigurationError: the mapping does not fit the database.
            DatabaseError: the database went away.
        """
        self._names = self._strange_names()
        with _snapshot(self._database) as connection:
            for table, sources in self._tables(connection):
                self._read_table(connection, table, sources)
            self._read_ledger(connection)
            self._read_photos(connection)
            self._read_objects(connection)
        self._workspace.flush()

    def _strange_names(self) -> frozenset[str]:
        """Return the last parts of strange keys, as far as texts can be searched for them."""
        query = "SELECT DISTINCT file FROM listed WHERE kind = 'foreign' LIMIT ?"
        found = [name for (name,) in self._workspace.rows(query, (MOST_NAMES + 1,))]
        if len(found) > MOST_NAMES:
            found = []
        plain = frozenset(name for name in found if is_plain_name(name))
        for name in plain:
            self._workspace.add("searched", name)
        return plain

    # --- the application

    def _tables(self, connection: Connection) -> Iterator[tuple[sa.Table, list[Source]]]:
        mapped: dict[tuple[str | None, str], list[Source]] = {}
        for source in self._config.sources:
            mapped.setdefault((source.schema_name, source.table), []).append(source)
        for (schema, name), sources in mapped.items():
            yield self._database.table(name, schema), sources
        if self._config.orphans.references == "mapped":
            return
        default = connection.dialect.default_schema_name
        named = {(schema or default, name) for schema, name in mapped}
        inspector = sa.inspect(connection)
        for schema in _schemas(inspector, is_sqlite=self._database.is_sqlite):
            for name in inspector.get_table_names(schema=schema):
                if (schema or default, name) not in named and not self._is_left_out(schema, name, default):
                    yield self._reflected(schema, name), []

    def _is_left_out(self, schema: str | None, name: str, default: str | None) -> bool:
        if name in STATE_TABLES and schema in (None, default):
            return True
        return bool({name, f"{schema}.{name}"}.intersection(self._config.orphans.skip_tables))

    def _reflected(self, schema: str | None, name: str) -> sa.Table:
        try:
            return self._database.table(name, schema)
        except (SQLAlchemyError, ConfigurationError) as error:
            raise _unreadable(name, error) from error

    def _read_table(self, connection: Connection, table: sa.Table, sources: Sequence[Source]) -> None:
        columns = text_columns(self._database, table)
        keys = list(dict.fromkeys(name for source in sources for name in source.key))
        expressions: list[ColumnElement[Any]] = [text_expression(self._database, each) for each in columns]
        expressions += [
            raw.read_expression(table.columns[name], is_sqlite=self._database.is_sqlite).label(f"key_{i}")
            for i, name in enumerate(keys)
        ]
        if not expressions:
            return
        try:
            for row in streamed(connection, sa.select(*expressions).select_from(table)):
                cells = dict(zip((c.name for c in columns), row, strict=False))
                key_values = dict(zip(keys, row[len(columns) :], strict=True))
                self._read_row(cells, key_values, sources)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            raise _unreadable(table.name, error) from error

    def _read_row(self, cells: Mapping[str, Any], keys: Mapping[str, Any], sources: Sequence[Source]) -> None:
        self._count()
        row_keys = {}
        for source in sources:
            row_keys[source.name] = raw.encode_key([keys[name] for name in source.key])
            self._workspace.add("row", row_id(source.name, row_keys[source.name]))
            self.rows += 1
        for column, value in cells.items():
            text = as_text(value)
            if text is None:
                continue
            for found in mentions(text):
                self._workspace.add("mention", found.sha256, found.recipe, found.file, "")
                if found.file != ANY:
                    self._note_cell(found, text, column, row_keys, sources)
            if self._names:
                for name in names(text):
                    if name in self._names:
                        self._workspace.add("name", name)

    def _note_cell(
        self, found: Mention, text: str, column: str, row_keys: Mapping[str, str], sources: Sequence[Source]
    ) -> None:
        """Remember which cell of a mapped column shows which key under the present prefix."""
        folder = f"{self._config.store.prefix}/{found.sha256[:2]}/"
        for source in sources:
            if column in source.read_columns and stands_after(text, found.at, folder):
                key = f"{folder}{found.sha256}/{found.recipe}/{found.file}"
                self._workspace.add("cell", key, source.name, row_keys[source.name], column)

    def _count(self) -> None:
        self._rows_since_tick += 1
        if self._rows_since_tick >= PAGE:
            self._rows_since_tick = 0
            self._tick()

    # --- the pipeline's own tables

    def _read_ledger(self, connection: Connection) -> None:
        """What a rollback may write back, or compare with; it counts while the row is there."""
        columns = rewrite_table.c
        declared = {source.name for source in self._config.sources}
        query = sa.select(columns.source, columns.row_id, columns.photo_id, columns.before, columns.after)
        for source, row, photo, before, after in streamed(connection, query):
            self._count()
            holder = row if source in declared else ""
            for text in (before, after):
                for found in mentions(text or ""):
                    self._workspace.add("mention", found.sha256, found.recipe, found.file, holder)
            if photo is not None:
                self._workspace.add("rewritten", photo)
        for (photo,) in streamed(connection, sa.select(rewrite_photo_table.c.photo_id)):
            self._workspace.add("rewritten", photo)

    def _read_photos(self, connection: Connection) -> None:
        naming = ObjectNaming(self._config, self._database, keep_recipes=False)
        declared = {source.name for source in self._config.sources}
        columns = photo_table.c
        query = sa.select(*(columns[name] for name in Photo.__dataclass_fields__)).where(
            columns.sha256.is_not(None)
        )
        for values in streamed(connection, query):
            self._count()
            photo = Photo(*values)
            row = photo.row_id if photo.source in declared and photo.row_id else ""
            superseded = photo.state == PhotoState.SUPERSEDED
            original = _original_file(photo)
            for recipe in _recipes(photo, naming):
                self._workspace.add("photo", photo.id, recipe, photo.sha256, original, row, superseded)

    def _read_objects(self, connection: Connection) -> None:
        columns = object_table.c
        query = sa.select(object_table).where(columns.bucket == self._config.store.bucket)
        for each in streamed(connection, query):
            self._count()
            proven = each.verified_at is not None and each.deleted_at is None
            self._workspace.add(
                "known",
                each.key,
                each.source_sha256,
                each.bytes,
                each.checksum,
                each.etag,
                proven,
                each.marked_at is not None,
            )
        for recipe in connection.execute(sa.select(recipe_table)).all():
            for variant in recipe.variants:
                for each in recipe.formats:
                    self._workspace.add("recipe", recipe.digest, f"{variant}.{ImageFormat(each).extension}")


def _recipes(photo: Photo, naming: ObjectNaming) -> Sequence[str]:
    """Return the recipes whose objects the photo holds on to."""
    if photo.state not in _SETTLED or photo.recipe is None:
        return (ANY,)
    try:
        return (photo.recipe, naming.recipe_digest(photo))
    except (ConfigurationError, KeyError):
        return (ANY,)  # its source or preset is not declared any more: in doubt, all of them


def _original_file(photo: Photo) -> str:
    """Return what the key of the photo's original ends with."""
    known = ORIGINAL_TYPES.get(photo.format)
    return f".{known[0]}" if known else ANY


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection]:
    """Give a connection that sees the database as it is at one moment."""
    with database.read() as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection


def _schemas(inspector: Any, *, is_sqlite: bool) -> list[str | None]:
    if is_sqlite:
        return [None]
    found: list[str | None] = [
        name
        for name in inspector.get_schema_names()
        if name != "information_schema" and not name.startswith("pg_")
    ]
    return found


def _unreadable(table: str, error: Exception) -> GuardRefusedError:
    cause = " ".join(str(getattr(error, "orig", None) or error).split())
    return GuardRefusedError(
        f"table {table!r}",
        cause=f"it cannot be read ({cause}), so that nobody knows which objects it refers to",
        fix="let the user of the database URL read it, or name it under orphans.skip_tables",
    )
