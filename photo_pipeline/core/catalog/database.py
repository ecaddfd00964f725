"""Opens the application's database and hands out read and write transactions.

Knows the differences between SQLite and PostgreSQL that matter for safe transactions; knows nothing of
photos. Every SQLAlchemy engine of the project is made here.
"""

import random
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchTableError, OperationalError
from sqlalchemy.types import NullType

from photo_pipeline.core.catalog.column_types import DECLARED
from photo_pipeline.core.catalog.faults import Fault, fault_of, first_error, fix_for, one_line
from photo_pipeline.core.errors import ConfigurationError, DatabaseBusyError, DatabaseError

# SQLite waiters need more than 30 s under disk pressure (facts/backends.md, section 2).
_BUSY_TIMEOUT_MS = 60_000
_CONNECT_TIMEOUT_S = 10
# A row that the application keeps locked must cost that row, and not freeze the chunk and everyone behind it.
ROW_LOCK_TIMEOUT_S = 5
_POSTGRES_TEXT_FORMS = (
    "TimeZone = 'UTC'",
    "DateStyle = 'ISO'",
    "IntervalStyle = 'postgres'",
    "extra_float_digits = 1",
    "bytea_output = 'hex'",
)
_WRITE = "photo_pipeline_write"
# Execution option of connections that may change temporary tables only.
WRITES_NOTHING = "photo_pipeline_writes_nothing"
# A deadlock's victim tries again; after so many the other side is not going to give way.
_ATTEMPTS = 6
_FIRST_PAUSE_S = 0.05
# SQLite before 3.32 takes 999 parameters per statement.
_KEYS_PER_QUERY = 500

Result = TypeVar("Result")


class UndecodableText(bytes):
    """A text value of SQLite that is not valid UTF-8, as its bytes; SQLite stores any bytes as text."""


class Database:
    """The application's database; also holds the state tables. Safe to use from several threads."""

    def __init__(self, engine: Engine, *, name: str) -> None:
        self.engine = engine
        self.name = name
        self._tables: dict[tuple[str | None, str], sa.Table] = {}

    @classmethod
    def open(
        cls, url: str, *, name: str = "the application's database", read_only: bool = False
    ) -> "Database":
        """Connect to `url` and check that it answers.

        Args:
            url: A SQLAlchemy URL; `postgres://` and `postgresql://` mean psycopg 3.
            name: How messages call it (the URL holds a password and is never shown).
            read_only: Let the database itself refuse every write to a table that is not temporary.

        Raises:
            ConfigurationError: the URL is malformed, or the credentials are refused.
            DatabaseError: it does not answer, or the SQLite file does not exist.
        """
        parsed = _parsed(url, name)
        if parsed.get_backend_name() == "sqlite":
            _require_sqlite_file(parsed, name)
        database = cls(_engine(parsed, read_only=read_only), name=name)
        try:
            with database.engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
        except DBAPIError as error:
            database.close()
            raise _connection_error(error, parsed, name) from error
        return database

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection in a transaction that writes nothing; it is rolled back at the end.

        Raises:
            DatabaseError: the database went away, is full or is locked.
        """
        with self._explained(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, lock_timeout_s: int | None = None) -> Iterator[Connection]:
        """Give a connection in a write transaction: committed at the end, rolled back on an exception.

        Args:
            lock_timeout_s: How long a statement waits for a lock on PostgreSQL; None: as long as it takes.

        Raises:
            DatabaseError: the database went away, is full or is locked; the transaction was undone.
        """
        with (
            self._explained(),
            self.engine.connect().execution_options(**{_WRITE: True}) as connection,
            connection.begin(),
        ):
            if lock_timeout_s is not None and connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{lock_timeout_s}s'")
            yield connection

    def transact(self, work: Callable[[Connection], Result], *, lock_timeout_s: int | None = None) -> Result:
        """Run `work` in a write transaction, and all of it again if another transaction got in its way.

        Args:
            work: Called with the connection; must leave nothing behind outside the database when it fails.
            lock_timeout_s: As for `write`.

        Raises:
            DatabaseError: as for `write`; DatabaseBusyError if several attempts met other transactions.
        """
        for attempt in range(1, _ATTEMPTS):
            try:
                with self.write(lock_timeout_s=lock_timeout_s) as connection:
                    return work(connection)
            except DatabaseBusyError:
                # Random, or two victims of each other would meet again.
                time.sleep(random.uniform(0.5, 1) * _FIRST_PAUSE_S * 2**attempt)
        with self.write(lock_timeout_s=lock_timeout_s) as connection:
            return work(connection)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            first = first_error(error)
            if fault_of(first) is Fault.AGAIN:
                raise DatabaseBusyError(
                    self.name,
                    cause=f"other transactions got in the way again and again ({one_line(first)})",
                    fix="run again when the application is less busy: what is committed is kept",
                ) from error
            raise DatabaseError(
                self.name,
                cause=f"it failed in the middle of the work ({one_line(first)})",
                fix=fix_for(first),
            ) from error

    def table(self, name: str, schema: str | None = None) -> sa.Table:
        """Return the application table `name`, reflected (and cached) from the database.

        Raises:
            ConfigurationError: there is no such table.
            DatabaseError: the database went away.
        """
        key = (schema, name)
        if key not in self._tables:
            self._tables[key] = self._reflect(name, schema)
        return self._tables[key]

    def _reflect(self, name: str, schema: str | None) -> sa.Table:
        # In a connection of ours, so that a database that goes away just now is told as everywhere else.
        with self.read() as connection:
            try:
                table = sa.Table(
                    name, sa.MetaData(), schema=schema, autoload_with=connection, resolve_fks=False
                )
            except (NoSuchTableError, OperationalError) as error:
                if isinstance(error, OperationalError) and "unknown database" not in str(error.orig):
                    raise
                raise ConfigurationError(
                    f"table {name!r}" + (f" in schema {schema!r}" if schema else ""),
                    cause=f"{self.name} has no such table",
                    fix="correct `table` (and `schema`) in the source mapping",
                ) from error
        if self.is_sqlite:
            # Without a type there is no conversion: SQLite values come and go exactly as they are stored.
            for column in table.columns:
                column.info[DECLARED] = column.type
                column.type = NullType()
        return table

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _parsed(url: str, name: str) -> URL:
    try:
        parsed = make_url(
            url.replace("postgres://", "postgresql://", 1) if url[:11] == "postgres://" else url
        )
        parsed.get_dialect()
    except (ArgumentError, ImportError, ValueError):
        _refuse_stray_at(url, name)
        # Without its cause, which may quote a part of the URL, and that may be a part of the password.
        raise ConfigurationError(
            name,
            cause="its URL is not a database URL that can be used here",
            fix="write postgresql://user:password@host/name or sqlite:////absolute/path.db",
        ) from None
    if parsed.get_backend_name() != "sqlite":
        _refuse_stray_at(url, name, parsed.host or "", parsed.database or "")
    return parsed


def _refuse_stray_at(url: str, name: str, *shown: str) -> None:
    """Refuse a URL in which a part of the password would be taken for the host or the name (and be shown)."""
    before_query = url.partition("://")[2].partition("?")[0]
    if before_query.count("@") > 1 or any("@" in part for part in shown):
        raise ConfigurationError(
            name,
            cause="its URL has an @ that belongs to no part of it",
            fix="percent-encode @ in the password (as %40)",
        ) from None


def _require_sqlite_file(url: URL, name: str) -> None:
    # SQLite would silently create an empty database at a mistyped path.
    if not url.database or url.database == ":memory:":
        raise ConfigurationError(name, cause="an in-memory SQLite database cannot be shared by processes")
    if not Path(url.database).is_file():
        raise DatabaseError(
            name, cause=f"there is no SQLite file at {url.database}", fix="check the path in its URL"
        )


def _engine(url: URL, *, read_only: bool) -> Engine:
    if url.get_backend_name() == "sqlite":
        if read_only:
            uri = f"file:{quote(str(url.database))}"
            url = url.set(database=uri).update_query_dict({"mode": "ro", "uri": "true"})
        engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    options = {"connect_timeout": _CONNECT_TIMEOUT_S} if url.get_backend_name() == "postgresql" else {}
    engine = sa.create_engine(url, pool_pre_ping=True, connect_args=options)
    if url.get_backend_name() == "postgresql":
        event.listen(engine, "connect", _prepare_postgres)
        if read_only:
            event.listen(engine, "connect", _refuse_postgres_writes)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's BEGIN below is the only one.
    connection.text_factory = _sqlite_text
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA schema_version")  # The first look into the file: is it a database at all?


def _sqlite_text(stored: bytes) -> str | UndecodableText:
    # One such value, say a Latin-1 file name, must not make the whole table unreadable.
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return UndecodableText(stored)


def _prepare_postgres(connection: Any, _record: Any) -> None:
    # As pg_dump does: the text form of a value must be the same in every session, or a rollback under
    # other settings of the server would take its own values for edited ones.
    with connection.cursor() as cursor:
        for setting in _POSTGRES_TEXT_FORMS:
            cursor.execute(f"SET {setting}")
    connection.commit()


def _refuse_postgres_writes(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    connection.commit()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred BEGIN that later writes fails at once under concurrent writers, whatever the timeout:
    # 1,070 of 2,000 transactions against 0 of 2,000 with IMMEDIATE (facts/backends.md, section 2).
    writes = connection.get_execution_options().get(_WRITE, False)
    if writes:
        # Kept in the file's header, so only a writer may ask for it; no cost once it is set.
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        except OperationalError as error:
            # The first change of a file that others are writing does not wait for them: the next one sets it.
            if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
                raise
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _connection_error(error: DBAPIError, url: URL, name: str) -> ConfigurationError | DatabaseError:
    text = " ".join(str(error.orig).split())
    place = f"{url.host or 'localhost'}:{url.port or 5432}" if url.host else (url.database or "")
    if any(sign in text for sign in ("password authentication", "does not exist", "no password supplied")):
        return ConfigurationError(
            name, cause=f"the server at {place} refuses the login ({text})", fix="correct the URL"
        )
    if not isinstance(error, OperationalError):
        return DatabaseError(name, cause=f"{place} cannot be used ({text})", fix="check the file or server")
    return DatabaseError(
        name,
        cause=f"it does not answer at {place} ({text})",
        fix="start it or correct its URL, then run again",
    )


def rows_by_key(
    connection: Connection,
    table: sa.Table,
    bucket: str,
    keys: Iterable[str],
    *,
    columns: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the rows that those object keys have in the table, by key; a key without a row is left out.

    Args:
        connection: In any transaction.
        table: A state table whose primary key is bucket and key.
        bucket: The bucket.
        keys: Any number; they are asked for in chunks.
        columns: Which ones besides the key, where some do: each takes 2 us a row; None: all.
    """
    shown = table.c if columns is None else [table.c[name] for name in ("key", *columns)]
    wanted = list(dict.fromkeys(keys))
    rows: dict[str, Any] = {}
    for start in range(0, len(wanted), _KEYS_PER_QUERY):
        chunk = wanted[start : start + _KEYS_PER_QUERY]
        query = sa.select(*shown).where(table.c.bucket == bucket, table.c.key.in_(chunk))
        rows |= {row.key: row for row in connection.execute(query)}
    return rows


def insert_or_update(
    connection: Connection,
    table: sa.Table,
    rows: list[dict[str, Any]],
    *,
    only_if: Any = None,
    add: Collection[str] = (),
) -> None:
    """Insert the rows; where the primary key is there already (also by another run), update it.

    Args:
        connection: In a write transaction.
        table: A state table.
        rows: All with the same columns.
        only_if: Condition on the present row for updating it.
        add: Columns whose value is added to the present one instead of taking its place.
    """
    if not rows:
        return
    of = (connection.dialect.name, table, tuple(rows[0]), tuple(add))
    statement = _usual_upsert(*of) if only_if is None else _upsert(*of, only_if)
    connection.execute(statement, rows)


# Spelling it takes longer than sending it, and the same ones are sent again and again.
@lru_cache(maxsize=64)
def _usual_upsert(
    dialect: str, table: sa.Table, columns: tuple[str, ...], add: tuple[str, ...]
) -> sa.Executable:
    return _upsert(dialect, table, columns, add, None)


def _upsert(
    dialect: str, table: sa.Table, columns: tuple[str, ...], add: tuple[str, ...], only_if: Any
) -> sa.Executable:
    insert: Any
    if dialect == "sqlite":
        insert = sqlite.insert(table)
    else:
        from sqlalchemy.dialects import postgresql  # all its drivers: 0.1 s

        insert = postgresql.insert(table)
    keys = [column.name for column in table.primary_key]
    updates = {
        name: table.c[name] + insert.excluded[name] if name in add else insert.excluded[name]
        for name in columns
        if name not in keys
    }
    statement: sa.Executable = insert.on_conflict_do_update(index_elements=keys, set_=updates, where=only_if)
    return statement
