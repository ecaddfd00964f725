"""Provisioning as its users meet it: `photo-pipeline provision`, and the job `provision_storage`."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from photo_pipeline.cli import app
from photo_pipeline.definitions import defs
from photo_pipeline_tests.core.provisioning.worlds import document, make_world
from photo_pipeline_tests.pretend_aws import PretendAws

BUCKET_ALONE = {
    "access_logs": {"enabled": False},
    "cdn": {"enabled": False},
    "alerts": {"enabled": False},
}


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a configuration without a CDN, which is yet to come, and choose it by the environment."""

    def write(bucket: str, **parts: Any) -> None:
        path = tmp_path / "photo_pipeline.yaml"
        path.write_text(yaml.safe_dump(document(bucket, **parts)), encoding="utf-8")
        monkeypatch.setenv("PHOTO_PIPELINE_CONFIG", str(path))

    return write


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["provision", *arguments], input=answer)


def suspend(bucket: str) -> None:
    make_world(bucket).aws.s3.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
    )


def test_plan_apply_and_drift_with_their_exit_codes(pretend_aws: PretendAws, configured: Any) -> None:
    configured("cli-photos", provision=BUCKET_ALONE)
    planned = run("plan")
    assert planned.exit_code == 0
    assert "+ create bucket\n    + name: cli-photos" in planned.output
    assert "to create, 0 to change" in planned.output
    assert run("drift").exit_code == 1
    refused = run("apply")
    assert refused.exit_code == 3
    assert "was not agreed to" in refused.output
    assert run("apply", "--yes").exit_code == 0
    assert run("drift").exit_code == 0
    suspend("cli-photos")
    drifted = run("drift")
    assert drifted.exit_code == 1
    assert "~ update bucket.versioning\n    ~ Status: Suspended -> Enabled" in drifted.output
    assert run("plan").exit_code == 0


def test_somebody_at_a_terminal_is_asked(pretend_aws: PretendAws, configured: Any) -> None:
    configured("asked-photos", provision=BUCKET_ALONE)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as keyboard:
        keyboard.write(b"yes\n")
        command = [sys.executable, "-m", "photo_pipeline.cli", "provision", "apply"]
        done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=120, check=False)
        os.close(theirs)
    assert "Make these changes?" in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


def test_json_is_one_document_and_its_digest_is_what_apply_takes(
    pretend_aws: PretendAws, configured: Any
) -> None:
    configured("json-photos", provision=BUCKET_ALONE)
    plan = json.loads(run("plan", "--json").stdout)
    assert plan["changes"][0] == {
        "resource": "bucket",
        "action": "create",
        "differences": [{"path": "name", "actual": None, "desired": "json-photos"}],
    }
    other = run("apply", "--plan", "0" * 16, "--json")
    assert other.exit_code == 3
    assert json.loads(other.stdout)["exit_code"] == 3
    done = run("apply", "--plan", plan["digest"], "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["after"]["clean"]
    assert json.loads(run("drift", "--json").stdout)["changes"] == []


@pytest.mark.slow
def test_after_an_apply_it_says_what_the_configuration_lacks_with_a_cloudfront_stub(
    pretend_aws: PretendAws, configured: Any
) -> None:
    quiet = {**BUCKET_ALONE, "cdn": {}}
    configured("said-photos", provision=quiet)
    shown = run("apply", "--yes").output
    assert "cdn: {base_url: https://e" in shown
    line = next(each for each in shown.splitlines() if "cdn: {base_url" in each)
    cdn = yaml.safe_load(line.partition("configuration: ")[2])["cdn"]
    configured("said-photos", provision=quiet, cdn=cdn)
    again = run("apply", "--yes")
    assert again.exit_code == 0
    assert "cdn: {" not in again.output


def test_policies_are_plain_json_and_an_unknown_role_is_a_usage_error(configured: Any) -> None:
    configured("any-photos")
    every = json.loads(run("policies").stdout)
    assert set(every) == {"migrator", "uploader", "cleaner", "reader", "provisioner"}
    assert json.loads(run("policies", "--role", "reader").stdout) == every["reader"]
    wrong = run("policies", "--role", "root")
    assert wrong.exit_code == 2
    assert "migrator" in wrong.output


def launch(**config: Any) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("provision_storage").execute_in_process(
        run_config={"ops": {"provision": {"config": config}}}, raise_on_error=False
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    reason = event.step_failure_data.user_failure_data
    assert reason is not None
    return str(reason.description)


def test_the_job_applies_only_what_was_agreed_to(pretend_aws: PretendAws, configured: Any) -> None:
    configured("job-photos", provision=BUCKET_ALONE)
    planned = launch()
    assert planned.success
    (output,) = planned.filter_events(lambda event: event.is_successful_output)
    facts = output.step_output_data.metadata
    digest = facts["plan_digest"].value
    assert "+ create bucket" in facts["plan"].value
    assert "nobody has agreed" in failure(launch(action="apply"))
    assert launch(action="apply", plan_digest=digest).success
    suspend("job-photos")
    assert "1 things are not as configured: bucket.versioning" in failure(launch(action="drift"))
    assert "another plan" in failure(launch(action="apply", plan_digest=digest))
    assert launch(action="apply", confirm=True).success
