"""Tells the channels what they have not been told yet, each for itself.

A message that fails is kept with its reason and sent at the next look; the other channels go on. Two
processes that look at once do not send twice: a message is claimed before it is sent. Where one dies in
between, it is sent again later: in a crash a message may come twice, and is never lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.alerts.alert import EVENTS, Message
from photo_pipeline.core.alerts.channels.base import AlertChannel, AlertChannelError
from photo_pipeline.core.alerts.register import alert_of
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import alert_delivery_table, alert_table
from photo_pipeline.core.errors import PhotoPipelineError

OPEN, RESOLVED = "open", "resolved"
_CLAIM: Final = timedelta(minutes=2)


@dataclass(frozen=True)
class Sent:
    """One message of one channel; `error` says why it could not be sent, or what went wrong with it."""

    channel: str
    title: str
    error: str | None = None
    was_sent: bool = True


class _Due(NamedTuple):
    kind: str
    subject: str
    channel: str


@dataclass(frozen=True)
class Delivery:
    """What is told, and how often.

    Attributes:
        channels: The configured ones.
        installation: Named in each message.
        repeat: After which time an alert that is still open is told again.
    """

    channels: Mapping[str, AlertChannel]
    installation: str
    repeat: timedelta

    def dispatch(self, database: Database, now: datetime) -> list[Sent]:
        """Send everything that is due; return what was sent, and what could not be.

        A channel that does not answer is asked once: what else it has to tell waits for the next look.
        """
        with database.read() as connection:
            due = self._due(connection, now)
        done: list[Sent] = []
        dead: dict[str, AlertChannelError] = {}
        for each in due:
            message = database.transact(partial(self._claim, due=each, now=now))
            if message is not None:
                done.append(self._send(database, each, message, dead, now))
        return done

    def _due(self, connection: Connection, now: datetime) -> list[_Due]:
        columns, told = alert_table.c, alert_delivery_table.c
        deliveries = {
            _Due(row.kind, row.subject, row.channel): row
            for row in connection.execute(
                sa.select(alert_delivery_table).where(told.channel.in_(list(self.channels)))
            )
        }
        alerts = connection.execute(sa.select(alert_table).order_by(columns.first_seen_at)).all()
        candidates = ((_Due(row.kind, row.subject, name), row) for row in alerts for name in self.channels)
        return [each for each, row in candidates if self._is_due(row, deliveries.get(each), now)]

    def _is_due(self, alert: Any, delivery: Any | None, now: datetime) -> bool:
        """Return whether the channel has something to tell of the alert."""
        if delivery is not None and delivery.claimed_until is not None and delivery.claimed_until > now:
            return False
        if alert.resolved_at is not None:
            return self._owes_the_end(alert, delivery)
        if delivery is None or delivery.told != OPEN or alert.level > delivery.level:
            return True
        happened = alert.kind not in EVENTS or alert.times > delivery.times
        return bool(happened and delivery.sent_at + self.repeat <= now)

    def _owes_the_end(self, alert: Any, delivery: Any | None) -> bool:
        """Return whether the channel must still tell of an alert that is over.

        One that it never could tell is told late; that an event has not happened again is no news.
        """
        if delivery is None:
            return False
        return delivery.told is None or (delivery.told == OPEN and alert.kind not in EVENTS)

    def _claim(self, connection: Connection, due: _Due, now: datetime) -> Message | None:
        """Return the message, if it is still due and nobody else is sending it."""
        columns, told = alert_table.c, alert_delivery_table.c
        alert = connection.execute(
            sa.select(alert_table)
            .where(columns.kind == due.kind, columns.subject == due.subject)
            .with_for_update()
        ).one()
        delivery = connection.execute(
            sa.select(alert_delivery_table).where(
                told.kind == due.kind, told.subject == due.subject, told.channel == due.channel
            )
        ).one_or_none()
        if not self._is_due(alert, delivery, now):
            return None
        if delivery is None:
            # Two that insert at once: the alert's row, locked above, lets one of them come first.
            first = due._asdict() | {"level": 0, "times": 0, "failures": 0}
            connection.execute(sa.insert(alert_delivery_table), first)
        connection.execute(_mine(due).values(claimed_until=now + _CLAIM))
        over = alert.resolved_at is not None and alert.kind not in EVENTS
        return Message(alert_of(alert), self.installation, over, alert.times, alert.first_seen_at)

    def _send(
        self,
        database: Database,
        due: _Due,
        message: Message,
        dead: dict[str, AlertChannelError],
        now: datetime,
    ) -> Sent:
        try:
            if due.channel in dead:
                raise dead[due.channel]
            remark = self.channels[due.channel].send(message)
        except PhotoPipelineError as error:
            if isinstance(error, AlertChannelError):
                dead[due.channel] = error
            failed = str(error)
            database.transact(lambda connection: _note_failure(connection, due, failed, now))
            return Sent(due.channel, message.title, failed, was_sent=False)
        database.transact(lambda connection: _note_sent(connection, due, message, remark, now))
        return Sent(due.channel, message.title, remark)


def _note_failure(connection: Connection, due: _Due, error: str, now: datetime) -> None:
    failures = alert_delivery_table.c.failures + 1
    values = {"error": error, "failed_at": now, "failures": failures, "claimed_until": None}
    connection.execute(_mine(due).values(values))


def _note_sent(
    connection: Connection, due: _Due, message: Message, remark: str | None, now: datetime
) -> None:
    values = {
        "told": RESOLVED if message.resolved else OPEN,
        "level": message.alert.level,
        "times": message.times,
        "sent_at": now,
        "error": remark,
        "failures": 0,
        "claimed_until": None,
    }
    connection.execute(_mine(due).values(values))
    columns = alert_table.c
    alert = sa.update(alert_table).where(columns.kind == due.kind, columns.subject == due.subject)
    connection.execute(alert.values(last_sent_at=now))


def _mine(due: _Due) -> sa.Update:
    told = alert_delivery_table.c
    return sa.update(alert_delivery_table).where(
        told.kind == due.kind, told.subject == due.subject, told.channel == due.channel
    )
