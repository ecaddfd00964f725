"""Vouches for the ledger: each chunk of ledger rows is digested into the audit log, and can be proven by it.

One entry of the log per chunk, in the chunk's own transaction. What it says about a row is what never changes
again: for a rewrite the values, for a rollback its outcome.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from json.encoder import encode_basestring_ascii
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.tables import RewriteOutcome, audit_table, rewrite_table

# What a rewrite writes once. Not the outcome: a rollback changes it, and is audited itself.
WRITTEN = (
    *("id", "batch", "photo_id", "source", "row_id", "row_key", "column"),
    *("before", "before_type", "after", "after_type", "run", "applied_at"),
)
# What a rollback (or a refusal) writes once.
_ENDED = ("id", "outcome", "reason", "rolled_back_at")
_PAGE = 1000
_IDS_PER_QUERY = 500

REWRITE, ROLLBACK = "rewrite", "rollback"


@dataclass(frozen=True)
class LedgerVerdict:
    """Whether the ledger is what the audit log vouches for.

    Attributes:
        rows: How many ledger rows the log vouches for.
        unaudited: How many are there that no entry covers; those of versions before there was a log.
        broken_seq: The first entry of the log whose rows are not as it says; None if there is none.
        reason: What is wrong with them.
    """

    rows: int
    unaudited: int
    broken_seq: int | None = None
    reason: str | None = None

    @property
    def holds(self) -> bool:
        """Whether every row that the log covers is there and as it was written."""
        return self.broken_seq is None


@dataclass(frozen=True)
class WrittenEntries:
    """Ledger rows that this transaction has written, by their ids and as the digest takes them."""

    ids: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]]) -> "WrittenEntries":
        """Return the rows, each with the values of `WRITTEN`."""
        return cls([row[0] for row in rows], [_line(row) for row in rows])

    @classmethod
    def alike(
        cls,
        rows: Iterable[Sequence[Any]],
        *,
        batch: str,
        source: str,
        run: str,
        applied_at: datetime,
    ) -> "WrittenEntries":
        """Return rows that have these in common, each with the rest of the values of `WRITTEN`, in its order.

        In a fifth of the time of `of`, for the same lines.
        """
        rows, spell = list(rows), encode_basestring_ascii
        of, at = f"{spell(batch)},", f",{spell(source)},"
        end = f",{spell(run)},{_as_json(applied_at)}]\n"
        types = {kind: spell(kind) for kind in ("null", "text", "integer", "real", "blob")}
        lines = [
            f"[{number},{of}{'null' if photo is None else photo}{at}{spell(row)},{spell(key)},"
            f"{spell(column)},"
            f"{'null' if before is None else spell(before)},{types[was]},"
            f"{'null' if after is None else spell(after)},{types[is_now]}{end}"
            for number, photo, row, key, column, before, was, after, is_now in rows
        ]
        return cls([row[0] for row in rows], lines)

    def add(self, later: "WrittenEntries") -> None:
        """Add rows that were written after these."""
        self.ids.extend(later.ids)
        self.lines.extend(later.lines)


def last_ledger_id(connection: Connection) -> int:
    """Return the highest id of the ledger; what this transaction writes will be above it."""
    return int(connection.execute(sa.select(sa.func.max(rewrite_table.c.id))).scalar() or 0)


def audit_rewrites(
    connection: Connection,
    *,
    batch: str,
    run: str,
    above: int | None,
    counts: Mapping[str, int],
    known: WrittenEntries,
) -> None:
    """Record what this transaction has added to the ledger. Call it last.

    Args:
        connection: In the chunk's write transaction.
        batch: The batch whose rows were changed.
        run: The run that did it.
        above: `last_ledger_id` when it had written what is `known`; None: it wrote nothing else.
        counts: What became of the rows, for people.
        known: What it added first, which need not be read again.
    """
    if above is None:
        _record_entries(connection, REWRITE, known, batch=batch, run=run, counts=counts)
        return
    columns = rewrite_table.c
    mine = (columns.id > above, columns.batch == batch, columns.run == run)
    query = sa.select(*(columns[name] for name in WRITTEN)).where(*mine).order_by(columns.id)
    _record(connection, REWRITE, query, batch=batch, run=run, counts=counts, known=known)


def audit_rewritten_again(
    connection: Connection, *, batch: str, run: str, row_ids: Iterable[str], above: int
) -> None:
    """Record what a rollback has added to the ledger: rewrites of other batches, on the text without its own.

    Args:
        connection: In the chunk's write transaction, which has those application rows locked.
        batch: The batch that is rolled back.
        run: The run that does it.
        row_ids: The digests by which the ledger knows the application rows.
        above: `last_ledger_id` at the transaction's beginning.
    """
    columns = rewrite_table.c
    mine = (columns.id > above, columns.row_id.in_(list(row_ids)))
    query = sa.select(*(columns[name] for name in WRITTEN)).where(*mine).order_by(columns.id)
    _record(connection, REWRITE, query, batch=batch, run=run, counts={})


def audit_rollbacks(
    connection: Connection,
    *,
    batch: str,
    run: str,
    row_ids: Iterable[str],
    since: datetime,
    facts: Mapping[str, Any],
) -> None:
    """Record how the ledger rows of those application rows ended. Call it last.

    Args:
        connection: In the chunk's write transaction.
        batch: The batch that is rolled back.
        run: The run that does it.
        row_ids: The digests by which the ledger knows the application rows.
        since: When the transaction began; what had ended before is in an earlier entry.
        facts: What became of the rows, and the files that were restored for it.
    """
    columns = rewrite_table.c
    query = (
        sa.select(*(columns[name] for name in _ENDED))
        .where(
            columns.row_id.in_(list(row_ids)),
            columns.rolled_back_at >= since,
            columns.outcome != RewriteOutcome.ROLLBACK_DEFERRED,  # not its end yet
        )
        .order_by(columns.id)
    )
    _record(connection, ROLLBACK, query, batch=batch, run=run, counts=facts)


def _record(
    connection: Connection,
    action: str,
    query: sa.Select[Any],
    *,
    batch: str,
    run: str,
    counts: Mapping[str, Any],
    known: WrittenEntries | None = None,
) -> None:
    entries = WrittenEntries()
    if known is not None:
        entries.add(known)
    entries.add(WrittenEntries.of([tuple(row) for row in connection.execute(query)]))
    _record_entries(connection, action, entries, batch=batch, run=run, counts=counts)


def _record_entries(
    connection: Connection,
    action: str,
    entries: WrittenEntries,
    *,
    batch: str,
    run: str,
    counts: Mapping[str, Any],
) -> None:
    if not entries.ids:
        return
    details = dict(counts) | {
        "ledger": _as_ranges(entries.ids),
        "entries": len(entries.ids),
        "sha256": hashlib.sha256("".join(entries.lines).encode()).hexdigest(),
    }
    subject = f"{len(entries.ids)} ledger entries of {batch}"
    audit.record(connection, action=action, subject=subject, batch=batch, details=details, run=run)


def verify_ledger(connection: Connection) -> LedgerVerdict:
    """Recompute the digest of every audited chunk from the ledger, and look for rows without one.

    Whether the log itself is what was recorded is for `audit.verify` to say.
    """
    covered = 0
    for entry in _audited(connection):
        try:
            details = json.loads(entry.details)
            ids = _of_ranges(details["ledger"])
            wanted = details["sha256"]
        except (ValueError, KeyError, TypeError):
            return LedgerVerdict(covered, 0, entry.seq, "it does not say which ledger rows it is about")
        names = WRITTEN if entry.action == REWRITE else _ENDED
        if _digest(_ledger_rows(connection, ids, names)) != wanted:
            reason = "the ledger rows that it vouches for are not as they were written, or are gone"
            return LedgerVerdict(covered, 0, entry.seq, reason)
        if entry.action == REWRITE:
            covered += len(ids)
    total = int(connection.execute(sa.select(sa.func.count()).select_from(rewrite_table)).scalar_one())
    return LedgerVerdict(covered, total - covered)


def _audited(connection: Connection) -> Iterator[Any]:
    columns, after = audit_table.c, 0
    wanted = sa.select(columns.seq, columns.action, columns.details).where(
        columns.action.in_([REWRITE, ROLLBACK])
    )
    while page := connection.execute(
        wanted.where(columns.seq > after).order_by(columns.seq).limit(_PAGE)
    ).all():
        yield from page
        after = page[-1].seq


def _ledger_rows(connection: Connection, ids: list[int], names: tuple[str, ...]) -> Iterator[Any]:
    columns = rewrite_table.c
    for start in range(0, len(ids), _IDS_PER_QUERY):
        query = sa.select(*(columns[name] for name in names)).where(
            columns.id.in_(ids[start : start + _IDS_PER_QUERY])
        )
        yield from connection.execute(query.order_by(columns.id))


def _digest(rows: Iterable[Any]) -> str:
    """Return the SHA-256 of the rows, in the order of their ids: one JSON array per line."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(_line(row).encode())
    return whole.hexdigest()


def _line(row: Iterable[Any]) -> str:
    """Return the row as a compact JSON array in ASCII, and a line feed; in half the time of `json.dumps`."""
    spelled = [encode_basestring_ascii(v) if type(v) is str else _as_json(v) for v in row]
    return f"[{','.join(spelled)}]\n"


def as_text(instant: datetime) -> str:
    """Return how the digest has an instant: in UTC with microseconds, on every database."""
    return instant.isoformat(timespec="microseconds")


def _as_json(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if value is None:
        return "null"
    if hasattr(value, "isoformat"):
        return f'"{as_text(value)}"'
    return json.dumps(value)


def _as_ranges(ids: list[int]) -> str:
    """Return ascending ids as "1-6,9"."""
    ranges: list[list[int]] = []
    for each in ids:
        if ranges and ranges[-1][1] == each - 1:
            ranges[-1][1] = each
        else:
            ranges.append([each, each])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def _of_ranges(text: str) -> list[int]:
    ids: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        ids += range(int(first), int(last or first) + 1)
    return ids
