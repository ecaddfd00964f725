"""The hash chain of what was done; written and read by `core.audit` only."""

import sqlalchemy as sa

from photo_pipeline.core.catalog.tables.base import SHA, UtcDateTime, metadata

audit_table = sa.Table(
    "pp_audit",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3, ... without a gap
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("run", sa.String(64), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("batch", sa.String(32)),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),  # canonical JSON
    sa.Column("previous_hash", SHA, nullable=False),
    sa.Column("hash", SHA, nullable=False),
)

# One row: the last entry. Writers queue for it, and without it a cut-off end of the log would not show.
audit_head_table = sa.Table(
    "pp_audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hash", SHA, nullable=False),
)
