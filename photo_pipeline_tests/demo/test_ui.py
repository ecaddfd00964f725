"""What `make ui` needs before it starts: an instance that reports to nobody, and a port of its own."""

import socket
from pathlib import Path

import pytest
from dagster import DagsterInstance
from dagster_shared.telemetry import get_telemetry_enabled_from_dagster_yaml

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.demo.run import dagster_home
from photo_pipeline.demo.ui import require_free


def test_outside_of_a_checkout_dagsters_instance_sends_no_telemetry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    home = dagster_home()
    assert home == tmp_path / ".photo_pipeline/dagster"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with DagsterInstance.get() as instance:
        assert instance.get_settings("telemetry")["enabled"] is False
    assert get_telemetry_enabled_from_dagster_yaml() is False


def test_settings_that_are_there_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    own = dagster_home() / "dagster.yaml"
    own.write_text("telemetry: {enabled: true}\n", encoding="utf-8")
    dagster_home()
    assert own.read_text(encoding="utf-8") == "telemetry: {enabled: true}\n"


def test_a_port_that_is_taken_is_refused_with_another_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as refused:
            require_free("127.0.0.1", port)
    assert f"--port {port + 1}" in str(refused.value)
    require_free("127.0.0.1", port)
