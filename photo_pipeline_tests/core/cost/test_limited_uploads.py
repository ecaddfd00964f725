"""A migration under limits: it stops within one photo, says why, and goes on without a repeated PUT."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from photo_pipeline.cli.program import app
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.guard import CostGuard
from photo_pipeline.core.cost.meter import BLOCKS
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.errors import BudgetError, PausedError
from photo_pipeline.core.migration.spending import needed_for
from photo_pipeline.core.project import Project
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cost.test_meter import logged
from photo_pipeline_tests.core.migration.quick import migrated, quick_workers
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site

OBJECTS = 7
FREE_TIER = {"plan": "aws-legacy-free-tier"}


@pytest.fixture(autouse=True)
def no_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "workers", lambda _: quick_workers())


def use(site: Site, puts: int) -> None:
    with site.project() as project:
        ensure_schema(project.database)
        with project.database.write() as connection:
            ledger.add(connection, month_of(utc_now()), {Unit.PUTS: puts})


def stop(site: Site) -> str:
    with pytest.raises(BudgetError) as stopped:
        site.migrate()
    return str(stopped.value)


def next_month(site: Site) -> None:
    """What was used was used in another month, and the breaker has been open for longer than its lock-out."""
    site.execute("DELETE FROM pp_usage WHERE month < '2020'")
    site.execute("UPDATE pp_usage SET month = '2001-01'")
    site.execute("UPDATE pp_breaker SET opened_at = '2001-01-31 00:00:00', opened_for = 'january'")


def status(site: Site) -> dict[str, Any]:
    told = CliRunner().invoke(app, ["status", "--json"], catch_exceptions=False)
    document: dict[str, Any] = json.loads(told.stdout)
    return document


def used_of(site: Site, unit: Unit) -> int:
    query = "SELECT SUM(amount) FROM pp_usage WHERE unit = :unit AND month > '2020'"
    ((amount,),) = site.execute(query, unit=unit)
    return int(amount or 0)


def used_puts(site: Site) -> int:
    return used_of(site, Unit.PUTS)


@MOSTLY_SQLITE
def test_the_breaker_stops_a_batch_within_one_photo_and_it_goes_on_next_month_without_a_repeated_put(
    make_site: MakeSite, database: str, s3_access_log: Path
) -> None:
    site = make_site(photos=8, database=database, limits=FREE_TIER, upload={"concurrency": 1})
    use(site, 1_800 - 40)
    said = stop(site)
    assert "the cost guard suspends them" in said
    assert "of 2,000 PUT, COPY, POST and LIST requests are used" in said

    first = site.puts(s3_access_log)
    # A block may have been counted ahead; what was on its way when the breaker opened is at most a photo's.
    assert 40 - BLOCKS[Unit.PUTS] - OBJECTS <= len(first) <= 40 + OBJECTS
    assert 1_800 - BLOCKS[Unit.PUTS] <= used_puts(site) <= 1_800 + OBJECTS
    shown = status(site)
    assert shown["status"] == "paused"
    assert shown["cost"]["breaker"] == "open"
    assert shown["cost"]["sentence"].startswith("Uploads are suspended by the cost guard")
    ((batch,),) = site.execute("SELECT error FROM pp_batch")
    assert "cost override" in batch
    assert stop(site)  # still
    assert site.puts(s3_access_log) == first

    next_month(site)
    (outcome,) = site.migrate()
    assert outcome.state == "completed"
    assert site.states() == {"migrated": 8}
    sent = Counter(site.puts(s3_access_log))
    assert max(sent.values()) == 1
    assert sum(sent.values()) == 8 * OBJECTS


def test_a_batch_whose_forecast_is_too_much_is_refused_before_its_first_put(
    make_site: MakeSite, s3_access_log: Path
) -> None:
    site = make_site(photos=20, limits=FREE_TIER)
    use(site, 1_770)  # 88 %: the breaker is closed
    said = stop(site)
    assert "batch-000001: the cost guard refuses it: with it 96% of a limit would be used" in said
    assert site.puts(s3_access_log) == []


def test_the_forecast_counts_what_other_batches_have_reserved(
    make_site: MakeSite, s3_access_log: Path
) -> None:
    site = make_site(photos=8, limits=FREE_TIER)
    use(site, 1_000)
    site.execute(
        "INSERT INTO pp_reservation (id, unit, amount, owner, created_at, expires_at) "
        "VALUES ('x', 'puts', 890, 'batch-000009', '2001-01-01 00:00:00', '2999-01-01 00:00:00')"
    )
    said = stop(site)
    assert "1,000 of 2,000" in said
    assert "950 reserved (50%)" in said
    assert site.puts(s3_access_log) == []
    assert status(site)["status"] == "paused"
    site.execute("DELETE FROM pp_reservation")
    (outcome,) = site.migrate()
    assert outcome.state == "completed"


def test_an_override_lets_it_go_on_and_everything_is_still_counted(make_site: MakeSite) -> None:
    site = make_site(photos=2, limits=FREE_TIER)
    use(site, 1_990)
    stop(site)
    refused = CliRunner().invoke(app, ["cost", "override"])
    assert refused.exit_code == 2
    done = CliRunner().invoke(
        app, ["cost", "override", "--reason", "it is only cents"], catch_exceptions=False
    )
    assert done.exit_code == 0
    (outcome,) = site.migrate()
    assert outcome.state == "completed"
    assert used_puts(site) >= 1_990 + 2 * OBJECTS
    told = CliRunner().invoke(app, ["cost", "--json"], catch_exceptions=False)
    document = json.loads(told.stdout)["cost"]
    assert document["override_reason"] == "it is only cents"
    assert document["limits"][0]["share"] > 1


def test_reservations_are_returned_after_the_batch(make_site: MakeSite) -> None:
    site = make_site(photos=2, limits=FREE_TIER)
    migrated(site)
    assert site.execute("SELECT * FROM pp_reservation") == []
    assert status(site)["cost"]["sentence"] == ""


def test_what_goes_in_parts_is_reserved_part_by_part() -> None:
    mib = 1024**2
    plain, large = (
        needed_for([mib], multipart_above=32 * mib),
        needed_for([33 * mib], multipart_above=32 * mib),
    )
    # Three parts of 16 MiB at most, their beginning and their end; a look before each of these two.
    assert large[Unit.PUTS] - plain[Unit.PUTS] == 5 - 1
    assert large[Unit.GETS] - plain[Unit.GETS] == 2


def test_a_rollback_with_an_exhausted_budget_and_an_open_breaker_works_and_is_counted(
    make_site: MakeSite, s3_access_log: Path
) -> None:
    site = make_site(photos=2, limits=FREE_TIER)
    before, lost = site.dump(), site.uploads / "items/0.jpg"
    content = lost.read_bytes()
    migrated(site)
    use(site, 3_000)
    with site.project() as project, pytest.raises(BudgetError):
        CostGuard.of(project.database, project.config).require_open()
    assert status(site)["cost"]["breaker"] == "open"
    lost.unlink()  # so that it is fetched from the bucket
    used = used_of(site, Unit.GETS)
    with logged(s3_access_log) as seen:
        site.roll_back()
    assert site.dump() == before
    assert lost.read_bytes() == content
    assert used_of(site, Unit.GETS) - used == seen[Unit.GETS] > 0
    assert status(site)["cost"]["breaker"] == "open"


def test_without_limits_nothing_is_reserved_or_refused(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    use(site, 1_000_000)
    (outcome,) = site.migrate()
    assert outcome.state == "completed"
    shown = CliRunner().invoke(app, ["cost"], catch_exceptions=False).stdout
    assert "Everything is counted, and nothing refused" in shown
    assert "1,000,0" in shown


def test_a_suspended_upload_is_a_pause_for_whoever_handles_pauses() -> None:
    assert issubclass(BudgetError, PausedError)
    assert BudgetError.exit_code == 3


def test_the_command_shows_use_limits_and_forecast(make_site: MakeSite) -> None:
    site = make_site(photos=2, limits=FREE_TIER)
    migrated(site)
    shown = CliRunner().invoke(app, ["cost"], catch_exceptions=False).stdout
    for words in ("AWS legacy free tier", "Breaker: closed", "At list price $", "bytes stored"):
        assert words in shown
    stored = sa.text("SELECT SUM(bytes) FROM pp_object")
    engine = site.engine()
    with engine.connect() as connection:
        assert f"{connection.execute(stored).scalar_one():,}" in shown
    engine.dispose()
