"""The audit log: who did what and when, as a chain in which no entry can be changed or left out unseen.

Each entry's hash covers its content and the hash before it, so that one hash, kept elsewhere, vouches for all
that came before. What is worth an entry is the caller's to know; the rewritten values are in the ledger.
"""

import hashlib
import json
import os
import pwd
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import audit_head_table, audit_table, utc_now
from photo_pipeline.core.errors import DatabaseError

GENESIS = "0" * 64
"""The hash before the first entry."""

_PAGE = 1000


@dataclass(frozen=True)
class AuditEntry:
    """One entry of the log."""

    seq: int
    at: datetime
    actor: str
    run: str
    action: str
    batch: str | None
    subject: str
    details: Any
    hash: str


@dataclass(frozen=True)
class AuditVerdict:
    """Whether the chain is unbroken.

    Attributes:
        count: How many entries are proven, from the first.
        head: The hash that vouches for them.
        broken_seq: The first entry that is missing, or is not what was recorded; None if there is none.
        reason: What is wrong with it.
    """

    count: int
    head: str
    broken_seq: int | None = None
    reason: str | None = None

    @property
    def holds(self) -> bool:
        """Whether every entry is as it was recorded, and none is missing."""
        return self.broken_seq is None


def record(
    connection: Connection,
    *,
    action: str,
    subject: str,
    batch: str | None = None,
    details: Mapping[str, Any],
    run: str,
    actor: str | None = None,
) -> None:
    """Append an entry in the transaction of the act itself, so that both stand or neither.

    Call it last: from here to the commit, every other transaction that records something waits.

    Args:
        connection: In a write transaction.
        action: A word for the act, such as rewrite, rollback, pause; at most 32 characters.
        subject: What it was done to, as people name it.
        batch: The batch, if it was done to one.
        details: The facts, as JSON takes them.
        run: The run that did it.
        actor: Who wanted it; None: the account that this process runs under.

    Raises:
        DatabaseError: the log's head is gone, so that nothing can be appended to it.
    """
    head = audit_head_table.c
    last = connection.execute(sa.select(head.seq, head.hash).with_for_update()).one_or_none()
    if last is None:
        raise DatabaseError(
            "the audit log",
            cause="its head (the row of pp_audit_head) is gone",
            fix="see `photo-pipeline audit verify`, and restore the state tables from a backup",
        )
    row: dict[str, Any] = {
        "seq": last.seq + 1,
        "at": utc_now(),
        "actor": actor or account(),
        "run": run,
        "action": action,
        "batch": batch,
        "subject": subject,
        "details": json.dumps(details, sort_keys=True, separators=(",", ":"), allow_nan=False),
        "previous_hash": last.hash,
    }
    row["hash"] = _digest(row)
    connection.execute(sa.insert(audit_table), row)
    connection.execute(sa.update(audit_head_table).values(seq=row["seq"], hash=row["hash"]))


def verify(connection: Connection, *, known_head: str | None = None) -> AuditVerdict:
    """Recompute the chain from its first entry.

    Args:
        connection: In any transaction.
        known_head: A hash that was noted elsewhere earlier: then the log must still have that entry. Without
            it, someone who rewrites all entries and the head together goes unseen.
    """
    proven = AuditVerdict(0, GENESIS)
    known_seen = known_head in (None, GENESIS)
    for row in _rows(connection):
        reason = _flaw(row, proven)
        if reason is not None:
            return AuditVerdict(proven.count, proven.head, proven.count + 1, reason)
        proven = AuditVerdict(proven.count + 1, row["hash"])
        known_seen = known_seen or proven.head == known_head
    flaw = _head_flaw(connection, proven)
    if flaw is None and not known_seen:
        flaw = (1, "no entry has the hash that was noted elsewhere: the whole log may have been replaced")
    return AuditVerdict(proven.count, proven.head, *flaw) if flaw else proven


def entries(
    connection: Connection, *, last: int, batch: str | None = None, without: Sequence[str] = ()
) -> list[AuditEntry]:
    """Return the last entries, the oldest first; they are shown as they are, not proven.

    Args:
        connection: A connection that may read.
        last: At most so many.
        batch: Only those of this batch.
        without: Actions to leave out.
    """
    columns = audit_table.c
    query = sa.select(audit_table).order_by(columns.seq.desc()).limit(last)
    if batch is not None:
        query = query.where(columns.batch == batch)
    if without:
        query = query.where(columns.action.not_in(without))
    found = [
        AuditEntry(
            seq=row.seq,
            at=row.at,
            actor=row.actor,
            run=row.run,
            action=row.action,
            batch=row.batch,
            subject=row.subject,
            details=_readable(row.details),
            hash=row.hash,
        )
        for row in connection.execute(query)
    ]
    return found[::-1]


def _readable(details: str) -> Any:
    try:
        return json.loads(details)
    except ValueError:  # somebody changed it; `verify` says so, and this shows it
        return details


def _rows(connection: Connection) -> Iterator[sa.RowMapping]:
    after = None
    while True:
        query = sa.select(audit_table).order_by(audit_table.c.seq).limit(_PAGE)
        if after is not None:
            query = query.where(audit_table.c.seq > after)
        page = connection.execute(query).mappings().all()
        if not page:
            return
        yield from page
        after = page[-1]["seq"]


def _flaw(row: sa.RowMapping, proven: AuditVerdict) -> str | None:
    """Return why the row is not the entry that follows the proven ones."""
    expected = proven.count + 1
    if row["seq"] != expected:
        return "it is missing" if row["seq"] > expected else f"there is an entry {row['seq']} before it"
    if row["previous_hash"] != proven.head:
        return "it does not follow the entry before it"
    return None if row["hash"] == _digest(row) else "its content is not what was recorded"


def _head_flaw(connection: Connection, proven: AuditVerdict) -> tuple[int, str] | None:
    """Return which entry the head contradicts, and how."""
    head = connection.execute(sa.select(audit_head_table)).one_or_none()
    if head is None:
        return proven.count + 1, "the head of the log is gone, so its last entries may be too"
    if head.seq > proven.count:
        return proven.count + 1, f"it is missing; the log once had {head.seq} entries"
    if head.seq < proven.count:
        return head.seq + 1, "it was not recorded by us: the head does not know it"
    return None if head.hash == proven.head else (proven.count, "the head knows another entry in its place")


def _digest(row: Mapping[str, Any] | sa.RowMapping) -> str:
    content = {column.name: row[column.name] for column in audit_table.columns if column.name != "hash"}
    content["at"] = row["at"].isoformat(timespec="microseconds")
    # What is no JSON was not written by us; it gets a digest as well, which then is not the recorded one.
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(f"{row['previous_hash']}{text}".encode()).hexdigest()


@cache
def account() -> str:
    """Return the account that this process runs under, as user@host."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's made-up user
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
