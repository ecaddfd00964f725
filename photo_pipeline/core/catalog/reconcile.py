"""Puts every reference of the application, and every file nobody refers to, into exactly one class.

The result is `pp_photo`: one row per reference (and per unreferenced file). How a photo that is known already
goes on is `known_photos`.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.cells import CellReader
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import ScanFence
from photo_pipeline.core.catalog.files import (
    KnownFile,
    best_file,
    files_by_lookup,
    lookup_id,
    store_sniffed,
)
from photo_pipeline.core.catalog.known_photos import KnownPhotos, updated
from photo_pipeline.core.catalog.rows import RowAddress, SourceRow, read_rows, row_id
from photo_pipeline.core.catalog.tables import GONE, PhotoClass, PhotoState, file_table, photo_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.sources.mapping import AnyField, Source
from photo_pipeline.core.sources.spelling import Refused
from photo_pipeline.core.sources.text.views import Span

_PAGE = 500
# How much of a cell that cannot be read is shown.
_SHOWN = 200


@dataclass(frozen=True)
class Reference:
    """One photo that one field of one row names; all its equal spellings in a cell are one reference.

    Attributes:
        value: As the cell spells it; of a cell that cannot be read, how it begins.
        url: What that means.
        start: Where in the cell it first stands; None if it is the cell's whole value.
        problem: Why the cell cannot be read.
    """

    source: Source
    row: SourceRow
    field: AnyField
    value: str
    url: str
    start: int | None = None
    problem: str | None = None

    @property
    def reference_id(self) -> str:
        """The digest that identifies this reference with this value, across inventories."""
        parts = [self.source.name, self.row.row_key, self.field.label, self.value]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def at(self, span: Span) -> "Reference":
        """Return the reference that the same field of the same row makes there."""
        start = span.start if self.field.embedded else None
        return replace(self, value=span.spelled, url=span.url, start=start)


@dataclass(frozen=True)
class Finding:
    """The class of a reference, and the file behind it if there is one."""

    photo_class: PhotoClass
    detail: str | None = None
    file: Any | None = None  # a row of pp_file
    variant: str | None = None  # what the reference asks for; None: what its field says


@dataclass
class ReferenceCounts:
    """What the sources hold: rows read, references found, fields without a value."""

    rows: int = 0
    references: int = 0
    empty_fields: int = 0


class Reconciler:
    """Reconciles the sources' rows with the files of one scan."""

    def __init__(self, database: Database, config: PipelineConfig, fence: ScanFence) -> None:
        self._database = database
        self._config = config
        self._fence = fence
        self._scan = fence.scan
        self._cells = CellReader(config)
        self._urls = UrlScheme.of(config)

    def run(self, progress: Progress = no_progress) -> ReferenceCounts:
        """Classify all references and all unreferenced files; return what the sources hold."""
        counts = ReferenceCounts()
        for source in self._config.sources:
            for chunk in read_rows(self._database, source):
                references = list(self._references(source, chunk, counts))
                counts.rows += len(chunk)
                counts.references += len(references)
                self._record(references)
                progress("rows", counts.rows, None)
        counts.references += self._keep_migrated_rows()
        self._supersede_vanished()
        self._record_unreferenced()
        return counts

    def _record(self, references: list[Reference]) -> None:
        # Files are opened here, before the write transaction, which others may be waiting for.
        with self._database.read() as connection:
            findings = self._classify(connection, references)
        with self._database.write() as connection:
            self._fence.hold(connection)
            rows = {row_id(each.source.name, each.row.row_key) for each in references}
            known = KnownPhotos.of(connection, rows)
            new, updates, sniffed = [], [], {}
            for read, found in zip(references, findings, strict=True):
                reference, finding = self._present(connection, known, read, found)
                photo = _photo_of(known, reference)
                row = self._photo_row(reference, finding)
                if photo is None:
                    new.append(row)
                else:
                    updates.append({"k": photo.id, **updated(photo, row)})
                if finding.file is not None and finding.file.sniffed_now:
                    sniffed[finding.file.file_id] = finding.file
            if new:
                connection.execute(sa.insert(photo_table), new)
            if updates:
                connection.execute(_update_statement(updates[0]), updates)
            store_sniffed(connection, sniffed.values())

    def _present(
        self, connection: Connection, known: KnownPhotos, reference: Reference, finding: Finding
    ) -> tuple[Reference, Finding]:
        """Return the reference as it stands now.

        A batch may have been rewritten or rolled back after the row was read. Where the value contradicts
        the photo's state, the row is read again under the transaction that holds the photo.
        """
        photo = _photo_of(known, reference)
        is_cdn_value = finding.photo_class is PhotoClass.ALREADY_MIGRATED
        expected = {True: PhotoState.ROLLED_BACK, False: PhotoState.MIGRATED}[is_cdn_value]
        if photo is None or photo.state != expected:
            return reference, finding
        if photo.state == PhotoState.MIGRATED and photo.new_value == reference.value:
            return reference, finding  # Mode columns: the row goes on saying what it said.
        fresh = self._read_again(connection, reference, photo)
        if fresh is None:
            return reference, finding
        return fresh, self._classify(connection, [fresh])[0]

    def _read_again(self, connection: Connection, reference: Reference, photo: Any) -> Reference | None:
        """Return what the row names in place of the reference by now, or None if that is still there."""
        source, field = reference.source, reference.field
        if not field.written or field.column is None:
            return None
        values = RowAddress.of(self._database, source, reference.row.row_key).read(connection, [field.column])
        cell = values[field.column] if values else None
        if not field.embedded:
            if not isinstance(cell, str) or cell == reference.value:
                return None
            return replace(reference, value=cell, url=cell)
        names = {(field.label, text) for text in (reference.value, photo.value, photo.new_value) if text}
        there = self._cells.mentions(source, field.column, cell, names)
        if not there or any(mention.span.spelled == reference.value for mention in there):
            return None
        return reference.at(there[0].span)

    def _references(
        self, source: Source, rows: list[SourceRow], counts: ReferenceCounts
    ) -> Iterable[Reference]:
        for row in rows:
            mentions, problems = self._cells.read(source, row.values)
            named: dict[tuple[str, str], Reference] = {}
            for mention in mentions:
                blank = Reference(source, row, mention.field, "", "")
                named.setdefault(mention.name, blank.at(mention.span))
            for problem in problems:
                value = problem.cell[:_SHOWN]
                key = (problem.field.label, value)
                named[key] = Reference(source, row, problem.field, value, value, problem=problem.reason)
            silent = {field.label for field in source.fields if _is_blank(row, field)}
            counts.empty_fields += len(silent - {reference.field.label for reference in named.values()})
            yield from named.values()

    def _photo_row(self, reference: Reference, finding: Finding) -> dict[str, Any]:
        source, row, file = reference.source, reference.row, finding.file
        local = finding.photo_class is not PhotoClass.ALREADY_MIGRATED
        return {
            "reference_id": reference.reference_id,
            "source": source.name,
            "row_id": row_id(source.name, row.row_key),
            "row_key": row.row_key,
            "field": reference.field.label,
            "column": reference.field.column,
            "locator": None if reference.start is None else str(reference.start),
            "variant": finding.variant,
            "role": reference.field.role,
            "entity_type": source.entity.type if source.entity else None,
            "entity_id": row.entity_id,
            "position": row.position,
            "focal_x": row.focal_point[0] if row.focal_point else None,
            "focal_y": row.focal_point[1] if row.focal_point else None,
            "file_id": file.file_id if file else None,
            "root": file.root if file else reference.field.root,
            "path": file.path if file else None,
            "value": reference.value if local else None,
            "new_value": None if local else reference.value,
            "size": file.size if file else None,
            "mtime_ns": file.mtime_ns if file else None,
            "inode": file.inode if file else None,
            "sha256": file.sha256 if file else None,
            "format": file.format if file else None,
            "class": finding.photo_class,
            "class_detail": finding.detail,
            "state": PhotoState.PENDING if finding.photo_class is PhotoClass.MATCHED else PhotoState.FOUND,
            "error_type": None,
            "error_detail": None,
            "scan": self._scan,
            "updated_at": utc_now(),
        }

    def _classify(self, connection: Connection, references: list[Reference]) -> list[Finding]:
        spelled: list[Refused | tuple[str, ...] | None] = []
        wanted: set[str] = set()
        for reference in references:
            if reference.problem is not None or self._urls.is_migrated(reference.url):
                spelled.append(None)
                continue
            field = reference.field
            meaning = field.interpret(reference.url, self._cells.roots[field.root])
            spelled.append(meaning if isinstance(meaning, Refused) else meaning.candidates)
            if not isinstance(meaning, Refused):
                wanted.update(lookup_id(field.root, path) for path in meaning.candidates)
        files = files_by_lookup(connection, wanted)
        return [
            self._finding(reference, meaning, files)
            for reference, meaning in zip(references, spelled, strict=True)
        ]

    def _finding(
        self,
        reference: Reference,
        meaning: Refused | tuple[str, ...] | None,
        files: dict[str, list[KnownFile]],
    ) -> Finding:
        if reference.problem is not None:
            return Finding(PhotoClass.UNREADABLE, f"{reference.field.label}: {reference.problem}")
        if meaning is None:
            return Finding(PhotoClass.ALREADY_MIGRATED)
        if isinstance(meaning, Refused):
            return Finding(PhotoClass.OUTSIDE_ROOT, meaning.reason)
        field = reference.field
        root = field.root
        file = best_file(root, meaning, files)
        if file is None:
            return Finding(PhotoClass.FILE_MISSING, f"no file {meaning[0]!r} under root {root!r}")
        variants = self._config.variants[reference.source.preset]
        variant = field.variant_of(reference.url, file.path, variants)
        return replace(self._file_finding(file), variant=variant)

    def _file_finding(self, file: KnownFile) -> Finding:
        if file.problem is None and file.format is None and file.unsupported is None:
            file.look_inside(self._cells.roots[file.root].directory)
        if file.problem is not None:
            return Finding(PhotoClass(file.problem), file.detail, file)
        if file.unsupported is not None:
            return Finding(PhotoClass.UNSUPPORTED_FORMAT, f"the content is {file.unsupported}", file)
        return Finding(PhotoClass.MATCHED, None, file)

    def _record_unreferenced(self) -> None:
        """Give every file that no current reference names a row of its own."""
        photo, file = photo_table.c, file_table.c
        referenced = sa.exists().where(
            photo.file_id == file.file_id, photo.source.is_not(None), photo.scan == self._scan
        )
        problem = sa.case(
            (file.problem.in_([PhotoClass.OUTSIDE_ROOT, PhotoClass.UNREADABLE]), file.problem),
            else_=PhotoClass.FILE_UNREFERENCED.value,
        )
        chosen = sa.select(
            file.file_id,
            file.file_id,
            file.root,
            file.path,
            file.size,
            file.mtime_ns,
            file.inode,
            problem,
            file.detail,
            sa.literal(PhotoState.FOUND.value),
            sa.literal(self._scan),
            sa.literal(utc_now(), photo.updated_at.type),
        ).where(file.scan == self._scan, ~referenced)
        names = [
            *("reference_id", "file_id", "root", "path", "size", "mtime_ns", "inode"),
            *("class", "class_detail", "state", "scan", "updated_at"),
        ]
        with self._database.write() as connection:
            self._fence.hold(connection)
            connection.execute(sa.delete(photo_table).where(photo.source.is_(None)))
            connection.execute(sa.insert(photo_table).from_select(names, chosen))

    def _keep_migrated_rows(self) -> int:
        """Keep migrated photos whose row still shows our value although `where` no longer selects it.

        A condition on the rewritten column itself (such as `like '/uploads/%'`) deselects every row that
        was migrated. Returns how many were kept; they count as references.
        """
        photo, kept, after = photo_table.c, 0, 0
        sources = {source.name: source for source in self._config.sources}
        unseen = sa.select(photo_table).where(
            photo.scan != self._scan, photo.state == PhotoState.MIGRATED, photo.source.in_(sources)
        )
        while True:
            with self._database.write() as connection:
                self._fence.hold(connection)
                page = connection.execute(
                    unseen.where(photo.id > after).order_by(photo.id).limit(_PAGE)
                ).all()
                if not page:
                    return kept
                after = page[-1].id
                ours = [each.id for each in page if self._still_shows(connection, sources, each)]
                connection.execute(
                    sa.update(photo_table)
                    .where(photo.id.in_(ours))
                    .values({"scan": self._scan, "class": PhotoClass.ALREADY_MIGRATED})
                )
                kept += len(ours)

    def _still_shows(self, connection: Connection, sources: dict[str, Source], photo: Any) -> bool:
        source = sources[photo.source]
        address = RowAddress.of(self._database, source, photo.row_key)
        if photo.column is None:  # A computed field: while the row is there, it names the same file.
            return address.read(connection, list(source.key), lock=False) is not None
        if photo.column not in address.table.columns or photo.new_value is None:
            return False
        values = address.read(connection, [photo.column], lock=False)
        name = (photo.field, photo.new_value)
        return values is not None and self._cells.shows(source, photo.column, values[photo.column], name)

    def _supersede_vanished(self) -> None:
        """Close references that this inventory did not see: the row is gone or says something else."""
        photo = photo_table.c
        with self._database.write() as connection:
            self._fence.hold(connection)
            connection.execute(
                sa.update(photo_table)
                .where(
                    photo.scan != self._scan,
                    photo.state.not_in(GONE),
                )
                .values(state=PhotoState.SUPERSEDED, updated_at=utc_now())
            )


def _is_blank(row: SourceRow, field: AnyField) -> bool:
    return all(not str(row.values[name] or "").strip() for name in field.reads)


def _photo_of(known: KnownPhotos, reference: Reference) -> Any | None:
    return known.continued_by(
        row_id=row_id(reference.source.name, reference.row.row_key),
        field=reference.field.label,
        value=reference.value,
        reference_id=reference.reference_id,
    )


def _update_statement(example: dict[str, Any]) -> sa.Update:
    names = [name for name in example if name != "k"]
    return (
        sa.update(photo_table)
        .where(photo_table.c.id == sa.bindparam("k"))
        .values({name: sa.bindparam(name) for name in names})
    )
