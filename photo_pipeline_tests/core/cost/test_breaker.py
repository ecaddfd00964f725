"""The breaker that all processes share: when it opens, how long, and what closes it."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.breaker import LOCK_OUT, RESET, read_breaker
from photo_pipeline.core.cost.budget import Budget, Used
from photo_pipeline.core.cost.guard import CostGuard, projected
from photo_pipeline.core.cost.meter import Meter
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.errors import BudgetError, ConfigurationError
from photo_pipeline_tests.core.cost.budgets import no_limits, puts
from photo_pipeline_tests.core.cost.conftest import OpenDatabase
from photo_pipeline_tests.databases import DATABASES


class Scene:
    """A database with a clock that stands still until it is moved."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = datetime(2026, 11, 15, tzinfo=UTC)

    def guard(self, budget: Budget | None = None) -> CostGuard:
        return CostGuard(self.database, budget or puts(100), clock=lambda: self.now)

    def use(self, amount: int) -> None:
        with self.database.write() as connection:
            ledger.add(connection, month_of(self.now), {Unit.PUTS: amount})

    def state(self) -> str:
        with self.database.read() as connection:
            return read_breaker(connection).state

    def is_open(self, budget: Budget | None = None) -> bool:
        try:
            self.guard(budget).require_open()
        except BudgetError:
            return True
        return False


@pytest.fixture
def scene(new_database: OpenDatabase) -> Scene:
    return Scene(new_database())


@DATABASES
def test_it_opens_at_90_percent_for_every_process(database: str, new_database: OpenDatabase) -> None:
    scene = Scene(new_database(database))
    scene.use(89)
    scene.guard().require_open()
    assert scene.state() == "closed"
    scene.use(1)
    with pytest.raises(BudgetError, match=r"90 of 100 PUT, COPY, POST and LIST requests are used \(90%\)"):
        scene.guard().require_open()
    assert scene.state() == "open"
    with closing(Database.open(scene.database.engine.url.render_as_string(hide_password=False))) as other:
        scene.database = other
        assert scene.is_open()


def test_it_stays_open_for_five_minutes_although_there_is_room_again(scene: Scene) -> None:
    scene.use(95)
    assert scene.is_open()
    scene.use(-50)
    scene.now += RESET - timedelta(seconds=1)
    assert scene.is_open()
    scene.now += timedelta(seconds=1)
    assert not scene.is_open()
    assert scene.state() == "closed"


def test_a_trial_without_room_opens_it_for_another_five_minutes(scene: Scene) -> None:
    scene.use(95)
    assert scene.is_open()
    scene.now += RESET
    assert scene.is_open()
    scene.use(-50)
    scene.now += RESET - timedelta(seconds=1)
    assert scene.is_open()


@pytest.mark.parametrize("change", ["another month", "a higher limit"])
def test_after_the_lock_out_another_month_or_limit_closes_it(scene: Scene, change: str) -> None:
    scene.now = datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC)
    scene.use(95)
    assert scene.is_open()
    budget = puts(1_000) if change == "a higher limit" else puts(100)
    scene.now += LOCK_OUT - timedelta(seconds=1)  # December has begun
    if change == "a higher limit":
        scene.use(95)
    assert scene.is_open(budget)
    scene.now += timedelta(seconds=1)
    assert not scene.is_open(budget)


def test_an_override_needs_a_reason_is_audited_and_ends_with_the_month(scene: Scene) -> None:
    scene.use(95)
    assert scene.is_open()
    guard = scene.guard()
    with pytest.raises(ConfigurationError, match="--reason"):
        guard.override(reason=" ", run="r", by="anna@desk")
    until = guard.override(reason="the boss pays", run="r", by="anna@desk")
    assert until == datetime(2026, 12, 1, tzinfo=UTC)
    scene.use(50)
    assert not scene.is_open()
    with (
        closing(Meter(scene.database)) as meter,
        guard.spending(meter, {Unit.PUTS: 70}, batch="b") as spending,
    ):
        assert spending.stopped() is None
    assert "anna@desk: the boss pays" in guard.status().sentence
    with scene.database.read() as connection:
        assert audit.verify(connection).holds
        (entry,) = audit.entries(connection, last=5)
    assert (entry.actor, entry.action, entry.details["reason"]) == (
        "anna@desk",
        "cost override",
        "the boss pays",
    )
    scene.now = until
    scene.use(95)
    assert scene.is_open()


def test_an_override_can_be_taken_back(scene: Scene) -> None:
    scene.use(95)
    scene.guard().override(reason="x", run="r")
    assert not scene.is_open()
    scene.guard().end_override(run="r")
    assert scene.is_open()


def test_without_limits_nothing_is_refused_and_an_override_makes_no_sense(scene: Scene) -> None:
    scene.use(1_000_000)
    assert not scene.is_open(no_limits())
    with pytest.raises(ConfigurationError, match="no limits"):
        scene.guard(no_limits()).override(reason="x", run="r")


def test_the_forecast_for_the_months_end_goes_on_as_on_average() -> None:
    used = Used({Unit.PUTS: 100, Unit.STORED_BYTES: 7}, {})
    at = projected(used, {Unit.PUTS: 10}, datetime(2026, 11, 11, tzinfo=UTC))
    assert at.month == {Unit.PUTS: 300, Unit.STORED_BYTES: 7}
    early = projected(used, {Unit.PUTS: 10}, datetime(2026, 11, 1, 1, tzinfo=UTC))
    assert early.month[Unit.PUTS] == 110


def test_the_status_says_why_uploads_are_suspended(scene: Scene) -> None:
    scene.use(95)
    assert scene.guard().status().sentence.startswith("Spending nears a limit: 95 of 100")
    assert scene.is_open()
    status = scene.guard().status()
    assert (status.breaker, status.month, status.used[Unit.PUTS]) == ("open", "2026-11", 95)
    assert status.sentence.startswith("Uploads are suspended by the cost guard: 95 of 100")
