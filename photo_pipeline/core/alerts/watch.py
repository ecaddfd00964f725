"""One look at an installation: what is wrong, written down, and told to whoever has not heard it yet."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from photo_pipeline.core.alerts.alert import Alert, AlertKind, Message
from photo_pipeline.core.alerts.channels.registry import open_channels
from photo_pipeline.core.alerts.conditions import find_conditions
from photo_pipeline.core.alerts.delivery import Delivery, Sent
from photo_pipeline.core.alerts.register import close_quiet_events, observe, record_event
from photo_pipeline.core.alerts.situation import Situation
from photo_pipeline.core.alerts.slow_checks import run_due
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import PhotoPipelineError


@dataclass(frozen=True)
class Looked:
    """What one look found and told.

    Attributes:
        holds: The conditions that hold.
        sent: Messages, also those that could not be sent.
    """

    holds: tuple[Alert, ...]
    sent: tuple[Sent, ...]

    @property
    def failures(self) -> list[Sent]:
        """What could not be sent, or not to everybody."""
        return [each for each in self.sent if each.error]


def look(
    database: Database,
    config: PipelineConfig,
    *,
    clock: Callable[[], datetime] = utc_now,
    thoroughly: bool = False,
) -> Looked:
    """Find what is wrong, write it down, and tell what is new, worse, over, or due again.

    Args:
        database: The application's database.
        config: What is looked for, and who is told.
        clock: Tells the time in UTC.
        thoroughly: Also what takes too long for each minute, and is not due yet (`slow_checks`).

    Raises:
        DatabaseError: the database does not answer: nothing is told.
    """
    ensure_schema(database)
    now = clock()
    situation = Situation(database, config, now)
    run_due(situation, now_all=thoroughly)
    holds = find_conditions(situation)
    delivery = _delivery(config)

    def write(connection: Connection) -> None:
        observe(connection, holds, now)
        close_quiet_events(connection, now - delivery.repeat)

    database.transact(write)
    return Looked(tuple(holds), tuple(delivery.dispatch(database, now)))


def report_event(
    open_database: Callable[[], Database],
    config: PipelineConfig,
    alert: Alert,
    *,
    clock: Callable[[], datetime] = utc_now,
) -> list[Sent]:
    """Write down that something happened, and tell it.

    Where the database does not answer (which may be what the alert is about), it is told at once, and may be
    told again.
    """
    now = clock()
    try:
        database = open_database()
        try:
            ensure_schema(database)
            database.transact(lambda connection: record_event(connection, alert, now))
            return _delivery(config).dispatch(database, now)
        finally:
            database.close()
    except PhotoPipelineError as error:
        reason = f"The alert could not be written down, and may come again: {error}"
        noted = Alert(alert.kind, alert.subject, alert.title, f"{alert.detail}\n{reason}")
        return tell(config, noted, now)


def tell(config: PipelineConfig, alert: Alert, now: datetime) -> list[Sent]:
    """Tell every channel, without the state tables and whatever it was told before."""
    message = Message(alert, _installation(config), resolved=False, times=1, since=now)
    return [_told(name, channel.send, message) for name, channel in open_channels(config.alerts).items()]


def send_test(config: PipelineConfig) -> list[Sent]:
    """Send a test message over each channel."""
    title = "This is a test: the alerts of photo_pipeline arrive here"
    alert = Alert(AlertKind.TEST, "test", title, "Somebody has run: photo-pipeline alerts test")
    return tell(config, alert, utc_now())


def _told(name: str, send: Callable[[Message], str | None], message: Message) -> Sent:
    try:
        return Sent(name, message.title, send(message))
    except PhotoPipelineError as error:
        return Sent(name, message.title, str(error), was_sent=False)


def _delivery(config: PipelineConfig) -> Delivery:
    settings = config.alerts
    repeat = timedelta(hours=settings.repeat_hours)
    return Delivery(open_channels(settings), _installation(config), repeat)


def _installation(config: PipelineConfig) -> str:
    return f"bucket {config.store.bucket}"
