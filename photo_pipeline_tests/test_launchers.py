"""`SupervisedRunLauncher` asked about real runs: living, killed, and with their code server gone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import dagster as dg
import pytest
from dagster._cli.job import _create_run
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._grpc.client import DagsterGrpcClient

from photo_pipeline.launchers import SupervisedRunLauncher

DEADLINE_S = 90.0

INSTANCE = """
telemetry: {enabled: false}
run_launcher: {module: photo_pipeline.launchers, class: SupervisedRunLauncher}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""

# A run that says its process id and lives until it is killed.
WAITING = """
import os
from pathlib import Path
import dagster as dg

HERE = Path(__file__).parent

@dg.op
def wait():
    (HERE / "draft").write_text(str(os.getpid()))
    (HERE / "draft").rename(HERE / "pid")
    (HERE / "gate").open().read()

@dg.job(executor_def=dg.in_process_executor)
def waiting():
    wait()

defs = dg.Definitions(jobs=[waiting])
"""

Found = TypeVar("Found")


def eventually(look: Callable[[], Found | None]) -> Found:
    """Return what `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


@dataclass
class WaitingRun:
    """A run in a process of its own, launched through a code server of its own."""

    instance: dg.DagsterInstance
    code_server: subprocess.Popen[bytes]
    run_id: str
    worker: int

    def health(self) -> CheckRunHealthResult:
        """What the launcher says of the run when run monitoring asks."""
        run = self.instance.get_run_by_id(self.run_id)
        assert run is not None
        return self.instance.run_launcher.check_run_worker_health(run)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(INSTANCE, encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@pytest.fixture
def code_server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], GrpcServerTarget]]:
    (tmp_path / "waiting.py").write_text(WAITING, encoding="utf-8")
    os.mkfifo(tmp_path / "gate")
    with TemporaryDirectory(prefix="pp-", dir="/tmp") as short:  # a socket's path has at most 107 bytes
        socket = f"{short}/code.sock"
        command = [sys.executable, "-m", "dagster", "api", "grpc", "-f", "waiting.py", "--socket", socket]
        with (tmp_path / "code-server.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            eventually(lambda: answers(DagsterGrpcClient(socket=socket)))
            yield (
                process,
                GrpcServerTarget(host="localhost", port=None, socket=socket, location_name="waiting"),
            )
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def waiting(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    code_server: tuple[subprocess.Popen[bytes], GrpcServerTarget],
) -> Iterator[WaitingRun]:
    process, target = code_server
    run_id = launch(instance, target)
    pid = tmp_path / "pid"
    worker = int(eventually(lambda: pid.exists() and pid.read_text(encoding="utf-8")))
    yield WaitingRun(instance, process, run_id, worker)
    with suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)


def answers(client: DagsterGrpcClient) -> bool:
    try:
        return client.health_check_query() == "SERVING"
    except DagsterUserCodeUnreachableError:
        return False


def launch(instance: dg.DagsterInstance, target: GrpcServerTarget) -> str:
    """Launch the waiting job as the daemon does; return the run's id."""
    with WorkspaceProcessContext(instance, target) as process_context:
        workspace = process_context.create_request_context()
        location = workspace.get_code_location("waiting")
        (repository,) = location.get_repositories().values()
        job = repository.get_full_job("waiting")
        run = _create_run(instance, location, repository, job, {}, None, None, None)
        instance.launch_run(run.run_id, workspace)
        return run.run_id


def test_a_living_run_is_reported_as_running(waiting: WaitingRun) -> None:
    assert waiting.instance.run_launcher.supports_check_run_worker_health
    assert isinstance(waiting.instance.run_launcher, SupervisedRunLauncher)
    assert waiting.health().status is WorkerStatus.RUNNING


def test_a_run_whose_process_was_killed_is_reported_as_gone(waiting: WaitingRun) -> None:
    os.kill(waiting.worker, signal.SIGKILL)
    eventually(lambda: waiting.health().status is WorkerStatus.NOT_FOUND)


def test_a_run_whose_code_server_is_gone_is_reported_as_gone(waiting: WaitingRun) -> None:
    waiting.code_server.kill()
    waiting.code_server.wait()
    health = waiting.health()
    assert health.status is WorkerStatus.NOT_FOUND
    assert health.msg == "the code server is gone"


def test_a_run_that_no_code_server_started_is_reported_as_gone(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status is WorkerStatus.NOT_FOUND
    assert health.msg == "the run has no code server"
