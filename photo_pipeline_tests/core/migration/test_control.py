"""Pause, resume and abort: work stops within one photo, wherever it is, and goes on from there."""

from collections.abc import Callable

import dagster as dg
import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.tables import Control
from photo_pipeline.core.errors import GuardRefusedError, PausedError
from photo_pipeline.core.migration import control, watch
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.run import migrate_batch, new_run_id, roll_back_batch
from photo_pipeline.core.migration.selection import batches_to_migrate
from photo_pipeline.core.migration.state import migration_row
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.project import Project
from photo_pipeline.definitions import defs
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, quick_workers, rolled_back
from photo_pipeline_tests.sites import Site

BATCH = "batch-000001"
DATABASES = pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
Act = Callable[..., watch.Wish]


@pytest.fixture(autouse=True)
def every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look each time: a test's photos take less than the time between two looks."""
    monkeypatch.setattr(watch, "_LOOK_EVERY_S", 0)
    monkeypatch.setattr(Project, "workers", lambda _: quick_workers())


def at(project: Project, stage: str, number: int, act: Act = control.pause) -> Progress:
    """A progress that lets somebody act when item `number` of that stage is done; fails if much follows."""

    def report(name: str, done: int, total: int | None) -> None:
        if (name, done) == (stage, number):
            act(project.database, reason="the shop is slow", run="someone", by="anna@desk")

    return report


def run(site: Site, progress: Callable[[Project], Progress] = lambda _: no_progress) -> str:
    with site.project() as project:
        if not batches_known(site):
            site.inventory(project)
        return migrate_batch(project, BATCH, run=new_run_id(), progress=progress(project)).state


def batches_known(site: Site) -> bool:
    engine = site.engine()
    known = sa.inspect(engine).has_table("pp_batch")
    engine.dispose()
    return known


def lift(site: Site) -> None:
    with site.project() as project:
        control.resume(project.database, run="r")


def batch_row(site: Site) -> tuple[str, str]:
    ((state, error),) = site.execute("SELECT state, error FROM pp_batch")
    return state, error


@DATABASES
@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("variants", {"processed": 2, "pending": 4}),
        ("objects", {"processed": 6}),
        ("rows", {"migrated": 2, "uploaded": 4}),
    ],
)
def test_a_pause_takes_effect_within_one_photo_and_resume_goes_on_from_there(
    make_site: MakeSite, database: str, stage: str, left: dict[str, int], request: pytest.FixtureRequest
) -> None:
    log = request.getfixturevalue("s3_access_log")
    site = make_site(
        photos=6,
        database=database,
        rewrite={"rows_per_transaction": 1},
        upload={"concurrency": 1},
    )
    with pytest.raises(PausedError, match=r"paused by anna@desk at .* \(the shop is slow\)"):
        run(site, lambda project: at(project, stage, 2))
    assert site.states() == left
    state, error = batch_row(site)
    assert state == "paused"
    assert "anna@desk" in error
    assert len(site.puts(log)) < {"variants": 1, "objects": 6, "rows": 100}[stage]
    with site.project() as project:
        assert migration_row(project.database).status == "paused"
        assert batches_to_migrate(project.database) == [BATCH]
    with pytest.raises(PausedError):
        run(site)
    assert site.states() == left
    lift(site)
    assert run(site) == "completed"
    assert site.states() == {"migrated": 6}
    puts = site.puts(log)
    assert len(puts) == len(set(puts))  # nothing was uploaded twice


def test_without_the_watch_a_pause_would_wait_for_the_end_of_the_step(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch.ControlWatch, "stopped", lambda _: None)
    site = make_site(photos=4, rewrite={"rows_per_transaction": 1})
    with pytest.raises(PausedError):
        run(site, lambda project: at(project, "rows", 2))
    assert site.states() == {"migrated": 4}


@DATABASES
def test_an_aborted_run_can_be_taken_back_without_a_resume(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=5, database=database, rewrite={"rows_per_transaction": 1})
    before = site.dump()
    with pytest.raises(PausedError, match="aborted by anna@desk"):
        run(site, lambda project: at(project, "rows", 3, control.abort))
    assert site.states() == {"migrated": 3, "uploaded": 2}
    with site.project() as project, pytest.raises(GuardRefusedError, match="aborted"):
        control.pause(project.database, reason="", run="r")
    with pytest.raises(PausedError):
        run(site)
    assert rolled_back(site).rolled_back == 3
    assert site.dump() == before
    with site.project() as project:
        assert migration_row(project.database).status == "aborted"
    lift(site)
    assert run(site) == "completed"


def test_a_batch_that_has_not_begun_stays_as_it_was(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    with site.project() as project:
        site.inventory(project)
        control.pause(project.database, reason="", run="r")
    with pytest.raises(PausedError):
        run(site)
    assert batch_row(site) == ("pending", None)
    assert site.execute("SELECT lease_owner FROM pp_batch") == [(None,)]


def test_a_batch_between_two_steps_is_paused_when_the_next_begins(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    with site.project() as project:
        site.inventory(project)
        site.execute("UPDATE pp_batch SET state = 'running'")
        control.pause(project.database, reason="lunch", run="r")
    with pytest.raises(PausedError):
        run(site)
    assert batch_row(site)[0] == "paused"


def test_a_pause_between_two_batches_of_a_rollback_leaves_the_second_as_it_is(make_site: MakeSite) -> None:
    site = make_site(photos=3)
    migrated(site)
    before = site.dump()
    with site.project() as project:
        begun = watch.wish(project.database)
        control.pause(project.database, reason="the shop is slow", run="someone", by="anna@desk")
        with pytest.raises(PausedError, match="anna@desk"):
            roll_back_batch(project, BATCH, run="r", wish_before=begun)
    assert site.dump() == before


def test_a_pause_stops_a_rollback_that_runs_and_not_one_that_is_begun_under_it(make_site: MakeSite) -> None:
    site = make_site(photos=4, rewrite={"rows_per_transaction": 1})
    before = site.dump()
    migrated(site)
    with site.project() as project, pytest.raises(PausedError):
        roll_back_batch(project, BATCH, run="r", progress=at(project, "rows", 2))
    assert site.states() == {"migrated": 2, "rolled_back": 2}
    assert batch_row(site)[0] == "rolling_back"
    assert rolled_back(site).rolled_back == 2
    assert site.dump() == before


def test_who_and_why_are_in_the_audit_log_and_the_last_word_counts(make_site: MakeSite) -> None:
    site = make_site(photos=0)
    with site.project() as project:
        site.inventory(project)
        control.pause(project.database, reason="first", run="r", by="anna")
        control.pause(project.database, reason="second", run="r", by="ben")
        present = watch.wish(project.database)
        assert (present.control, present.reason, present.by) == (Control.PAUSED, "second", "ben")
        control.abort(project.database, reason="enough", run="r", by="ben")
        control.resume(project.database, run="r", by="anna")
    entries = site.execute("SELECT actor, action, details FROM pp_audit ORDER BY seq")
    assert [(actor, action) for actor, action, _ in entries] == [
        ("anna", "pause"),
        ("ben", "pause"),
        ("ben", "abort"),
        ("anna", "resume"),
    ]
    assert '"reason":"first"' in entries[0][2]


def test_the_jobs_do_the_same_from_the_ui(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    instance = dg.DagsterInstance.ephemeral()

    def launch(job: str) -> None:
        config = {"ops": {f"{job}_migration": {"config": {"reason": "from the UI"}}}}
        assert defs.resolve_job_def(job).execute_in_process(instance=instance, run_config=config).success

    for job, wanted in [("pause", "paused"), ("abort", "aborted"), ("resume", "running")]:
        launch(job)
        assert site.execute("SELECT control, control_reason FROM pp_migration") == [(wanted, "from the UI")]


def test_an_unexpected_end_leaves_no_batch_running(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=1)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("photo_pipeline.core.migration.run.upload_batch", broken)
    with pytest.raises(ZeroDivisionError):
        run(site)
    state, error = batch_row(site)
    assert state == "failed"
    assert "ZeroDivisionError" in error


def test_a_lease_is_free_after_a_pause(make_site: MakeSite) -> None:
    site = make_site(photos=2, rewrite={"rows_per_transaction": 1})
    with pytest.raises(PausedError):
        run(site, lambda project: at(project, "rows", 1))
    with site.project() as project, BatchLease(project.database, BATCH, run="another"):
        pass
