"""What fails is tried again by the rule of its class, and says so: photos in a run, batches by count."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest

from photo_pipeline.core.catalog.tables import BatchState
from photo_pipeline.core.errors import (
    BudgetError,
    ForecastRefusedError,
    PausedError,
    StorageConflictError,
    StoreError,
    StoreUnreachableError,
)
from photo_pipeline.core.imaging.pool import ImageWorkers, PhotoTask
from photo_pipeline.core.imaging.variants import MadePhoto
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import Processed, process_batch
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.migration.state import settle_back, settle_forward, working_on
from photo_pipeline.core.report.findings import collect_findings
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.failing_work import (
    always_fail,
    die_the_first_time,
    never_supported,
    tries,
)
from photo_pipeline_tests.sites import Site

BATCH = "batch-000001"


def processed(site: Site, work: Callable[[PhotoTask], MadePhoto]) -> Processed:
    with site.project() as project:
        site.inventory(project)
        with BatchLease(project.database, BATCH, run=new_run_id()) as lease:
            return process_batch(project.database, project.config, lease, lambda: ImageWorkers(1, work=work))


def test_a_photo_whose_worker_dies_once_is_made_by_the_second_try_of_the_same_run(
    make_site: MakeSite,
) -> None:
    site = make_site(photos=2)
    made = processed(site, die_the_first_time)
    assert (made.retried, made.quarantined, made.done) == (1, 0, 2)
    assert site.states() == {"processed": 2}
    assert (tries(site.uploads, "0.jpg"), tries(site.uploads, "1.jpg")) == (2, 1)


def test_a_photo_that_fails_again_is_quarantined_and_says_how_often_it_was_tried(
    make_site: MakeSite,
) -> None:
    site = make_site(photos=1)
    made = processed(site, always_fail)
    assert (made.retried, made.quarantined, made.failures) == (1, 1, {"processing": 1})
    assert tries(site.uploads, "0.jpg") == 2
    ((detail,),) = site.execute("SELECT error_detail FROM pp_photo")
    assert detail == "0.jpg: the decoder is confused (tried 2 times). Replace it."
    with site.project() as project, project.database.read() as connection:
        (group,) = collect_findings(connection, limit=10)
    assert (group.error_class, group.rule) == ("processing", "tried once more")


def test_a_photo_that_no_try_can_help_is_tried_once(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    made = processed(site, never_supported)
    assert (made.retried, made.failures) == (0, {"unsupported": 1})
    assert tries(site.uploads, "0.jpg") == 1


class Batch:
    """The one batch of a site, and how its work ends."""

    def __init__(self, site: Site) -> None:
        self.site = site
        with site.project() as project:
            site.inventory(project)

    def ends(self, error: BaseException | None, *, state: BatchState = BatchState.RUNNING) -> Any:
        """Let a run work on it and end so; return (state, failures, class)."""
        with self.site.project() as project:
            database = project.database
            with (
                suppress(type(error)) if error else nullcontext(),
                BatchLease(database, BATCH, run=new_run_id()) as lease,
                working_on(database, lease, state),
            ):
                if error is not None:
                    raise error
                (settle_forward if state is BatchState.RUNNING else settle_back)(database, lease)
        ((found),) = self.site.execute("SELECT state, failures, error_class FROM pp_batch")
        return tuple(found)


@pytest.fixture
def batch(make_site: MakeSite) -> Batch:
    return Batch(make_site(photos=1))


def test_a_batch_counts_its_failures_until_it_gets_through(batch: Batch) -> None:
    assert batch.ends(StoreError("the store", cause="it failed")) == ("failed", 1, "storage")
    assert batch.ends(StoreUnreachableError("the store", cause="it is away")) == ("failed", 2, "network")
    assert batch.ends(StorageConflictError("a key", cause="other bytes")) == ("failed", 3, "corruption")
    assert batch.ends(ZeroDivisionError()) == ("failed", 4, "processing")
    assert batch.ends(None) == ("failed", 5, "processing")  # its photo is not migrated yet
    batch.site.execute("UPDATE pp_photo SET state = 'migrated'")
    assert batch.ends(None) == ("completed", 0, None)


def test_a_stop_that_somebody_wanted_is_no_failure_but_a_refused_forecast_is(batch: Batch) -> None:
    assert batch.ends(PausedError("the migration", cause="it was paused")) == ("paused", 0, None)
    assert batch.ends(BudgetError("uploads", cause="they are suspended")) == ("paused", 0, None)
    assert batch.ends(KeyboardInterrupt()) == ("failed", 0, None)
    assert batch.ends(ForecastRefusedError("batch", cause="no room")) == ("paused", 1, "quota")


def test_failures_on_the_way_forward_and_on_the_way_back_are_counted_apart(batch: Batch) -> None:
    back = BatchState.ROLLING_BACK
    assert batch.ends(StoreError("the store", cause="it failed")) == ("failed", 1, "storage")
    assert batch.ends(StoreError("the store", cause="it failed"), state=back) == (
        "rolling_back",
        1,
        "storage",
    )
    assert batch.ends(StoreError("the store", cause="it failed"), state=back) == (
        "rolling_back",
        2,
        "storage",
    )
    assert batch.ends(None, state=back) == ("rolled_back", 0, None)
