"""The other direction: rows whose object is missing, or is not the one that they mean.

Every finding is confirmed: the store is asked for that very object, and the row is read again afterwards, so
that what was deleted or uploaded meanwhile is none. What to do about one is a person's decision.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database, rows_by_key
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.tables import GONE, object_table, orphan_table, photo_table
from photo_pipeline.core.cleanup.orphans_bucket import Bucket
from photo_pipeline.core.cleanup.orphans_keys import mentions
from photo_pipeline.core.cleanup.orphans_marks import OrphanState, orphan_id
from photo_pipeline.core.cleanup.orphans_scan import SHOWN, Tick, no_tick
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.progress import Progress, no_progress

_PAGE = 500
MISSING, WRONG_SIZE, WRONG_CHECKSUM, DANGLING = "missing", "wrong_size", "wrong_checksum", "dangling_cell"

# Proven by the catalog, and the listing does not show them as they were when they were last proven.
_SUSPECT = """
SELECT k.key, k.bytes, k.checksum
FROM known AS k LEFT JOIN listed AS l ON l.key = k.key
WHERE k.proven AND k.key > ?
  AND (l.key IS NULL OR l.size <> k.bytes OR (? AND (k.etag IS NULL OR l.etag <> k.etag)))
ORDER BY k.key LIMIT ?
"""
# An .auto URL is any format of its variant; its key has the variant's name before the dot.
_DANGLING = """
SELECT c.key, c.source, c.row_key, c."column" FROM cell AS c
WHERE (c.key, c.source, c.row_key, c."column") > (?, ?, ?, ?)
  AND NOT EXISTS (SELECT 1 FROM listed AS l WHERE l.key = c.key)
  AND NOT (c.key LIKE '%.auto' AND EXISTS (
    SELECT 1 FROM listed AS l WHERE l.key > substr(c.key, 1, length(c.key) - 4)
      AND l.key < substr(c.key, 1, length(c.key) - 5) || '/'))
ORDER BY c.key, c.source, c.row_key, c."column" LIMIT ?
"""


@dataclass(frozen=True)
class Finding:
    """One row whose object is not as it should be.

    Attributes:
        kind: missing, wrong_size, wrong_checksum (of a row of pp_object), dangling_cell (of the application).
        key: The object's key.
        where: The row: pp_object, or source, key and column of the application's cell.
        detail: What was seen.
        fix: What to do.
    """

    kind: str
    key: str
    where: str
    detail: str
    fix: str


@dataclass
class Drift:
    """What the look at every row found.

    Attributes:
        objects: Rows of pp_object that say that their object is proven.
        asked: Of these, how many the store was asked about one by one; the listing vouches for the others.
        cells: Cells of mapped columns that show one of our keys.
        counts: Findings by kind.
        findings: The first of them.
    """

    objects: int = 0
    asked: int = 0
    cells: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All findings."""
        return sum(self.counts.values())


def look_for_drift(
    workspace: Workspace,
    database: Database,
    config: PipelineConfig,
    bucket: Bucket,
    *,
    checksums: bool = True,
    remember: bool = False,
    tick: Tick = no_tick,
    progress: Progress = no_progress,
) -> Drift:
    """Compare every row that names an object with the listing, and ask the store where they differ.

    A checksum is asked for once: as long as the listing shows the ETag that the object had then, its bytes
    are the same.

    Args:
        workspace: After a scan.
        database: The application's database.
        config: The configuration.
        bucket: The bucket.
        checksums: Also ask about objects whose ETag is not known yet; one HEAD (or GET) each.
        remember: Keep the ETags of those that were right (`pp_object.etag`), which saves asking again.
        tick: Called all the while.
        progress: Told how many objects were asked about.

    Raises:
        StoreError: the store failed or refused a request.
        DatabaseError: the database went away.
    """
    return _Look(workspace, database, config, bucket, checksums, remember).run(tick, progress)


class _Look:
    def __init__(
        self,
        workspace: Workspace,
        database: Database,
        config: PipelineConfig,
        bucket: Bucket,
        checksums: bool,
        remember: bool,
    ) -> None:
        self._workspace = workspace
        self._database = database
        self._config = config
        self._bucket = bucket
        self._checksums = checksums
        self._remember = remember
        self._drift = Drift()

    def run(self, tick: Tick, progress: Progress) -> Drift:
        drift = self._drift
        drift.objects = self._workspace.number("SELECT COUNT(*) FROM known WHERE proven")
        drift.cells = self._workspace.number("SELECT COUNT(*) FROM cell")
        with ThreadPoolExecutor(self._config.upload.concurrency, thread_name_prefix="drift") as pool:
            for page in self._suspects():
                tick()
                answers = list(pool.map(self._examine, page))
                drift.asked += len(page)
                progress("objects asked about", drift.asked, None)
                self._confirm([each for each in answers if each.kind])
                if self._remember:
                    self._keep([each for each in answers if not each.kind and each.etag])
            for cells in self._dangling():
                tick()
                keys = list(dict.fromkeys(key for key, *_ in cells))
                there = dict(zip(keys, pool.map(self._is_there, keys), strict=True))
                for cell in cells:
                    if not there[cell[0]]:
                        self._confirm_cell(*cell)
        return drift

    def _suspects(self) -> Iterator[list[Any]]:
        after = ""
        while page := list(self._workspace.rows(_SUSPECT, (after, self._checksums, _PAGE))):
            yield page
            after = page[-1][0]

    def _examine(self, suspect: Any) -> "_Answer":
        """Ask the store about one object; runs in a thread."""
        key, size, checksum = suspect
        there = self._bucket.look(key)
        if there is None:
            return _Answer(key, checksum, MISSING, "there is no such object")
        if there.size != size:
            return _Answer(key, checksum, WRONG_SIZE, f"it has {there.size:,} bytes instead of {size:,}")
        if self._checksums and not self._bucket.holds(key, checksum, size):
            return _Answer(key, checksum, WRONG_CHECKSUM, "its bytes have another SHA-256")
        return _Answer(key, checksum, "", "", there.etag if self._checksums else "")

    def _confirm(self, answers: Sequence["_Answer"]) -> None:
        """Count what the catalog says still, after the store was asked."""
        with self._database.read() as connection:
            rows = rows_by_key(connection, object_table, self._bucket.name, [each.key for each in answers])
        for each in answers:
            row = rows.get(each.key)
            if row is None or row.verified_at is None or row.deleted_at or row.checksum != each.checksum:
                continue
            self._find(Finding(each.kind, each.key, "pp_object", each.detail, self._fix(each, row)))

    def _fix(self, answer: "_Answer", row: Any) -> str:
        if len(self._drift.findings) >= SHOWN:
            return ""
        photo = photo_table.c
        with self._database.read() as connection:
            batches = connection.execute(
                sa.select(photo.batch)
                .where(photo.sha256 == row.source_sha256, photo.batch.is_not(None))
                .where(photo.state.not_in(GONE))
                .distinct()
                .order_by(photo.batch)
            ).scalars()
            named = list(batches)
        back = self._undo_command(answer.key) or (
            "bring its right version back if the bucket keeps versions"
            if answer.kind == MISSING
            else "find out who wrote it; delete it, or bring its right version back"
        )
        if not named:
            return f"{back}; no photo needs it"
        batch = named[0]
        return (
            f"{back}; else send its photos again: photo-pipeline rollback --batch {batch}, "
            f"then photo-pipeline migrate --batch {batch} --retry-failed"
        )

    def _undo_command(self, key: str) -> str | None:
        columns = orphan_table.c
        with self._database.read() as connection:
            state = connection.execute(
                sa.select(columns.state).where(columns.id == orphan_id(self._bucket.name, key))
            ).scalar()
        return f"photo-pipeline orphans undo --key {key} --apply" if state == OrphanState.DELETED else None

    def _keep(self, answers: Sequence["_Answer"]) -> None:
        if not answers:
            return
        columns = object_table.c
        statement = (
            sa.update(object_table)
            .where(columns.bucket == self._bucket.name, columns.key == sa.bindparam("k"))
            .where(columns.checksum == sa.bindparam("c"))
            .values(etag=sa.bindparam("e"))
        )
        with self._database.write() as connection:
            connection.execute(statement, [{"k": a.key, "c": a.checksum, "e": a.etag} for a in answers])

    # --- the application's cells

    def _dangling(self) -> Iterator[list[Any]]:
        after: Sequence[str] = ("", "", "", "")
        while page := list(self._workspace.rows(_DANGLING, (*after, _PAGE))):
            yield page
            after = page[-1]

    def _is_there(self, key: str) -> bool:
        if key.endswith(".auto"):
            stem = key.removesuffix("auto")
            return any(self._bucket.look(f"{stem}{each}") is not None for each in ("jpg", "webp", "avif"))
        return self._bucket.look(key) is not None

    def _confirm_cell(self, key: str, source: str, row_key: str, column: str) -> None:
        """Count the cell if it shows the key still, after the store was asked."""
        address = RowAddress.of(self._database, self._config.source(source), row_key)
        with self._database.read() as connection:
            values = address.read(connection, [column], lock=False)
        text = "" if values is None else str(values[column])
        _, sha, recipe, file = key.rsplit("/", 3)
        if not any((m.sha256, m.recipe, m.file) == (sha, recipe, file) for m in mentions(text)):
            return
        back = self._undo_command(key) or "bring the object back if the bucket keeps versions"
        fix = f"{back}; else roll its batch back, or correct the row"
        where = f"{source} {row_key} {column}"
        self._find(Finding(DANGLING, key, where, "it shows an object that is not there", fix))

    def _find(self, finding: Finding) -> None:
        self._drift.counts[finding.kind] = self._drift.counts.get(finding.kind, 0) + 1
        if len(self._drift.findings) < SHOWN:
            self._drift.findings.append(finding)


@dataclass(frozen=True)
class _Answer:
    """What the store said of one object; `kind` empty: it is right, and has that ETag."""

    key: str
    checksum: str
    kind: str
    detail: str
    etag: str = ""
