"""What raises an alert, and what does not: from the state tables as they would be."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.fence import MIGRATION
from photo_pipeline.core.catalog.tables import (
    batch_table,
    migration_table,
    photo_table,
    picture_table,
    reconciliation_table,
    validation_table,
)
from photo_pipeline.core.cost.guard import CostGuard
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.migration import control
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.alerts.conftest import World

TIER = {"plan": "aws-legacy-free-tier"}


def batch(world: World, key: str = "batch-000001", **values: Any) -> None:
    row = {"key": key, "state": "running", "priority": 1, "photos": 100, "lease_token": 0}
    world.insert(batch_table, row | {"created_at": world.now, "updated_at": world.now} | values)


def alert(world: World, kind: str) -> Any:
    return next(each for each in world.look().holds if each.kind == kind)


def kinds(world: World) -> set[str]:
    return {str(each.kind) for each in world.look().holds}


def test_an_installation_at_rest_has_no_alert(world: World) -> None:
    assert kinds(world) == set()


@pytest.mark.parametrize(
    ("puts", "raised"),
    [
        (1_266, {"cost_projection"}),  # 63 % on the 20th is over 95 % on the last
        (1_599, {"cost_projection"}),
        (1_600, {"cost_projection", "cost_near_limit"}),
        (1_800, {"cost_projection", "cost_near_limit", "uploads_suspended"}),
        (1_200, set()),
    ],
)
def test_spending_raises_at_its_thresholds(world: World, puts: int, raised: set[str]) -> None:
    world.parts["limits"] = TIER
    world.use(Unit.PUTS, puts)
    assert kinds(world) == raised


def test_uploads_that_may_go_on_again_are_news(world: World) -> None:
    world.parts["limits"] = TIER
    world.use(Unit.PUTS, 1_900)
    assert (
        "nearly used" in alert(world, "uploads_suspended").detail
        or "1,900" in alert(world, "uploads_suspended").detail
    )
    world.later(minutes=10)
    guard = CostGuard.of(world.database, world.config, clock=lambda: world.now)
    guard.override(reason="the boss pays", run="r")
    looked = world.look()
    titles = [each.title for each in looked.sent]
    assert "Resolved: Uploads are suspended by the cost guard" in titles


def test_a_new_month_ends_the_old_ones_alerts(world: World) -> None:
    world.parts["limits"] = TIER
    world.use(Unit.PUTS, 1_900)
    world.look()
    assert world.open_kinds() == {"cost_near_limit", "cost_projection", "uploads_suspended"}
    world.now = datetime(2026, 12, 1, 0, 10, tzinfo=UTC)
    world.look()
    assert world.open_kinds() == set()


def test_what_others_use_of_the_account_is_an_alert_of_its_own(world: World) -> None:
    world.parts["limits"] = TIER
    world.use(Unit.PUTS, 100)
    row = {"measure": "puts", "since": None, "until": world.now, "ours": 100, "theirs": 1_700}
    world.insert(reconciliation_table, row | {"reason": "Others use it.", "checked_at": world.now})
    found = alert(world, "account_near_limit")
    assert "AWS counts 85%" in found.title
    assert "our own ledger: 100. Others use it." in found.detail
    world.now = datetime(2026, 12, 2, tzinfo=UTC)
    assert "account_near_limit" not in kinds(world)


def test_a_migration_that_the_guard_pauses_is_told_and_one_that_a_person_pauses_is_not(world: World) -> None:
    batch(world, state="paused", error="the cost guard refuses it")
    assert "the cost guard refuses it" in alert(world, "migration_held_back").detail
    control.pause(world.database, reason="lunch", run="r")
    assert kinds(world) == set()


@pytest.mark.parametrize(("failed", "raised"), [(2, False), (3, True)])
def test_a_failure_rate_above_the_limit_is_told_with_its_reasons(
    world: World, failed: int, raised: bool
) -> None:
    batch(world)
    world.photos(*["quarantined"] * failed, *["migrated"] * (20 - failed))
    assert ("failure_rate" in kinds(world)) == raised
    if raised:
        found = alert(world, "failure_rate")
        assert "15% of the last 20 photos failed" in found.title
        assert "3 corrupt" in found.detail


def test_few_photos_and_old_failures_say_nothing(world: World) -> None:
    batch(world)
    world.photos(*["quarantined"] * 19)
    assert kinds(world) == set()
    world.photos(*["quarantined"] * 19, batch="batch-000002")
    batch(world, "batch-000002", state="completed")
    assert kinds(world) == {"failure_rate"}
    world.later(hours=25)
    assert kinds(world) == set()


def test_only_the_last_photos_count(world: World) -> None:
    world.configure(last_photos=20)
    batch(world)
    world.photos(*["quarantined"] * 30, updated_at=world.now - timedelta(hours=1))
    world.photos(*["stored"] * 20)
    assert kinds(world) == set()


def pictures(world: World, *seconds: float | None) -> None:
    common = {"thumbhash": "", "placeholder": "", "dominant_colour": "#000000", "perceptual_hash": "0"}
    rows = [
        common | {"sha256": f"{number:064d}", "seconds": each, "updated_at": world.now}
        for number, each in enumerate(seconds)
    ]
    world.insert(picture_table, *rows)


@pytest.mark.parametrize(
    ("seconds", "raised"),
    [
        ([21.0] * 2 + [1.0] * 18, True),
        ([500.0] + [1.0] * 19, False),  # one in twenty
        ([500.0] * 19, False),  # too few
        ([19.0] * 40, False),
        ([None] * 40, False),
    ],
)
def test_slow_photos_are_told_by_their_95th_percentile(
    world: World, seconds: list[float | None], raised: bool
) -> None:
    batch(world)
    world.photos(*["processed"] * len(seconds))
    pictures(world, *seconds)
    assert ("slow_photos" in kinds(world)) == raised
    world.configure(slow_photo_s=None)
    assert "slow_photos" not in kinds(world)


def test_findings_of_a_validation_are_told_until_the_photo_is_well_or_taken_back(world: World) -> None:
    world.photos("migrated", "rolled_back")
    rows = [
        {"photo_id": number, "ok": False, "problems": ["HTTP 403"], "run": "r", "checked_at": world.now}
        for number in (1, 2)
    ]
    world.insert(validation_table, *[row | {"batch": "batch-000001"} for row in rows])
    found = alert(world, "validation")
    assert (found.level, "0.jpg: HTTP 403" in found.detail) == (1, True)
    world.write(lambda connection: connection.execute(sa.update(validation_table).values(ok=True)))
    assert kinds(world) == set()


def test_a_real_inventory_that_meets_a_link_out_of_its_root_raises_the_alarm(make_site: MakeSite) -> None:
    from photo_pipeline.core.alerts.watch import look

    site = make_site(photos=1)
    (site.home / "secret.jpg").write_bytes(b"secret")
    (site.uploads / "items/link.jpg").symlink_to(site.home / "secret.jpg")
    with site.project() as project:
        site.inventory(project)
        (found,) = look(project.database, project.config).holds
        assert found.kind == "outside_roots"
        assert "link.jpg" in found.detail
        assert found.level == 1
        (site.uploads / "items/link.jpg").unlink()
        site.inventory(project)
        assert look(project.database, project.config).holds == ()
        with project.database.read() as connection:
            mine = migration_table.c.name == MIGRATION
            assert connection.execute(sa.select(migration_table.c.last_scan).where(mine)).scalar_one()
            assert connection.execute(sa.select(sa.func.count(photo_table.c.id))).scalar_one()
