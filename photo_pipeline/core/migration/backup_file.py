"""The form of a backup file: Parquet, readable by any tool, that says by itself what it is and is whole.

Its name carries the SHA-256 of its bytes, and its metadata everything that a restore needs to find the rows
again. When files are made is `backup`; what is done with them is `restore` and `catalog.rebuild`.
"""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.sources.mapping import Source
from photo_pipeline.core.storage.checksum import sha256_hex

_VERSION = 1
_METADATA = b"photo_pipeline"
_NAME = re.compile(r"-(?P<sha256>[0-9a-f]{64})\.parquet$")


class BackupKind(StrEnum):
    """What a file's rows are."""

    ROWS = "rows"
    """One per cell, as it was before its rewrite: row_key, column, value, type, contents."""
    LEDGER = "ledger"
    """The rewrites of the batch, with the columns of `pp_rewrite`."""
    PHOTOS = "photos"
    """The catalog of the batch, with the columns of `pp_photo`."""


@dataclass(frozen=True)
class BackupFile:
    """One file's content.

    Attributes:
        kind: What its rows are.
        batch: The batch that was about to be rewritten, or had been.
        run: The run that made the file.
        source: The mapping of the rows' source, as it was.
        made_at: When the rows were read.
        rows: The rows, as `kind` says.
        facts: More about the installation: dialect, bucket, prefixes, CDN, recipes.
        name: How errors call it.
    """

    kind: BackupKind
    batch: str
    run: str
    source: Source
    made_at: datetime
    rows: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    def encoded(self) -> bytes:
        """Return the file's bytes."""
        import pyarrow as pa  # 0.3 s, which every other command would pay
        import pyarrow.parquet as pq

        header = {
            "version": _VERSION,
            "kind": self.kind,
            "batch": self.batch,
            "run": self.run,
            "source": self.source.model_dump(mode="json", by_alias=True),
            "made_at": self.made_at.isoformat(),
            "facts": dict(self.facts),
        }
        table = pa.Table.from_pylist([dict(row) for row in self.rows])
        table = table.replace_schema_metadata({_METADATA: json.dumps(header).encode()})
        stream = io.BytesIO()
        pq.write_table(table, stream, compression="zstd")
        return stream.getvalue()

    def file_name(self, data: bytes) -> str:
        """Return the path of the file, below the folder of all backups, if `data` are its bytes."""
        moment = f"{self.made_at:%Y%m%dT%H%M%S.%f}"
        name = f"{moment}-{self.run[:8]}-{self.source.name[:80]}-{self.kind}-{sha256_hex(data)}.parquet"
        return f"{self.batch}/{name}"


def is_backup_name(path: str) -> bool:
    """Return whether a file of that name or key is one of ours."""
    return _NAME.search(path) is not None


def decode(name: str, data: bytes) -> BackupFile:
    """Return the content of a backup file.

    Args:
        name: Its name, path or key; it carries the checksum.
        data: Its bytes.

    Raises:
        ConfigurationError: the bytes are not those that were written, or they are of a newer version.
    """
    import pyarrow.parquet as pq  # as above

    named = _NAME.search(name)
    if named is None or sha256_hex(data) != named["sha256"]:
        raise _damaged(name, "its content is not what its name vouches for")
    table = pq.read_table(io.BytesIO(data))
    header = json.loads(table.schema.metadata[_METADATA])
    if header["version"] != _VERSION:
        cause = f"it has version {header['version']}, which this photo_pipeline does not know"
        raise ConfigurationError(f"backup {name}", cause=cause, fix="use the photo_pipeline that made it")
    return BackupFile(
        kind=BackupKind(header["kind"]),
        batch=header["batch"],
        run=header["run"],
        source=Source.model_validate(header["source"]),
        made_at=datetime.fromisoformat(header["made_at"]),
        rows=table.to_pylist(),
        facts=header["facts"],
        name=name,
    )


def _damaged(name: str, cause: str) -> ConfigurationError:
    return ConfigurationError(
        f"backup {name}",
        cause=cause,
        fix="take the copy in the bucket (restore --from-bucket), or the one in state.backup_dir; "
        "nothing was restored",
    )
