"""Who is told what, and when: once an alert, over every channel for itself, and nothing is lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from photo_pipeline.core.alerts.alert import Alert, AlertKind, Message
from photo_pipeline.core.alerts.channels.base import AlertChannel
from photo_pipeline.core.alerts.delivery import Delivery
from photo_pipeline.core.alerts.register import observe, record_event
from photo_pipeline.core.alerts.watch import report_event, send_test
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import alert_delivery_table
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.errors import DatabaseError
from photo_pipeline_tests.core.alerts.conftest import World, some_alert
from photo_pipeline_tests.receivers import Mailbox, Webhook, mail_server, webhook_server
from photo_pipeline_tests.sockets import free_port

TIER = {"plan": "aws-legacy-free-tier"}


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook_server() as running:
        monkeypatch.setenv("PHOTO_PIPELINE_SLACK_WEBHOOK_URL", running.url)
        yield running


@pytest.fixture
def near_limit(world: World, webhook: Webhook) -> World:
    """An installation at 80 % of its PUTs, whose one channel is the webhook."""
    world.parts["limits"] = TIER
    world.configure(channels=["slack"])
    world.use(Unit.PUTS, 1_620)
    return world


def starts(webhook: Webhook) -> list[str]:
    return [text.partition("\n")[0].strip("*")[:40] for text in webhook.texts]


def near(webhook: Webhook) -> list[str]:
    return [text for text in webhook.texts if "nears a limit" in text]


NEAR, OVER = "Spending nears a limit: 81% of PUT, COPY", "Resolved: Spending nears a limit: 81% of"


def test_an_alert_is_told_once_again_after_the_interval_and_when_it_is_over(
    near_limit: World, webhook: Webhook
) -> None:
    near_limit.look()
    assert NEAR in starts(webhook)
    told = len(webhook.texts)
    for _ in range(3):
        near_limit.later(minutes=1)
        near_limit.look()
    assert len(webhook.texts) == told
    near_limit.later(hours=24)
    near_limit.look()
    assert starts(webhook).count(NEAR) == 2
    near_limit.use(Unit.PUTS, -1_000)
    near_limit.look()
    near_limit.later(minutes=6)
    near_limit.look()
    near_limit.later(hours=48)
    near_limit.look()
    assert [each[:31] for each in starts(webhook)].count(OVER[:31]) == 1
    assert "cost_near_limit" not in near_limit.open_kinds()


def test_what_comes_and_goes_within_minutes_is_told_once(near_limit: World, webhook: Webhook) -> None:
    for amount in (0, -200, 200, -200, 200):
        near_limit.use(Unit.PUTS, amount)
        near_limit.look()
        near_limit.later(minutes=2)
    assert len(near(webhook)) == 1


def test_what_is_over_and_comes_again_is_told_again(near_limit: World, webhook: Webhook) -> None:
    near_limit.look()
    near_limit.use(Unit.PUTS, -200)
    near_limit.later(minutes=6)
    near_limit.look()
    near_limit.use(Unit.PUTS, 200)
    near_limit.look()
    assert len(near(webhook)) == 3
    (state,) = [each for each in near_limit.states() if each.kind == "cost_near_limit"]
    assert (state.times, state.first_seen_at) == (2, near_limit.now)


def test_a_dead_channel_keeps_nobody_else_waiting_and_gets_its_message_later(
    near_limit: World, webhook: Webhook
) -> None:
    port = free_port()
    about: dict[str, Any] = {"host": "127.0.0.1", "port": port, "security": "none"}
    about |= {"sender": "p@shop.example", "recipients": ["ops@shop.example"]}
    near_limit.configure(channels=["email", "slack", "log"], email=about)
    looked = near_limit.look()
    assert {each.channel for each in looked.failures} == {"email"}
    assert NEAR in starts(webhook)
    (state,) = [each for each in near_limit.states() if each.kind == "cost_near_limit"]
    shown = {each.channel: (each.told, each.failures, bool(each.error)) for each in state.channels}
    assert shown == {"email": (None, 1, True), "slack": ("open", 0, False), "log": ("open", 0, False)}
    # It is over before the mail server is back: that it was is told all the same.
    near_limit.use(Unit.PUTS, -1_600)
    near_limit.later(minutes=6)
    near_limit.look()
    with mail_server(port=port) as mailbox:
        near_limit.later(minutes=1)
        assert near_limit.look().failures == []
        (mail,) = [each for each in mailbox.mails if "nears a limit" in each["Subject"]]
        assert mail["Subject"].startswith("[photo_pipeline] Resolved: Spending nears a limit")
        near_limit.later(minutes=1)
        near_limit.look()
        assert len(mailbox.mails) == len({each["Subject"] for each in mailbox.mails})


def test_a_channel_that_is_set_up_later_is_told_what_is_open_and_not_what_is_over(
    near_limit: World, webhook: Webhook
) -> None:
    near_limit.configure(channels=["log"])
    near_limit.use(Unit.GETS, 17_000)
    near_limit.look()
    near_limit.use(Unit.GETS, -17_000)
    near_limit.later(minutes=6)
    near_limit.look()
    near_limit.configure(channels=["log", "slack"])
    near_limit.look()
    assert near(webhook)
    assert not any("GET" in text.partition("\n")[0] for text in webhook.texts)


class Recording(AlertChannel):
    """A channel in memory, which may wait for others to come."""

    def __init__(self, meet: Callable[[], object] = lambda: None) -> None:
        self.messages: list[Message] = []
        self._meet = meet

    def send(self, message: Message) -> str | None:
        self._meet()
        self.messages.append(message)
        return None


def delivery(channel: AlertChannel) -> Delivery:
    return Delivery({"log": channel}, "bucket shop", timedelta(hours=24))


@pytest.mark.parametrize("world", ["sqlite", "postgres"], indirect=True)
def test_processes_that_look_at_once_send_each_message_once(world: World) -> None:
    alerts = [some_alert(f"thing {number}") for number in range(5)]
    channel, barrier = Recording(), threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        world.database.transact(lambda connection: observe(connection, alerts, world.now))
        delivery(channel).dispatch(world.database, world.now)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.alert.subject for each in channel.messages) == [a.subject for a in alerts]
    assert {state.times for state in world.states()} == {1}


def test_a_message_of_a_process_that_died_while_sending_is_sent_by_the_next(world: World) -> None:
    class DiedError(BaseException):
        pass

    def die() -> None:
        raise DiedError

    world.write(lambda connection: observe(connection, [some_alert()], world.now))
    with pytest.raises(DiedError):
        delivery(Recording(die)).dispatch(world.database, world.now)
    channel = Recording()
    delivery(channel).dispatch(world.database, world.now)
    assert channel.messages == []  # it may still be sending
    world.later(minutes=3)
    delivery(channel).dispatch(world.database, world.now)
    assert len(channel.messages) == 1


def test_one_that_grew_is_told_at_once_and_one_that_shrank_is_not(world: World) -> None:
    channel = Recording()
    for level in (3, 2, 5, 5):
        world.later(minutes=1)
        alert = some_alert(level=level)
        world.write(lambda connection, alert=alert: observe(connection, [alert], world.now))
        delivery(channel).dispatch(world.database, world.now)
    assert [message.alert.level for message in channel.messages] == [3, 5]


def test_an_event_is_told_again_only_if_it_happened_again(world: World) -> None:
    channel = Recording()
    event = Alert(AlertKind.RUN_FAILED, "migrate: StoreError", "The run migrate has failed", "S3 is down.")

    def happen_and_tell(*, happens: bool) -> None:
        if happens:
            world.write(lambda connection: record_event(connection, event, world.now))
        delivery(channel).dispatch(world.database, world.now)

    for _ in range(10):
        happen_and_tell(happens=True)
        world.later(minutes=1)
    assert len(channel.messages) == 1
    for happens in (False, False, True):
        world.later(hours=25)
        happen_and_tell(happens=happens)
    # The second tells of the nine that came after the first.
    assert [message.times for message in channel.messages] == [1, 10, 11]
    assert not any(message.resolved for message in channel.messages)


def test_an_event_is_told_although_the_database_is_away(world: World, webhook: Webhook) -> None:
    world.configure(channels=["slack"])
    event = Alert(AlertKind.RUN_FAILED, "migrate: DatabaseError", "The run migrate has failed", "It is away.")

    def away() -> Database:
        raise DatabaseError("the database", cause="it does not answer", fix="start it")

    (sent,) = report_event(away, world.config, event)
    assert sent.was_sent
    assert "could not be written down" in webhook.texts[0]
    assert "it does not answer" in webhook.texts[0]


def test_the_test_message_goes_to_each_channel_and_leaves_nothing(world: World, webhook: Webhook) -> None:
    with ExitStack() as stack:
        mailbox: Mailbox = stack.enter_context(mail_server())
        about: dict[str, Any] = {"host": "127.0.0.1", "port": mailbox.port, "security": "none"}
        about |= {"sender": "p@shop.example", "recipients": ["ops@shop.example"]}
        world.configure(channels=["email", "slack"], email=about)
        assert all(each.was_sent for each in send_test(world.config))
        webhook.status = 500
        sent = {each.channel: each.was_sent for each in send_test(world.config)}
    assert sent == {"email": True, "slack": False}
    assert len(mailbox.mails) == 2
    with world.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count(alert_delivery_table.c.kind))).scalar_one() == 0
    assert world.states() == []
