"""Run launchers: how a run's process is started and watched.

Uses private parts of Dagster (checked against 1.13.27), hence the pin `dagster<1.14` and its own test.
"""

from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value


class SupervisedRunLauncher(DefaultRunLauncher):
    """DefaultRunLauncher that lets run monitoring notice a worker that vanished.

    After a power cut or `kill -9` of everything, the stock launcher leaves the run STARTED for ever and it
    keeps its slot; with this one, monitoring fails the run and `run_retries` resumes it.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Always: run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether the code server that started the run still has its process."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the run has no code server")
        try:
            reply = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=5)
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the code server is gone")
        alive = deserialize_value(reply, CanCancelExecutionResult).can_cancel
        return CheckRunHealthResult(WorkerStatus.RUNNING if alive else WorkerStatus.NOT_FOUND)
