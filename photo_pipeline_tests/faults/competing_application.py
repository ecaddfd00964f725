"""A child program: an application at work on its own rows, as fast as it thinks, until its input ends.

It edits, inserts and deletes rows of `item_photos`, each in a transaction of its own that first reads, under
the row's lock, what it replaces. After each commit it writes one JSON line about it to its log. Every value
that it writes is unique, so that each can be followed.
"""

import json
import random
import select
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event

from photo_pipeline_tests.sites import item_photo

# Between two edits: some ten a second, so that every chunk meets some and some rows are left in peace.
_THINKS_S = 0.1


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return sa.create_engine(url)
    engine = sa.create_engine(url, connect_args={"timeout": 60})
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _act(connection: Connection, dice: random.Random, number: int, files: int) -> dict[str, Any] | None:
    """Do one thing and return what was done."""
    value = f"/uploads/items/{dice.randrange(files)}.jpg?edit={number}"
    kind = dice.choice(["edit"] * 6 + ["insert", "delete"])
    if kind == "insert":
        row = item_photo(10_000 + number, value)
        names = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        connection.execute(sa.text(f"INSERT INTO item_photos ({names}) VALUES ({marks})"), row)
        return {"kind": kind, "key": row["id"], "before": None, "after": value}
    keys = connection.execute(sa.text("SELECT id FROM item_photos ORDER BY id")).scalars().all()
    key = dice.choice(keys)
    lock = "" if connection.dialect.name == "sqlite" else " FOR UPDATE"
    query = sa.text(f"SELECT original_url FROM item_photos WHERE id = :key{lock}")
    before = connection.execute(query, {"key": key}).scalar_one()
    if kind == "delete":
        connection.execute(sa.text("DELETE FROM item_photos WHERE id = :key"), {"key": key})
        return {"kind": kind, "key": key, "before": before, "after": None}
    update = sa.text("UPDATE item_photos SET original_url = :value WHERE id = :key")
    connection.execute(update, {"key": key, "value": value})
    return {"kind": kind, "key": key, "before": before, "after": value}


def main(url: str, seed: int, files: int, log: Path) -> None:
    """Work until standard input ends."""
    dice, engine = random.Random(seed), _engine(url)
    with log.open("w", encoding="utf-8", buffering=1) as lines:
        print("working", flush=True)
        number = 0
        while not select.select([sys.stdin], [], [], _THINKS_S)[0]:
            number += 1
            with engine.begin() as connection:
                done = _act(connection, dice, number, files)
            lines.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
