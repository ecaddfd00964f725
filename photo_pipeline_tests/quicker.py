"""What every test would pay for again and again, paid once in each worker of the test session.

Nothing of this stands between a test and the real thing: the state tables are those that the real migrations
made a moment ago in this very process, and the disk is the disk, only nobody waits for its platters.
"""

import inspect
import os
import re
import socketserver
from functools import cache
from types import SimpleNamespace
from typing import Any

import alembic.command
import botocore.hooks
import botocore.loaders
import botocore.session
import pebble
import pytest
import sqlalchemy as sa
from alembic.config import Config
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from photo_pipeline.core.catalog import schema
from photo_pipeline.core.delivery import cdn

_READS = re.compile(r"\s*(SELECT|PRAGMA|WITH|SHOW)\b", re.IGNORECASE)
_STATE_TABLES = "pp_"


class RecordedMigrations:
    """Makes new state tables with the statements that the first upgrade of an empty database sent.

    An upgrade takes 0.1 s of CPU on SQLite and 0.3 s on PostgreSQL, nearly all of it Alembic's and
    SQLAlchemy's own; its statements alone take a tenth of that. Databases that have state tables already are
    upgraded by Alembic itself.
    """

    def __init__(self) -> None:
        self._statements: dict[str, list[tuple[str, Any]]] = {}

    def upgrade(self, config: Config, revision: str) -> None:
        """Stand in for `alembic.command.upgrade`."""
        connection: sa.Connection = config.attributes["connection"]
        if revision != "head" or _has_state_tables(connection):
            alembic.command.upgrade(config, revision)
            return
        dialect = connection.dialect.name
        if dialect not in self._statements:
            self._statements[dialect] = _recorded(connection, config)
            return
        for statement, parameters in self._statements[dialect]:
            connection.exec_driver_sql(statement, parameters or None)


def _has_state_tables(connection: sa.Connection) -> bool:
    return any(name.startswith(_STATE_TABLES) for name in sa.inspect(connection).get_table_names())


def _recorded(connection: sa.Connection, config: Config) -> list[tuple[str, Any]]:
    statements: list[tuple[str, Any]] = []

    def note(
        _connection: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool
    ) -> None:
        assert not many, "a migration that writes many rows at once is not recorded"
        if not _READS.match(statement):
            statements.append((statement, parameters))

    sa.event.listen(connection, "before_cursor_execute", note)
    try:
        alembic.command.upgrade(config, "head")
    finally:
        sa.event.remove(connection, "before_cursor_execute", note)
    return statements


def record_migrations(patch: pytest.MonkeyPatch) -> None:
    """Let `ensure_schema` make new state tables from a record of the first ones."""
    patch.setattr(schema, "command", SimpleNamespace(upgrade=RecordedMigrations().upgrade))


def real_migrations(patch: pytest.MonkeyPatch) -> None:
    """Let `ensure_schema` run Alembic each time, for tests of the migrations themselves."""
    patch.setattr(schema, "command", alembic.command)


def wait_for_no_disk(patch: pytest.MonkeyPatch) -> None:
    """Leave writes to the operating system: no test cuts the power, and what it would lose is tested by note.

    The death of a process loses nothing by it (`faults.steps` notes what was not synced, and takes that away
    itself), while each commit and each file waited 4 ms and more for a busy disk.
    """

    def checked(handle: int) -> None:
        os.fstat(handle)

    patch.setattr(os, "fsync", checked)
    sa.event.listen(sa.Engine, "connect", _leave_it_to_the_system)


def _leave_it_to_the_system(connection: Any, _record: object) -> None:
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA synchronous = OFF")


def share_compiled_statements(patch: pytest.MonkeyPatch) -> None:
    """Let all engines of a dialect share one cache of compiled statements, where each test opens dozens.

    Compiling took a seventh of a test with a database. What is compiled depends on the dialect, which has one
    version here, and on the statement with its very tables, which the cache's keys hold.
    """
    compiled: LRUCache[Any, Any] = LRUCache(3000)
    make = sa.Engine.__init__

    def make_with_shared_cache(engine: sa.Engine, *arguments: Any, **options: Any) -> None:
        make(engine, *arguments, **options)
        engine._compiled_cache = compiled

    patch.setattr(sa.Engine, "__init__", make_with_shared_cache)
    for dialect in (PGDialect_psycopg, SQLiteDialect_pysqlite):
        patch.setattr(dialect, "__eq__", lambda one, other: type(one) is type(other))
        patch.setattr(dialect, "__hash__", lambda one: hash(type(one)))


class _Paths(list[str]):
    """Each new session of boto3 appends its folder once more."""

    def append(self, path: str) -> None:
        if path not in self:
            super().append(path)


def share_service_models(patch: pytest.MonkeyPatch) -> None:
    """Let all sessions of botocore read the models of the services once: S3's takes 0.08 s for each session.

    Clients of one session share them as well.
    """

    @cache
    def loader(data_path: str | None = None) -> botocore.loaders.Loader:
        made = botocore.loaders.create_loader(data_path)
        made._search_paths = _Paths(made.search_paths)
        return made

    patch.setattr(botocore.session, "create_loader", loader)


def look_at_pools_often(patch: pytest.MonkeyPatch) -> None:
    """Let pools of image workers notice their own end sooner; every migration waited 0.1 s for it."""
    patch.setattr(pebble.CONSTS, "sleep_unit", 0.02)


def end_servers_at_once(patch: pytest.MonkeyPatch) -> None:
    """Let servers in threads of the tests (proxies, stubs, receivers) notice sooner that they are to end.

    They look every 0.5 s, and most tests that have one have it for themselves.
    """
    serve = socketserver.BaseServer.serve_forever

    def serve_forever(server: socketserver.BaseServer, poll_interval: float = 0.5) -> None:
        serve(server, min(poll_interval, 0.01))

    patch.setattr(socketserver.BaseServer, "serve_forever", serve_forever)


def ask_the_cdn_again_at_once(patch: pytest.MonkeyPatch) -> None:
    """Let a CDN that does not answer be asked as often as ever, without the waits in between (1.5 s)."""
    patch.setattr(cdn, "_RETRIES", cdn._RETRIES.new(backoff_factor=0.01))


def remember_event_names(patch: pytest.MonkeyPatch) -> None:
    """Let botocore work out the names of its events, and what its handlers take, once.

    Each new session and client does it 130 times, for the same names and functions.
    """
    names: dict[str, str] = {}
    work_out = botocore.hooks.EventAliaser._alias_event_name

    def remembered(aliaser: botocore.hooks.EventAliaser, name: str) -> str:
        if name not in names:
            names[name] = work_out(aliaser, name)
        return names[name]

    def accepts_keywords(handler: Any) -> Any:
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        return inspect.getfullargspec(handler)[2] if code is None else code.co_flags & inspect.CO_VARKEYWORDS

    patch.setattr(botocore.hooks.EventAliaser, "_alias_event_name", remembered)
    patch.setattr(botocore.hooks, "accepts_kwargs", accepts_keywords)
