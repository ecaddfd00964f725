"""Everything that a person should look at: which photo, why, and what to do about it.

Counts are always complete; the listed photos are capped, since a million missing files fit no page. The
numbers that are no one's fault are `measures`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.tables import GONE, PhotoClass, PhotoState, photo_table, validation_table
from photo_pipeline.core.errors import ErrorClass
from photo_pipeline.core.retry_rules import RULES, class_of_type

VALIDATION_FAILED = "validation_failed"


@dataclass(frozen=True)
class Finding:
    """One photo that needs a look. `path` is the row's own value where no file was found.

    `source`, `row_key` and `field` are None for a file that no row refers to. `fix` is set where this
    photo's remedy is known more closely than its group's.
    """

    photo_id: int
    source: str | None
    row_key: str | None
    field: str | None
    path: str
    cause: str
    fix: str | None


@dataclass(frozen=True)
class FindingGroup:
    """All findings of one reason: `count` of them, of which `findings` lists the first ones.

    `error_class` and `rule` say what kind of failure it is and how often it was tried; None for what the
    inventory or the validation found, which is no failure of ours.
    """

    reason: str
    title: str
    fix: str
    count: int
    findings: tuple[Finding, ...]
    error_class: ErrorClass | None = None
    rule: str | None = None


@dataclass(frozen=True)
class _Guide:
    title: str
    cause: str
    fix: str


_GUIDES: Mapping[str, _Guide] = {
    VALIDATION_FAILED: _Guide(
        "Migrated, but validation failed",
        "what the CDN delivers is not what was uploaded",
        "Look at the problem, then run the batch again; roll it back if visitors see it",
    ),
    "conflict": _Guide(
        "Edited by the application meanwhile",
        "the row changed after the inventory read it",
        "Nothing was overwritten. Run the inventory again: the row is picked up with its present value",
    ),
    "rewrite_failed": _Guide(
        "The database refused the new value",
        "the rewrite was refused",
        "Mend what the database complains about (a narrow column, a trigger), then migrate again with "
        "failed photos retried",
    ),
    "primary_unavailable": _Guide(
        "Resized copies whose primary photo is not available",
        "the row's primary photo cannot be migrated",
        "Mend or replace the row's primary photo, run the inventory, then migrate again with failed photos "
        "retried",
    ),
    "row_not_ready": _Guide(
        "Rows of which not every photo is in the store",
        "another photo of the row is not in the store, and a column speaks of all of them",
        "Mend, replace or remove that other photo, run the inventory, then migrate again with failed photos "
        "retried",
    ),
    "corrupt": _Guide(
        "Damaged photos",
        "it cannot be decoded whole",
        "Restore the file from a backup, then run the inventory",
    ),
    "not_stored": _Guide(
        "Not taken by the store",
        "the store failed each try for one of its objects, while it took others",
        "Migrate again with failed photos retried; if it stays so, look at the store's log for that key",
    ),
    "unusable_key": _Guide(
        "Names that cannot be an object's key",
        "an S3 server would refuse or misread the key that the mapping makes of its path",
        "Rename the file, or change rewrite.key_template, then run the inventory",
    ),
    "changed_on_disk": _Guide(
        "Changed on disk since the inventory",
        "the file is not the one that was catalogued",
        "Run the inventory again; it catalogues what is there now",
    ),
    "timeout": _Guide(
        "Took too long",
        "its worker was stopped at the time limit",
        "Raise workers.timeout_s or shrink the photo, then migrate again with failed photos retried",
    ),
    "out_of_memory": _Guide(
        "Needed too much memory",
        "its worker reached the memory limit",
        "Raise workers.memory_bytes or shrink the photo, then migrate again with failed photos retried",
    ),
    "worker_crash": _Guide(
        "Crashed the image worker",
        "its worker process died",
        "Open the file in an image editor and save it anew, then run the inventory",
    ),
    "processing_failure": _Guide(
        "Could not be processed",
        "processing failed",
        "Mend the cause, then migrate again with failed photos retried",
    ),
    PhotoClass.FILE_MISSING: _Guide(
        "Rows whose file is missing",
        "no such file under the root",
        "Restore the file from a backup, or clear the column; visitors see a broken picture already",
    ),
    PhotoClass.UNSUPPORTED_FORMAT: _Guide(
        "Not a photo that can be decoded",
        "its content is no supported format",
        "Convert the file to JPEG or PNG under the same name, or correct the row",
    ),
    PhotoClass.TOO_LARGE: _Guide(
        "Too large",
        "it is over the size limit",
        "Shrink the file, or raise inventory.max_file_bytes, then run the inventory",
    ),
    PhotoClass.EMPTY: _Guide("Empty files", "the file has 0 bytes", "Restore the file from a backup"),
    PhotoClass.UNREADABLE: _Guide(
        "Unreadable files",
        "the file cannot be read",
        "Let this user read the file and its folders, then run the inventory",
    ),
    PhotoClass.OUTSIDE_ROOT: _Guide(
        "Pointing outside of the roots",
        "it leads out of every configured root",
        "Correct the row, or declare the place as a root (or its URL as a prefix) in the configuration",
    ),
    PhotoClass.FILE_UNREFERENCED: _Guide(
        "Files that no row refers to",
        "no row of any source names this file",
        "Kept and untouched. Delete it if nothing else uses it, or add the missing source to the mapping",
    ),
}
_PROBLEM_CLASSES = tuple(each for each in PhotoClass if each in _GUIDES)
# Details of these are written as one sentence about the row, without a fix of their own.
_WITHOUT_OWN_FIX = ("conflict", "rewrite_failed")


def collect_findings(connection: Connection, *, limit: int) -> tuple[FindingGroup, ...]:
    """Return the findings by reason, in the order of the guide, with at most `limit` photos listed in all."""
    counts = _counts(connection)
    shares = fair_shares(counts, limit)
    return tuple(_group(connection, reason, counts[reason], shares[reason]) for reason in _ordered(counts))


def count_findings(connection: Connection) -> tuple[FindingGroup, ...]:
    """Return the same groups with their counts alone, by two statements; no photo is listed."""
    counts = _counts(connection)
    return tuple(
        FindingGroup(reason, _guide(reason).title, _guide(reason).fix, counts[reason], ())
        for reason in _ordered(counts)
    )


def list_findings(connection: Connection, reason: str, *, limit: int, after: int = 0) -> FindingGroup | None:
    """Return one group with its photos from the one after the id `after` on; None if it has none at all."""
    count = _counts(connection).get(reason)
    return _group(connection, reason, count, limit, after=after) if count else None


def _ordered(counts: Mapping[str, int]) -> list[str]:
    return [*(str(name) for name in _GUIDES if name in counts), *sorted(counts.keys() - _GUIDES.keys())]


def _guide(reason: str) -> _Guide:
    return _GUIDES.get(reason) or _Guide(
        reason.replace("_", " ").capitalize(),
        reason.replace("_", " "),
        "Read the cause, mend it, and run again",
    )


def fair_shares(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Divide `limit` among the reasons so that a large one does not crowd out the small ones."""
    shares: dict[str, int] = {}
    for done, reason in enumerate(sorted(counts, key=lambda name: (counts[name], name))):
        shares[reason] = min(counts[reason], limit // (len(counts) - done))
        limit -= shares[reason]
    return shares


def _reason() -> sa.ColumnElement[str | None]:
    """Why a row of `pp_photo` is a finding; null if it is none."""
    photo = photo_table.c
    stopped = photo.state.in_([PhotoState.QUARANTINED, PhotoState.CONFLICT])
    failed = sa.and_(photo["class"] == PhotoClass.MATCHED, photo.error_type.is_not(None))
    return sa.case(
        (stopped | failed, sa.func.coalesce(photo.error_type, photo.state)),
        (photo["class"].in_(_PROBLEM_CLASSES), photo["class"]),
        else_=None,
    )


def _counts(connection: Connection) -> dict[str, int]:
    reason = _reason().label("reason")
    found = sa.select(reason).where(photo_table.c.state.not_in(GONE), _reason().is_not(None)).subquery()
    grouped = sa.select(found.c.reason, sa.func.count()).group_by(found.c.reason)
    counts = {str(row[0]): int(row[1]) for row in connection.execute(grouped)}
    failed = connection.execute(
        sa.select(sa.func.count()).select_from(_validated()).where(*_not_valid())
    ).scalar_one()
    return counts | ({VALIDATION_FAILED: int(failed)} if failed else {})


def _validated() -> sa.FromClause:
    return photo_table.join(validation_table, validation_table.c.photo_id == photo_table.c.id)


def _not_valid() -> list[sa.ColumnElement[bool]]:
    return [photo_table.c.state == PhotoState.MIGRATED, validation_table.c.ok.is_(False)]


def _group(connection: Connection, reason: str, count: int, share: int, *, after: int = 0) -> FindingGroup:
    guide = _guide(reason)
    photo = photo_table.c
    if reason == VALIDATION_FAILED:
        query = sa.select(photo_table, validation_table.c.problems).select_from(_validated())
        query = query.where(*_not_valid())
    else:
        query = sa.select(photo_table).where(photo.state.not_in(GONE), _reason() == reason)
    rows = connection.execute(query.where(photo.id > after).order_by(photo.id).limit(share))
    kind = None if reason in (*_PROBLEM_CLASSES, VALIDATION_FAILED) else class_of_type(reason)
    return FindingGroup(
        reason,
        guide.title,
        guide.fix,
        count,
        tuple(_finding(row, reason, guide) for row in rows),
        error_class=kind,
        rule=RULES[kind].sentence if kind else None,
    )


def _finding(row: Any, reason: str, guide: _Guide) -> Finding:
    cause, fix = _cause(row._mapping, reason, guide)
    return Finding(
        photo_id=row.id,
        source=row.source,
        row_key=row.row_key,
        field=row.field,
        path=row.path or row.value or row.new_value or "",
        cause=cause,
        fix=fix,
    )


def _cause(row: Mapping[Any, Any], reason: str, guide: _Guide) -> tuple[str, str | None]:
    if reason == VALIDATION_FAILED:
        return "; ".join(row["problems"]) or guide.cause, None
    if row["error_detail"]:
        return _split_detail(row, reason)
    return row["class_detail"] or guide.cause, None


def _split_detail(row: Mapping[Any, Any], reason: str) -> tuple[str, str | None]:
    """Take a stored error ("thing: cause. fix.") apart; the thing is dropped where the photo says it."""
    path, detail = row["path"] or "", str(row["error_detail"])
    for thing in (path, path.rsplit("/", 1)[-1], f"{row['source']} {row['row_key']} {row['field']}"):
        detail = detail.removeprefix(f"{thing}: ")
    text = detail.rstrip(".")
    cause, stop, fix = text.rpartition(". ")
    if stop and reason not in _WITHOUT_OWN_FIX:
        return cause, fix
    return text, None
