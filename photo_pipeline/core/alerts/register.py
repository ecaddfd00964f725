"""The alerts that are or were: one row each, opened, seen again, resolved. Who is told is `delivery`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.alerts.alert import EVENTS, Alert, AlertKind
from photo_pipeline.core.catalog.database import insert_or_update
from photo_pipeline.core.catalog.tables import alert_delivery_table, alert_table

SETTLE: Final = timedelta(minutes=5)
"""How long a condition must be unseen until it is over; so that one that comes and goes is told once."""


@dataclass(frozen=True)
class ChannelState:
    """What one channel has been told of an alert.

    Attributes:
        channel: Its name.
        told: open or resolved; None: nothing yet.
        sent_at: When (UTC).
        error: Why the last try failed, or what went wrong although it was sent; None if nothing did.
        failures: How many tries failed in a row.
    """

    channel: str
    told: str | None
    sent_at: datetime | None
    error: str | None
    failures: int


@dataclass(frozen=True)
class AlertState:
    """One row of the register, as people see it."""

    kind: str
    subject: str
    title: str
    detail: str
    times: int
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    last_sent_at: datetime | None
    channels: tuple[ChannelState, ...]

    @property
    def is_open(self) -> bool:
        """Whether it still holds."""
        return self.resolved_at is None


def observe(connection: Connection, found: Iterable[Alert], now: datetime) -> None:
    """Bring the register up to what holds now: open what is new, resolve what is over.

    Args:
        connection: In a write transaction.
        found: Every condition that holds.
        now: In UTC.
    """
    columns = alert_table.c
    held = {(alert.kind, alert.subject): alert for alert in found}
    for alert in held.values():
        _see(connection, alert, now, again=False)
    conditions = sa.select(columns.kind, columns.subject).where(
        columns.resolved_at.is_(None), columns.kind.not_in(EVENTS), columns.last_seen_at <= now - SETTLE
    )
    for kind, subject in connection.execute(conditions).all():
        if (kind, subject) not in held:
            _resolve(connection, kind, subject, now)


def record_event(connection: Connection, alert: Alert, now: datetime) -> None:
    """Write down that it happened (again)."""
    _see(connection, alert, now, again=True)


def close_quiet_events(connection: Connection, before: datetime) -> None:
    """Resolve the events that have not happened again since `before`."""
    columns = alert_table.c
    quiet = sa.select(columns.kind, columns.subject).where(
        columns.resolved_at.is_(None), columns.kind.in_(EVENTS), columns.last_seen_at < before
    )
    for kind, subject in connection.execute(quiet).all():
        _resolve(connection, kind, subject, before)


def _see(connection: Connection, alert: Alert, now: datetime, *, again: bool) -> None:
    columns = alert_table.c
    mine = (columns.kind == alert.kind, columns.subject == alert.subject)
    row = connection.execute(sa.select(alert_table).where(*mine).with_for_update()).one_or_none()
    values: dict[str, Any] = {
        "kind": alert.kind,
        "subject": alert.subject,
        "title": alert.title,
        "detail": alert.detail,
        "level": alert.level,
        "times": 1 if row is None else row.times + (again or row.resolved_at is not None),
        "first_seen_at": now if row is None or row.resolved_at is not None else row.first_seen_at,
        "last_seen_at": now,
        "resolved_at": None,
    }
    insert_or_update(connection, alert_table, [values])


def _resolve(connection: Connection, kind: str, subject: str, now: datetime) -> None:
    columns = alert_table.c
    mine = sa.update(alert_table).where(columns.kind == kind, columns.subject == subject)
    connection.execute(mine.values(resolved_at=now))


def alert_states(connection: Connection, channels: Iterable[str], *, resolved: int = 0) -> list[AlertState]:
    """Return the open alerts, the newest first, and the last `resolved` ones that are over.

    Args:
        connection: In any transaction.
        channels: The configured ones; what others were told earlier is left out.
        resolved: How many that are over.
    """
    columns, told = alert_table.c, alert_delivery_table.c
    is_open = sa.select(alert_table).where(columns.resolved_at.is_(None))
    over = sa.select(alert_table).where(columns.resolved_at.is_not(None))
    rows = connection.execute(is_open.order_by(columns.first_seen_at.desc())).all()
    if resolved:
        rows = [*rows, *connection.execute(over.order_by(columns.resolved_at.desc()).limit(resolved)).all()]
    deliveries: dict[tuple[str, str], list[ChannelState]] = {}
    query = sa.select(alert_delivery_table).where(told.channel.in_(list(channels))).order_by(told.channel)
    for each in connection.execute(query):
        state = ChannelState(each.channel, each.told, each.sent_at, each.error, each.failures)
        deliveries.setdefault((each.kind, each.subject), []).append(state)
    return [_state(row, tuple(deliveries.get((row.kind, row.subject), ()))) for row in rows]


def _state(row: Any, channels: tuple[ChannelState, ...]) -> AlertState:
    return AlertState(
        kind=row.kind,
        subject=row.subject,
        title=row.title,
        detail=row.detail,
        times=row.times,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        resolved_at=row.resolved_at,
        last_sent_at=row.last_sent_at,
        channels=channels,
    )


def alert_of(row: Any) -> Alert:
    """Return the alert that a row of the register tells of."""
    return Alert(AlertKind(row.kind), row.subject, row.title, row.detail, row.level)
