"""The clean-up from the command line, as a Dagster job, and by its schedule."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from photo_pipeline.cli.program import app
from photo_pipeline.core.cleanup.orphans_bucket import StoreBucket
from photo_pipeline.definitions import defs
from photo_pipeline.resources.settings import PipelineSettings
from photo_pipeline.schedules import orphan_sweep
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cleanup.scene import opened
from photo_pipeline_tests.core.migration.quick import migrated


class Clock:
    """Moves the store's time for every bucket of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta(0)
        really = StoreBucket.now
        monkeypatch.setattr(StoreBucket, "now", lambda bucket: really(bucket) + self.ahead)

    def later(self, *, hours: int) -> None:
        self.ahead += timedelta(hours=hours)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def command(*words: str) -> tuple[int, Any]:
    ran = CliRunner().invoke(app, ["orphans", *words, "--json"], prog_name="photo-pipeline")
    return ran.exit_code, json.loads(ran.stdout)


def test_the_commands_from_scan_to_undo(make_site: MakeSite, clock: Clock) -> None:
    site = make_site(photos=3)
    assert command("scan")[0] == 3, "nothing was migrated: there are no state tables"
    migrated(site)
    with opened(site) as scene:
        key = scene.put(scene.key_of_nobody())
        assert command("scan")[0] == 0, "it is fresh"
        clock.later(hours=25)
        code, result = command("scan")
        assert code == 1
        assert [each["key"] for each in result["scan"]["orphans"]] == [key]
        assert result["scan"]["census"]["listed"] == 22
        assert result["drift"]["total"] == 0
        assert command("mark")[1]["mark"] == {
            "applied": False,
            "new": 1,
            "kept": 0,
            "taken_back": 0,
            "vanished": 0,
        }
        assert command("mark", "--apply")[1]["mark"]["new"] == 1
        clock.later(hours=25)
        assert command("delete")[1]["delete"]["deleted"] == 1
        assert key in scene.stored(), "a dry run by default"
        code, result = command("delete", "--apply")
        assert (code, result["delete"]["keys"]) == (0, [key])
        assert key not in scene.stored()
        assert command("undo")[0] == 2
        code, result = command("undo", "--run", result["delete"]["run"], "--apply")
        assert (code, result["undo"]["restored"]) == (0, 1)
        assert key in scene.stored()
        assert command("mark", "--max-share", "0.01")[0] == 3
        scene.project.store.delete(sorted(scene.stored() - {key})[0])
        code, result = command("scan")
        assert (code, result["drift"]["counts"]) == (1, {"missing": 1})


def bucket_requests(s3_access_log: Path) -> int:
    entries = [json.loads(line) for line in s3_access_log.read_text(encoding="utf-8").splitlines()]
    return sum((each["method"], each["path"]) == ("GET", "/versioned-photos") for each in entries)


def test_the_job_reports_marks_and_deletes_and_fails_for_a_missing_object(
    make_site: MakeSite, clock: Clock, s3_access_log: Path
) -> None:
    site = make_site(photos=3)
    migrated(site)
    job = defs.resolve_job_def("orphan_cleanup")
    with opened(site) as scene, dg.instance_for_test() as instance:
        key = scene.put(scene.key_of_nobody())

        def run(do: str) -> dg.ExecuteInProcessResult:
            config = {"ops": {"compare_bucket_and_rows": {"config": {"do": do}}}}
            return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)

        clock.later(hours=25)
        before = bucket_requests(s3_access_log)
        assert run("report").success
        # Whether it keeps versions, and the one listing that the limits were asked for.
        assert bucket_requests(s3_access_log) == before + 2
        assert site.execute("SELECT COUNT(*) FROM pp_orphan") == [(0,)]
        assert run("mark").success
        clock.later(hours=25)
        assert key in scene.stored()
        assert run("delete").success
        assert key not in scene.stored()
        missing = sorted(scene.stored())[0]
        scene.project.store.delete(missing)
        result = run("report")
        (failed,) = result.get_step_failure_events()
        assert "1 rows whose object" in str(failed.step_failure_data.user_failure_data.description)


def test_the_schedule_starts_one_run_that_does_what_the_file_says(make_site: MakeSite) -> None:
    site = make_site(photos=0)
    site.configure(orphans={"schedule": "10 4 * * *", "schedule_does": "delete"})

    def tick(minute: int) -> Any:
        moment = datetime(2026, 3, 15, 4, minute, tzinfo=UTC)
        context = dg.build_schedule_context(
            scheduled_execution_time=moment, resources={"settings": PipelineSettings()}
        )
        return orphan_sweep(context)

    assert isinstance(tick(0), dg.SkipReason)
    request = tick(15)
    assert request.run_key == "2026-03-15T04:10"
    assert request.run_config["ops"]["compare_bucket_and_rows"]["config"] == {"do": "delete"}
