"""The sensor that carries the breaker's verdict over to Dagster, on a real instance's storage."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from photo_pipeline.assets.s3_objects import UPLOAD_POOL
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.migration import control
from photo_pipeline.definitions import defs
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings
from photo_pipeline.sensors.cost_guard import cost_guard
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated
from photo_pipeline_tests.sites import Site

LIMITS = {"plan": "aws-legacy-free-tier"}


class Sensor:
    """The sensor as the daemon calls it: with the cursor that it left."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None

    def tick(self) -> str:
        settings = PipelineSettings()
        resources = {"settings": settings, "database": ApplicationDatabase(settings=settings)}
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources=resources
        ) as context:
            result = cost_guard(context)
        if isinstance(result, dg.SkipReason):
            return str(result.skip_message)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        assert isinstance(result.skip_reason, dg.SkipReason)
        return str(result.skip_reason.skip_message)

    def limit(self) -> int | None:
        storage = self.instance.event_log_storage
        limits = {each.name: each.limit for each in storage.get_pool_limits() if not each.from_default}
        return limits.get(UPLOAD_POOL)


@pytest.fixture
def sensor() -> Iterator[Sensor]:
    with dg.instance_for_test() as instance:
        yield Sensor(instance)


def use(site: Site, puts: int) -> None:
    with site.project() as project:
        ensure_schema(project.database)
        with project.database.write() as connection:
            ledger.add(connection, month_of(utc_now()), {Unit.PUTS: puts})


def room_again(site: Site) -> None:
    site.execute("DELETE FROM pp_usage")
    site.execute("UPDATE pp_breaker SET opened_at = '2001-01-01 00:00:00'")


def test_the_upload_pool_is_closed_while_uploads_are_suspended_and_opened_again(
    make_site: MakeSite, sensor: Sensor
) -> None:
    site = make_site(photos=0, limits=LIMITS)
    use(site, 10)
    assert sensor.tick() == "uploads may go on"
    use(site, 1_800)
    assert sensor.tick().startswith("closed the pool s3_upload. uploads: the cost guard suspends them")
    assert sensor.limit() == 0
    assert sensor.tick().startswith("uploads: the cost guard suspends them")
    room_again(site)
    assert sensor.tick() == "opened the pool s3_upload again"
    assert sensor.limit() is None
    assert sensor.tick() == "uploads may go on"


def test_a_limit_that_somebody_set_comes_back_and_a_pool_that_somebody_closed_stays_closed(
    make_site: MakeSite, sensor: Sensor
) -> None:
    site = make_site(photos=0, limits=LIMITS)
    use(site, 1_800)
    storage = sensor.instance.event_log_storage
    storage.set_concurrency_slots(UPLOAD_POOL, 0)
    assert sensor.tick().startswith("somebody has closed the pool")
    room_again(site)
    assert sensor.tick() == "uploads may go on"
    assert sensor.limit() == 0
    storage.set_concurrency_slots(UPLOAD_POOL, 3)
    use(site, 1_800)
    sensor.tick()
    assert sensor.limit() == 0
    room_again(site)
    sensor.tick()
    assert sensor.limit() == 3


def test_limits_that_are_taken_out_of_the_configuration_open_the_pool_again(
    make_site: MakeSite, sensor: Sensor
) -> None:
    site = make_site(photos=0, limits=LIMITS)
    use(site, 1_800)
    sensor.tick()
    assert sensor.limit() == 0
    site.configure(limits=None)
    assert sensor.tick() == "opened the pool s3_upload again"
    assert sensor.limit() is None
    assert sensor.tick() == "uploads may go on"


def test_without_state_it_does_nothing(make_site: MakeSite, sensor: Sensor) -> None:
    make_site(photos=0, limits=LIMITS)
    assert sensor.tick() == "nothing has been migrated yet"


def test_while_the_migration_is_paused_the_pool_is_closed_too(make_site: MakeSite, sensor: Sensor) -> None:
    site = make_site(photos=1)
    with site.project() as project:
        site.inventory(project)
        control.pause(project.database, reason="dinner", run="test", by="ann")
    assert "paused by ann" in sensor.tick()
    assert sensor.limit() == 0
    with site.project() as project:
        control.resume(project.database, run="test")
    assert sensor.tick() == "opened the pool s3_upload again"
    assert sensor.limit() is None
    with site.project() as project:
        control.abort(project.database, reason="enough", run="test")
    assert sensor.tick() == "uploads may go on"


def test_a_dagster_run_counts_its_requests_and_gives_back_what_it_counted_ahead_also_if_it_fails(
    make_site: MakeSite, s3_access_log: Path
) -> None:
    site = make_site(photos=2)
    migrated(site)  # with variants that are no pictures, which the job will find
    site.configure(validation={"sample": 1})
    site.execute("DELETE FROM pp_usage")
    before = s3_access_log.read_text(encoding="utf-8").count('"HEAD"')
    with dg.instance_for_test() as instance:
        job = defs.resolve_job_def("revalidate")
        assert not job.execute_in_process(instance=instance, raise_on_error=False).success
    heads = s3_access_log.read_text(encoding="utf-8").count('"HEAD"') - before
    used = {row[0]: row[1] for row in site.execute("SELECT unit, amount FROM pp_usage")}
    assert used["cdn_requests"] >= 2
    assert used["gets"] == heads
