"""The schedule, the jobs behind it, and those for after a loss or a move, through the real engine."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from photo_pipeline.definitions import defs
from photo_pipeline.resources.settings import PipelineSettings
from photo_pipeline.schedules import revalidation
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated
from photo_pipeline_tests.core.migration.test_marked_rows import NARROW
from photo_pipeline_tests.core.migration.test_repoint import to_another_domain


def tick(hour: int, minute: int) -> dg.RunRequest | dg.SkipReason:
    moment = datetime(2026, 3, 15, hour, minute, tzinfo=UTC)
    context = dg.build_schedule_context(
        scheduled_execution_time=moment, resources={"settings": PipelineSettings()}
    )
    return revalidation(context)  # type: ignore[return-value]


def test_the_configured_time_starts_exactly_one_run(make_site: MakeSite) -> None:
    site = make_site(photos=0)
    site.configure(validation={"schedule": "10 4 * * *", "sample": 0.5})
    assert isinstance(tick(4, 0), dg.SkipReason)
    request = tick(4, 15)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == "2026-03-15T04:10"
    assert isinstance(tick(4, 30), dg.SkipReason)


def test_the_job_checks_a_sample_and_fails_when_the_bucket_has_lost_an_object(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    site.migrate()
    with dg.instance_for_test() as instance:
        job = defs.resolve_job_def("revalidate")
        assert job.execute_in_process(instance=instance).success
        ((key,),) = site.execute("SELECT MIN(key) FROM pp_object WHERE variant = 'original'")
        with site.project() as project:
            project.store.delete(key)
        config = dg.RunConfig(ops={"look_again": {"config": {"sample": 1.0}}})
        result = job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)
        assert not result.success
        (failed,) = result.get_step_failure_events()
        assert "1 of 2 photos" in str(failed.step_failure_data.user_failure_data.description)
        assert key in str(failed.step_failure_data.user_failure_data.description)


@pytest.mark.parametrize("spoilt", [False, True])
def test_the_rehearsal_job_fails_when_rows_would_not_come_back(make_site: MakeSite, spoilt: bool) -> None:
    site = make_site(photos=1)
    migrated(site)
    if spoilt:
        site.execute(
            "CREATE TRIGGER spoil AFTER UPDATE OF original_url ON item_photos BEGIN "
            "UPDATE item_photos SET alt = 'spoiled' WHERE id = NEW.id; END"
        )
    with dg.instance_for_test() as instance:
        job = defs.resolve_job_def("rehearse_rollback")
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert result.success is not spoilt


def test_the_repoint_job_moves_the_rows_and_names_what_could_not_move(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    migrated(site)
    address = to_another_domain(site)
    with dg.instance_for_test() as instance:
        job = defs.resolve_job_def("repoint")
        assert job.execute_in_process(instance=instance).success
        shown = site.execute("SELECT original_url FROM item_photos")
        assert all(url.startswith(f"{address}/") for (url,) in shown)
        site.configure(variants={"default": NARROW})
        (site.uploads / "items/1.jpg").unlink()
        ((original,),) = site.execute(
            "SELECT o.key FROM pp_object o JOIN pp_photo p ON p.sha256 = o.source_sha256"
            " WHERE o.variant = 'original' AND p.path = 'items/1.jpg'"
        )
        with site.project() as project:
            project.store.delete(original)
        config = dg.RunConfig(ops={"repoint_batches": {"config": {"recipe": True}}})
        result = job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)
        assert not result.success
        (failed,) = result.get_step_failure_events()
        description = str(failed.step_failure_data.user_failure_data.description)
        assert "1 photos still show the old address" in description
        assert "items/1.jpg" in description
    assert site.execute("SELECT original_url FROM item_photos WHERE alt = 'photo 1'") == [shown[1]]
