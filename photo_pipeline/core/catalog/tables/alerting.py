"""What is wrong, and who was told."""

import sqlalchemy as sa

from photo_pipeline.core.catalog.tables.base import UtcDateTime, metadata

# One row per alert: something that is wrong (a condition), or that went wrong (an event).
alert_table = sa.Table(
    "pp_alert",
    metadata,
    sa.Column("kind", sa.String(32), primary_key=True),  # a core.alerts.alert.AlertKind
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("title", sa.String(255), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("level", sa.BigInteger, nullable=False),  # a higher one is told at once
    sa.Column("times", sa.BigInteger, nullable=False),  # how often it was raised
    sa.Column("first_seen_at", UtcDateTime, nullable=False),
    sa.Column("last_seen_at", UtcDateTime, nullable=False),
    sa.Column("resolved_at", UtcDateTime, index=True),  # null while it is open
    sa.Column("last_sent_at", UtcDateTime),  # over any channel
)

# What each channel has been told of an alert, and why it could not be.
alert_delivery_table = sa.Table(
    "pp_alert_delivery",
    metadata,
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("channel", sa.String(32), primary_key=True),
    sa.Column("told", sa.String(16)),  # open | resolved; null: nothing yet
    sa.Column("level", sa.BigInteger, nullable=False),  # the alert's when it was told
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Column("sent_at", UtcDateTime),
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    sa.Column("error", sa.Text),
    sa.Column("failed_at", UtcDateTime),
    sa.Column("claimed_until", UtcDateTime),  # somebody is sending it
)

# What the looks found that take too long for each minute.
check_table = sa.Table(
    "pp_check",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("checked_at", UtcDateTime, nullable=False),
    sa.Column("findings", sa.BigInteger, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),  # the first of them, for people
    sa.Column("error", sa.Text),  # why the last look could not be made; what was found before stays
)
