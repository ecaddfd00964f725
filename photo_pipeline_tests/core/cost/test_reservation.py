"""Reservations: runs side by side never spend more together than one limit allows."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.meter import BLOCKS, Meter
from photo_pipeline.core.cost.reservation import LIFETIME, Reservation
from photo_pipeline.core.cost.standing import read_standing
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.errors import BudgetError
from photo_pipeline_tests.core.cost import racing
from photo_pipeline_tests.core.cost.budgets import legacy_free_tier, puts
from photo_pipeline_tests.core.cost.conftest import OpenDatabase
from photo_pipeline_tests.core.cost.racing import LEFT, LIMIT, PROCESSES, month_number
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.forks import server_of_forks

NOW = datetime(2026, 11, 15, tzinfo=UTC)


def clock() -> datetime:
    return NOW


def use(database: Database, amount: int, now: datetime = NOW) -> None:
    with database.write() as connection:
        ledger.add(connection, month_of(now), {Unit.PUTS: amount})


def standing(database: Database) -> tuple[int, int]:
    with database.read() as connection:
        found = read_standing(connection, NOW)
    return found.used.month.get(Unit.PUTS, 0), found.reserved.get(Unit.PUTS, 0)


def reserve(database: Database, amount: int, owner: str = "batch-000001", limit: int = 100) -> Reservation:
    return Reservation.make(database, puts(limit), {Unit.PUTS: amount}, owner=owner, clock=clock)


Compete = Callable[..., None]


def race(url: str, races: int, compete: Compete) -> list[int]:
    """Return how many PUTs the processes were allowed together, race by race."""
    with server_of_forks("photo_pipeline_tests.core.cost.racing") as context:
        start = context.Barrier(PROCESSES)
        ends, processes = [], []
        for number in range(PROCESSES):
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(target=compete, args=(url, number, races, start, theirs))
            process.start()
            ends.append(mine)
            processes.append(process)
        spent = [each.recv() for each in ends]
        for process in processes:
            process.join()
    return [sum(each) for each in zip(*spent, strict=True)]


@DATABASES
@pytest.mark.parametrize(
    "races", [3, pytest.param(1_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_eight_processes_racing_for_the_last_hundred_puts_get_a_hundred(
    database: str, races: int, new_url: Callable[[str], str]
) -> None:
    url = new_url(database)
    with closing(Database.open(url)) as opened:
        for number in range(races):
            use(opened, LIMIT - LEFT, month_number(number))
        spent = race(url, races, racing.compete)
        assert spent == [LEFT] * races
        with opened.read() as connection:
            used = [ledger.used_in(connection, month_of(month_number(n)))[Unit.PUTS] for n in range(races)]
        assert used == [LIMIT] * races


@pytest.mark.slow
def test_without_taking_turns_they_would_overshoot(new_url: Callable[[str], str]) -> None:
    """The control: who looks first and takes afterwards gets more than there is, in some race."""
    url, races = new_url("sqlite"), 20
    with closing(Database.open(url)) as opened:
        for number in range(races):
            use(opened, LIMIT - LEFT, month_number(number))
    assert max(race(url, races, racing.compete_without_turns)) > LEFT


@MOSTLY_SQLITE
def test_what_is_drawn_moves_from_reserved_to_used_and_the_rest_is_returned(
    database: str, new_database: OpenDatabase
) -> None:
    opened = new_database(database)
    meter, reservation = Meter(opened, clock=clock), reserve(opened, 40)
    assert standing(opened) == (0, 40)
    with meter.under(reservation):
        for _ in range(20):
            meter.count(Unit.PUTS)
        used, reserved = standing(opened)
        assert 20 <= used <= 20 + BLOCKS[Unit.PUTS]
        assert used + reserved == 40
    reservation.release()
    assert standing(opened) == (20, 0)


def test_a_forecast_over_95_percent_is_refused_before_anything_is_spent(new_database: OpenDatabase) -> None:
    opened = new_database()
    use(opened, 60)
    first = reserve(opened, 20, owner="batch-000001")
    with pytest.raises(BudgetError, match=r"batch-000002: .* 96% of a limit") as refused:
        reserve(opened, 16, owner="batch-000002")
    assert "cost override" in refused.value.fix
    assert standing(opened) == (60, 20)
    reserve(opened, 15, owner="batch-000002").release()
    first.release()
    reserve(opened, 35, owner="batch-000002")


def test_retries_beyond_the_reservation_are_granted_up_to_the_limit_and_not_beyond(
    new_database: OpenDatabase,
) -> None:
    opened = new_database()
    use(opened, 80)
    meter, reservation = Meter(opened, clock=clock), reserve(opened, 10)
    with meter.under(reservation):
        for _ in range(20):
            meter.count(Unit.PUTS)
        with pytest.raises(BudgetError):
            meter.count(Unit.PUTS)
    assert standing(opened)[0] == 100


def test_a_batch_that_is_more_than_a_month_gets_what_fits(new_database: OpenDatabase) -> None:
    opened = new_database()
    reserve(opened, 300)
    assert 94 <= standing(opened)[1] <= 95


def test_what_a_dead_process_held_expires_and_its_own_batch_need_not_wait(new_database: OpenDatabase) -> None:
    opened = new_database()
    reserve(opened, 90)
    with pytest.raises(BudgetError):
        reserve(opened, 90, owner="batch-000002")
    reserve(opened, 90)  # the same batch again, by its next run
    assert standing(opened) == (0, 90)

    def later() -> datetime:
        return NOW + LIFETIME + timedelta(seconds=1)

    Reservation.make(opened, puts(100), {Unit.PUTS: 90}, owner="batch-000002", clock=later)


def test_an_expired_reservation_asks_the_limits_again(new_database: OpenDatabase) -> None:
    opened, now = new_database(), NOW
    reservation = Reservation.make(
        opened, puts(100), {Unit.PUTS: 50}, owner="batch-000001", clock=lambda: now
    )
    now = NOW + LIFETIME + timedelta(seconds=1)
    use(opened, 99)
    meter = Meter(opened, clock=lambda: now)
    with meter.under(reservation):
        meter.count(Unit.PUTS)
        with pytest.raises(BudgetError):
            meter.count(Unit.PUTS)


def test_storage_is_reserved_too(new_database: OpenDatabase) -> None:
    opened = new_database()
    with pytest.raises(BudgetError, match="bytes stored"):
        Reservation.make(
            opened, legacy_free_tier(), {Unit.STORED_BYTES: 5 * 1024**3, Unit.PUTS: 0}, owner="b", clock=clock
        )
