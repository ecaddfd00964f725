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
# Filled row by row, and sorted in when all is there: a million keys that are put into their places one by one
# take ten times as long. The other tables are filled from these.
_ARRIVALS = """
CREATE TABLE new_listed AS SELECT * FROM listed;
CREATE TABLE new_row AS SELECT * FROM row;
CREATE TABLE new_mention AS SELECT * FROM mention;
CREATE TABLE new_photo AS SELECT * FROM photo;
CREATE TABLE new_rewritten AS SELECT * FROM rewritten;
CREATE TABLE new_known AS SELECT * FROM known;
CREATE TABLE new_recipe AS SELECT * FROM recipe;
CREATE TABLE new_searched AS SELECT * FROM searched;
CREATE TABLE new_name AS SELECT * FROM name;
CREATE TABLE new_cell AS SELECT * FROM cell;
"""
_INSERT = {
    "listed": "INSERT INTO new_listed VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "row": "INSERT INTO new_row VALUES (?)",
    "mention": "INSERT INTO new_mention VALUES (?, ?, ?, ?)",
    "photo": "INSERT INTO new_photo VALUES (?, ?, ?, ?, ?, ?)",
    "rewritten": "INSERT INTO new_rewritten VALUES (?)",
    "known": "INSERT INTO new_known VALUES (?, ?, ?, ?, ?, ?, ?)",
    "recipe": "INSERT INTO new_recipe VALUES (?, ?)",
    "searched": "INSERT INTO new_searched VALUES (?)",
    "name": "INSERT INTO new_name VALUES (?)",
    "cell": "INSERT INTO new_cell VALUES (?, ?, ?, ?)",
}
_SORT_IN = {
    "listed": "INSERT OR IGNORE INTO listed SELECT * FROM new_listed ORDER BY key",
    "row": "INSERT OR IGNORE INTO row SELECT * FROM new_row ORDER BY id",
    "mention": "INSERT OR IGNORE INTO mention SELECT * FROM new_mention ORDER BY sha, recipe, file, row",
    "photo": "INSERT OR IGNORE INTO photo SELECT * FROM new_photo ORDER BY id, recipe",
    "rewritten": "INSERT OR IGNORE INTO rewritten SELECT * FROM new_rewritten ORDER BY photo",
    "known": "INSERT OR IGNORE INTO known SELECT * FROM new_known ORDER BY key",
    "recipe": "INSERT OR IGNORE INTO recipe SELECT * FROM new_recipe ORDER BY digest, file",
    "searched": "INSERT OR IGNORE INTO searched SELECT * FROM new_searched ORDER BY name",
    "name": "INSERT OR IGNORE INTO name SELECT * FROM new_name ORDER BY name",
    "cell": 'INSERT OR IGNORE INTO cell SELECT * FROM new_cell ORDER BY key, source, row_key, "column"',
}
_EMPTY = {
    "listed": "DELETE FROM new_listed",
    "row": "DELETE FROM new_row",
    "mention": "DELETE FROM new_mention",
    "photo": "DELETE FROM new_photo",
    "rewritten": "DELETE FROM new_rewritten",
    "known": "DELETE FROM new_known",
    "recipe": "DELETE FROM new_recipe",
    "searched": "DELETE FROM new_searched",
    "name": "DELETE FROM new_name",
    "cell": "DELETE FROM new_cell",
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
        self._connection.executescript(_TABLES + _ARRIVALS)
        self._waiting: dict[str, list[Sequence[Any]]] = defaultdict(list)
        self._arrived: set[str] = set()

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
        """Let every row that was added be in its table."""
        for table in list(self._waiting):
            self._write(table)
        for table in sorted(self._arrived):
            self._connection.execute(_SORT_IN[table])
            self._connection.execute(_EMPTY[table])
        self._arrived.clear()

    def _write(self, table: str) -> None:
        rows = self._waiting.pop(table, [])
        if rows:
            self._connection.execute("BEGIN")
            self._connection.executemany(_INSERT[table], rows)
            self._connection.execute("COMMIT")
            self._arrived.add(table)

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
        self.flush()
        self._connection.executescript(_FORGET)
