"""Looks that can wait for another month ask the limits first; what must always be possible does not."""

from datetime import UTC, datetime

import pytest

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.guard import CostGuard
from photo_pipeline.core.cost.meter import Meter
from photo_pipeline.core.cost.standing import read_standing
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.errors import BudgetError
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cost.budgets import legacy_free_tier
from photo_pipeline_tests.core.cost.conftest import OpenDatabase
from photo_pipeline_tests.core.migration.quick import migrated
from photo_pipeline_tests.core.migration.test_modes import files_site

NOW = datetime(2026, 11, 15, tzinfo=UTC)
FREE_GETS = 20_000


def clock() -> datetime:
    return NOW


def guard(database: Database) -> CostGuard:
    return CostGuard(database, legacy_free_tier(), clock=clock)


def use(database: Database, unit: Unit, amount: int) -> None:
    with database.write() as connection:
        ledger.add(connection, month_of(NOW), {unit: amount})


def used(database: Database, unit: Unit) -> int:
    with database.read() as connection:
        standing = read_standing(connection, NOW)
    assert standing.reserved.get(unit, 0) == 0
    return standing.used.month.get(unit, 0)


def test_a_look_that_does_not_fit_is_refused_before_it_asks_for_anything(new_database: OpenDatabase) -> None:
    opened = new_database()
    use(opened, Unit.GETS, 15_000)
    meter = Meter(opened, clock=clock)
    with (
        pytest.raises(BudgetError, match=r"the look for orphans: .* 95%") as refused,
        guard(opened).reading(meter, {Unit.GETS: 4_001}, what="the look for orphans"),
    ):
        raise AssertionError("it began")
    assert "smaller sample" in refused.value.fix
    assert "cost override" in refused.value.fix
    with guard(opened).reading(meter, {Unit.GETS: 4_000}, what="the look for orphans"):
        for _ in range(100):
            meter.count(Unit.GETS)
    assert used(opened, Unit.GETS) == 15_100


def test_a_look_that_needs_more_than_was_foreseen_stops_at_the_limit_and_not_beyond(
    new_database: OpenDatabase,
) -> None:
    opened = new_database()
    use(opened, Unit.GETS, 18_950)
    meter = Meter(opened, clock=clock)
    asked: list[int] = []

    def ask_without_end() -> None:
        with guard(opened).reading(meter, {Unit.GETS: 10}, what="a look"):
            while True:
                meter.count(Unit.GETS)
                asked.append(1)

    with pytest.raises(BudgetError):
        ask_without_end()
    assert len(asked) == FREE_GETS - 18_950
    assert used(opened, Unit.GETS) == FREE_GETS


def test_uploads_that_are_used_up_do_not_hold_back_a_look_that_only_reads(new_database: OpenDatabase) -> None:
    opened = new_database()
    use(opened, Unit.PUTS, 2_000)
    meter = Meter(opened, clock=clock)
    with guard(opened).reading(meter, {Unit.GETS: 10}, what="a look"):
        meter.count(Unit.GETS)
    assert used(opened, Unit.GETS) == 1


def test_an_override_lets_a_look_go_beyond(new_database: OpenDatabase) -> None:
    opened = new_database()
    use(opened, Unit.GETS, FREE_GETS)
    guard(opened).override(reason="we must know", run="person")
    meter = Meter(opened, clock=clock)
    with guard(opened).reading(meter, {Unit.GETS: 10}, what="a look"):
        meter.count(Unit.GETS)
    meter.close()
    assert used(opened, Unit.GETS) == FREE_GETS + 1


def test_the_faces_refuse_scan_and_sample_and_a_rollback_goes_through(make_site: MakeSite) -> None:
    from photo_pipeline.cli.orphans import scan
    from photo_pipeline.core.catalog.tables import utc_now
    from photo_pipeline.core.migration.run import new_run_id, roll_back_batch
    from photo_pipeline.core.migration.validate import validate_sample

    site = make_site(photos=2, limits={"plan": "aws-legacy-free-tier"})
    migrated(site)
    with site.project() as project:
        with project.database.write() as connection:
            ledger.add(connection, month_of(utc_now()), {Unit.GETS: FREE_GETS})
        with pytest.raises(BudgetError, match="validation of a sample"):
            validate_sample(
                project.database, project.config, project.cdn, project.store, run=new_run_id(), sample=1.0
            )
        with pytest.raises(BudgetError, match="the look for orphans"):
            scan()
        assert roll_back_batch(project, "batch-000001", run=new_run_id()).rows == 2


@pytest.mark.parametrize(("checksums", "gets"), [(True, 2 * 2), (False, 2)])
def test_a_scan_reserves_what_it_asks_again_for_keys_of_the_applications_own(
    make_site: MakeSite, checksums: bool, gets: int
) -> None:
    """No listing shows them, so that their ETags are never known."""
    from photo_pipeline.cli.orphans import scan

    rewrite = {"mode": "columns", "set": {"disk": "s3"}, "key_template": "disk-s3/{path}"}
    site = files_site(make_site, "sqlite", rewrite=rewrite)
    site.configure(limits={"plan": "aws-legacy-free-tier"})
    migrated(site)
    scan()
    first_stop = FREE_GETS * 95 // 100
    needed = gets + 3  # and when the store is opened, and for its time before the listing and after it

    def leave(left: int) -> None:
        site.execute("UPDATE pp_usage SET amount = :a WHERE unit = 'gets'", a=first_stop - left)

    leave(needed - 1)
    with pytest.raises(BudgetError, match="the look for orphans"):
        scan(checksums=checksums)
    leave(needed)
    scan(checksums=checksums)
    assert site.execute("SELECT amount FROM pp_usage WHERE unit = 'gets'") == [(first_stop,)]
