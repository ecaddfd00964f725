"""The scanned files as the reconciler meets them: found by any spelling, their content looked at once."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.beneath import file_within
from photo_pipeline.core.catalog.scan import file_id
from photo_pipeline.core.catalog.tables import PhotoClass, file_table
from photo_pipeline.core.imaging.header import describe_content, family_of, is_supported
from photo_pipeline.core.sources.spelling import path_key

_HEAD_BYTES = 4_096


@dataclass
class KnownFile:
    """A row of `pp_file`, with what a look at its first bytes adds."""

    file_id: str
    root: str
    path: str
    size: int | None
    mtime_ns: int | None
    inode: int | None
    sha256: str | None
    format: str | None
    unsupported: str | None
    problem: str | None
    detail: str | None
    sniffed_now: bool = False

    def look_inside(self, root: Path) -> None:
        """Decide the format from the content, whatever the extension says; may set a problem instead.

        Nothing is read if the file was swapped for a link out of `root`, the folder of its root, meanwhile.
        """
        try:
            with file_within(root, self.path) as handle:
                head = os.pread(handle, _HEAD_BYTES, 0)
            family = family_of(head)
            if family is not None and is_supported(family):
                self.format = family
            else:
                self.unsupported = family or describe_content(head)
            self.sniffed_now = True
        except OSError as error:
            self.problem = PhotoClass.UNREADABLE
            self.detail = error.strerror or str(error)


def lookup_id(root: str, path: str) -> str:
    """Return the digest that NFC and NFD spellings of a path share."""
    return file_id(root, path_key(path))


def files_by_lookup(connection: Connection, wanted: set[str]) -> dict[str, list[KnownFile]]:
    """Return the scanned files with the wanted lookup ids."""
    names = [name for name in KnownFile.__dataclass_fields__ if name != "sniffed_now"]
    columns = [file_table.c[name] for name in names]
    found: dict[str, list[KnownFile]] = {}
    if wanted:
        query = sa.select(file_table.c.lookup_id, *columns).where(file_table.c.lookup_id.in_(wanted))
        for row in connection.execute(query):
            found.setdefault(row.lookup_id, []).append(KnownFile(*row[1:]))
    return found


def best_file(root: str, candidates: tuple[str, ...], files: dict[str, list[KnownFile]]) -> KnownFile | None:
    """Return the file of the likeliest candidate; among NFC/NFD twins the one spelled alike."""
    for path in candidates:
        same = files.get(lookup_id(root, path), [])
        if same:
            return next((file for file in same if file.path == path), same[0])
    return None


def store_sniffed(connection: Connection, files: Iterable[KnownFile]) -> None:
    """Keep what a look at the files' content told, so that they are not opened again."""
    rows = [{"k": file.file_id, "f": file.format, "u": file.unsupported} for file in files]
    if rows:
        statement = (
            sa.update(file_table)
            .where(file_table.c.file_id == sa.bindparam("k"))
            .values(format=sa.bindparam("f"), unsupported=sa.bindparam("u"))
        )
        connection.execute(statement, rows)
