"""What the rows behind each asset are, as Dagster shows them: names, types and meanings of columns.

Types and whether a value may be missing come from the state tables; the sentences are here.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import sqlalchemy as sa

from photo_pipeline.core.catalog.tables import (
    object_table,
    photo_table,
    rewrite_table,
    validation_table,
)


def described(table: sa.Table, meanings: Mapping[str, str]) -> dict[str, Any]:
    """Return an asset's metadata that names its table and describes the columns worth knowing.

    Raises:
        KeyError: the table has no column of that name.
    """
    columns = [
        dg.TableColumn(
            name,
            type=str(table.c[name].type).lower(),
            description=meaning,
            constraints=dg.TableColumnConstraints(nullable=bool(table.c[name].nullable)),
        )
        for name, meaning in meanings.items()
    ]
    return {"dagster/table_name": table.name, "dagster/column_schema": dg.TableSchema(columns)}


INVENTORY = described(
    photo_table,
    {
        "source": "The source of the mapping whose row names the photo; empty for a file that no row names.",
        "row_key": "The row's key, as a JSON list of its columns' values.",
        "field": "The field of the mapping that names it.",
        "value": "What the application's column says.",
        "root": "The folder of the mapping that the file is in.",
        "path": "Where in that folder, as the disk spells it.",
        "size": "Bytes.",
        "format": "What the content is, whatever the file's ending says.",
        "class": "The one class that it is in: matched, file missing, unsupported, too large, ...",
        "class_detail": "Why it is in that class.",
    },
)
CHECKSUMS = described(
    photo_table,
    {
        "sha256": "Of the file's bytes; the same for exact duplicates, which share their objects.",
        "batch": "The batch that it is migrated in, for ever; also the name of Dagster's partition.",
        "state": "How far it has come.",
    },
)
OBJECTS = described(
    object_table,
    {
        "bucket": "Where it is.",
        "key": "Its name there; made of the source's checksum, the recipe, the variant and the format.",
        "source_sha256": "Of the local photo that it was made of.",
        "variant": "full, thumb, ... or original.",
        "format": "avif, webp, jpeg, or the original's own.",
        "bytes": "Its size.",
        "width": "Pixels.",
        "height": "Pixels.",
        "quality": "The encoder's quality that fits the byte target.",
        "met_target": "Whether it fits the byte target; a miss is recorded, never hidden.",
        "checksum": "SHA-256 of its bytes.",
        "verified_at": "When the store proved that it has these bytes.",
        "verified_by": "How: by checksum, or by MD5 where the store knows no SHA-256.",
    },
)
REWRITES = described(
    rewrite_table,
    {
        "source": "The source of the mapping.",
        "row_key": "The row's key, as a JSON list.",
        "column": "The application's column.",
        "before": "What it said; what a rollback sets again.",
        "after": "What it says now.",
        "outcome": "applied, conflict, failed, rolled_back, ...",
        "reason": "Why it was not applied.",
        "applied_at": "When, in the same transaction as the change.",
        "rolled_back_at": "When it went back.",
    },
)
VALIDATIONS = described(
    validation_table,
    {
        "photo_id": "The photo (pp_photo.id).",
        "ok": "Whether everything about it is as it should be.",
        "problems": "What is not, in sentences.",
        "checked_at": "When.",
    },
)
