"""`alerts` and `metrics` as a script meets them."""

import json
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from photo_pipeline.cli import app
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.receivers import webhook_server
from photo_pipeline_tests.sockets import free_port
from photo_pipeline_tests.test_sensors import LIMITS, use


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def document(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_the_commands_show_check_and_test(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(photos=0, limits=LIMITS, alerts={"channels": ["slack"]})
    assert run("alerts", "list").exit_code == 2  # nothing has been migrated yet
    use(site, 1)
    assert (run("alerts", "list").exit_code, run("alerts", "check").exit_code) == (0, 0)
    use(site, 1_700)
    monkeypatch.setenv("PHOTO_PIPELINE_SLACK_WEBHOOK_URL", f"http://127.0.0.1:{free_port()}/hush")
    failed = run("alerts", "check")
    assert failed.exit_code == 4
    assert "NOT sent" in failed.stdout
    assert run("alerts", "test").exit_code == 4
    listed = run("alerts", "list")
    assert listed.exit_code == 1
    assert "does not answer" in listed.stdout
    assert "hush" not in listed.stdout + failed.stdout
    with webhook_server() as webhook:
        monkeypatch.setenv("PHOTO_PIPELINE_SLACK_WEBHOOK_URL", webhook.url)
        assert run("alerts", "test").exit_code == 0
        assert run("alerts", "check").exit_code == 1
    assert any("This is a test" in text for text in webhook.texts)
    assert any("Spending nears a limit" in text for text in webhook.texts)
    shown = document("alerts", "list")
    (channel,) = shown["alerts"][0]["channels"]
    assert (channel["told"], channel["error"], channel["failures"]) == ("open", None, 0)
    assert document("alerts", "check")["sent"] == []


def test_metrics_print_as_text_as_json_and_as_emf(make_site: MakeSite) -> None:
    site = make_site(photos=0, limits=LIMITS)
    use(site, 100)
    assert 'photo_pipeline_usage{unit="puts"} 100.0' in run("metrics").stdout.splitlines()
    sample = {"name": "photo_pipeline_usage", "labels": {"unit": "puts"}, "value": 100}
    assert sample in document("metrics")["metrics"]
    lines = [json.loads(line) for line in run("metrics", "--emf").stdout.splitlines()]
    assert any(line.get("unit") == "puts" and line["photo_pipeline_usage"] == 100 for line in lines)


def test_reconciling_with_a_store_that_is_not_at_aws_is_refused_with_the_reason(make_site: MakeSite) -> None:
    site = make_site(photos=0)
    use(site, 1)
    refused = run("cost", "reconcile")
    assert refused.exit_code == 2
    assert "only AWS reports to CloudWatch" in refused.stderr
