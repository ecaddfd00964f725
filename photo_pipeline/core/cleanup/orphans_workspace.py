"""A file of one clean-up run in which listing and references are compared: memory stays flat.

A nameless SQLite file in the folder for temporary files ($TMPDIR), with nothing in it that is worth keeping.
Rows are written in lists of some thousands; the questions are `orphans_compare`'s and `drift`'s.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

_ROWS_AT_ONCE = 5_000
# In KB: what SQLite may keep of the file in memory.
_CACHE_KB = 32_768

_TABLES = """
CREATE TABLE listed (
  key TEXT PRIMARY KEY, size INT, etag TEXT, stored_at REAL,
  kind TEXT, sha TEXT, recipe TEXT, file TEXT) WITHOUT ROWID;
-- A row of the application that is there, by its digest.
CREATE TABLE row (id TEXT PRIMARY KEY) WITHOUT ROWID;
-- A key of ours in a text; `row`: the mention counts while that row is there; empty: it counts.
CREATE TABLE mention (sha TEXT, recipe TEXT, file TEXT, row TEXT,
  PRIMARY KEY (sha, recipe, file, row)) WITHOUT ROWID;
-- A photo and one of the recipes whose objects it holds on to; `file`: the end of its original's key.
CREATE TABLE photo (id INT, recipe TEXT, sha TEXT, file TEXT, row TEXT, superseded INT,
  PRIMARY KEY (id, recipe)) WITHOUT ROWID;
CREATE TABLE rewritten (photo INT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE known (
  key TEXT PRIMARY KEY, sha TEXT, bytes INT, checksum TEXT, etag TEXT, proven INT, marked INT) WITHOUT ROWID;
CREATE TABLE recipe (digest TEXT, file TEXT, PRIMARY KEY (digest, file)) WITHOUT ROWID;
-- Last parts of strange keys: those that texts are searched for, and those that were found in one.
CREATE TABLE searched (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE name (name TEXT PRIMARY KEY) WITHOUT ROWID;
-- A key of ours in a cell of a mapped column.
CREATE TABLE cell (key TEXT, source TEXT, row_key TEXT, "column" TEXT,
  PRIMARY KEY (key, source, row_key, "column")) WITHOUT ROWID;
-- What the above amounts to.
CREATE TABLE reference (sha TEXT, recipe TEXT, PRIMARY KEY (sha, recipe)) WITHOUT ROWID;
CREATE TABLE mentioned (sha TEXT, recipe TEXT, file TEXT, PRIMARY KEY (sha, recipe, file)) WITHOUT ROWID;
CREATE TABLE original (sha TEXT, file TEXT, PRIMARY KEY (sha, file)) WITHOUT ROWID;
-- Who holds on: photos whose row is there (or whose source nobody knows any more), except those whose row
-- says something else by now and that were never rewritten.
CREATE VIEW live_photo AS SELECT p.* FROM photo AS p
  WHERE (p.row = '' OR EXISTS (SELECT 1 FROM row WHERE row.id = p.row))
  AND (NOT p.superseded OR EXISTS (SELECT 1 FROM rewritten WHERE rewritten.photo = p.id));
CREATE VIEW live_mention AS SELECT m.* FROM mention AS m
  WHERE m.row = '' OR EXISTS (SELECT 1 FROM row WHERE row.id = m.row);
CREATE TABLE orphan (key TEXT PRIMARY KEY, reason TEXT, size INT, etag TEXT, stored_at REAL) WITHOUT ROWID;
"""
# Filled row by row; the other tables are filled from these.
_INSERT = {
    "listed": "INSERT OR IGNORE INTO listed VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "row": "INSERT OR IGNORE INTO row VALUES (?)",
    "mention": "INSERT OR IGNORE INTO mention VALUES (?, ?, ?, ?)",
    "photo": "INSERT OR IGNORE INTO photo VALUES (?, ?, ?, ?, ?, ?)",
    "rewritten": "INSERT OR IGNORE INTO rewritten VALUES (?)",
    "known": "INSERT OR IGNORE INTO known VALUES (?, ?, ?, ?, ?, ?, ?)",
    "recipe": "INSERT OR IGNORE INTO recipe VALUES (?, ?)",
    "searched": "INSERT OR IGNORE INTO searched VALUES (?)",
    "name": "INSERT OR IGNORE INTO name VALUES (?)",
    "cell": "INSERT OR IGNORE INTO cell VALUES (?, ?, ?, ?)",
}
# What the references amount to; the listing stays.
_FORGET = """
DELETE FROM row; DELETE FROM mention; DELETE FROM photo; DELETE FROM rewritten; DELETE FROM known;
DELETE FROM recipe; DELETE FROM searched; DELETE FROM name; DELETE FROM cell;
DELETE FROM reference; DELETE FROM mentioned; DELETE FROM original; DELETE FROM orphan;
"""


class Workspace:
    """The file; use it as a context manager, which removes it. One thread at a time."""

    def __init__(self) -> None:
        # Without a name, it is a file that no folder lists: gone with the process, however that ends.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        # Nothing here has to survive a crash.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KB}"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(_TABLES)
        self._waiting: dict[str, list[Sequence[Any]]] = defaultdict(list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def add(self, table: str, *values: Any) -> None:
        """Add a row to one of the tables, unless its key is there; it is written with the next `flush`."""
        waiting = self._waiting[table]
        waiting.append(values)
        if len(waiting) >= _ROWS_AT_ONCE:
            self._write(table)

    def flush(self) -> None:
        """Write every row that waits."""
        for table in list(self._waiting):
            self._write(table)

    def _write(self, table: str) -> None:
        rows = self._waiting.pop(table, [])
        if rows:
            self._connection.execute("BEGIN")
            self._connection.executemany(_INSERT[table], rows)
            self._connection.execute("COMMIT")

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement of this package; nothing from outside is ever part of its text."""
        self._connection.execute(statement, parameters)

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> Iterator[Any]:
        """Yield the rows of a query, as they come."""
        yield from self._connection.execute(query, parameters)

    def number(self, query: str, parameters: Sequence[Any] = ()) -> int:
        """Return the one number that the query asks for; 0 for a NULL."""
        (value,) = self._connection.execute(query, parameters).fetchone()
        return int(value or 0)

    def forget_references(self) -> None:
        """Empty everything but the listing, for another look at what refers to it."""
        self._waiting.clear()
        self._connection.executescript(_FORGET)
