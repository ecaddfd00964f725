"""The operator's path through a real `dagster dev`: the repository's own files, driven by GraphQL.

What the buttons of the UI send is what is sent here. One server for both tests; they use different batches.
They take a minute of two cores, most of it for Dagster's own processes: `make test` has the same jobs in one
process (`test_assets`, `test_migration_driver`) and a real web server (`browser/test_dagster_ui`).
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import urllib3

from photo_pipeline.core.config import CONFIG_ENV
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY
from photo_pipeline_tests.sites import Site, build_site, photo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND, THIRD = "batch-000001", "batch-000002", "batch-000003"
DEADLINE_S = 240.0
REPOSITORY = {"repositoryLocationName": "photo_pipeline", "repositoryName": "__repository__"}
FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}

LAUNCH_RUN = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
LAUNCH_BACKFILL = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on PartitionKeysNotFoundError { message }
  }
}"""
RUNS = """
query($filter: RunsFilter!) {
  runsOrError(filter: $filter) { ... on Runs { results { runId status jobName tags { key value } } } }
}"""
BACKFILL = """
query($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
}"""
MATERIALIZATIONS = """
query($asset: [String!]!, $partitions: [String!]) {
  assetNodeOrError(assetKey: {path: $asset}) {
    ... on AssetNode {
      assetMaterializations(partitions: $partitions) {
        partition
        runId
        tags { key value }
        metadataEntries { label ... on IntMetadataEntry { intValue } }
      }
    }
  }
}"""
CHECKS = """
query($asset: AssetKeyInput!, $check: String!) {
  assetCheckExecutions(assetKey: $asset, checkName: $check, limit: 20) {
    runId
    status
    evaluation { success partition }
  }
}"""

Found = TypeVar("Found")


def eventually(look: Callable[[], Found | None], what: str) -> Found:
    """Return what `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"in {DEADLINE_S:.0f} s there was no {what}"
        time.sleep(0.2)
    return found


@dataclass
class DagsterUi:
    """A running `dagster dev` on a site."""

    url: str
    site: Site
    before: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def ask(self, query: str, **variables: Any) -> Any:
        """Send a GraphQL request; return the one thing that it asks for."""
        body = {"query": query, "variables": variables}
        answer = urllib3.request("POST", f"{self.url}/graphql", json=body, timeout=60, retries=False)
        document = answer.json()
        assert "errors" not in document, document["errors"]
        (result,) = document["data"].values()
        return result

    def launch(self, job: str, partition: str | None = None) -> str:
        """Launch one run; return its id."""
        tags = [{"key": "dagster/partition", "value": partition}] if partition else []
        params = {
            "selector": REPOSITORY | {"jobName": job},
            "runConfigData": {},
            "executionMetadata": {"tags": tags},
        }
        result = self.ask(LAUNCH_RUN, params=params)
        assert result["__typename"] == "LaunchRunSuccess", result
        return str(result["run"]["runId"])

    def launch_backfill(self, job: str, partitions: list[str]) -> str:
        """Launch a backfill of a job, as the UI's "Launch backfill" does; return its id."""
        selector = {"partitionSetName": f"{job}_partition_set", "repositorySelector": REPOSITORY}
        params = {"selector": selector, "partitionNames": partitions}
        result = self.ask(LAUNCH_BACKFILL, params=params)
        assert result["__typename"] == "LaunchBackfillSuccess", result
        return str(result["backfillId"])

    def runs(self, **run_filter: Any) -> list[dict[str, Any]]:
        return list(self.ask(RUNS, filter=run_filter)["results"])

    def runs_tagged(self, key: str, value: str) -> list[dict[str, Any]]:
        return self.runs(tags=[{"key": key, "value": value}])

    def wait_for_run(self, run_id: str) -> str:
        """Wait until the run has ended; return how."""

        def ended() -> str | None:
            (run,) = self.runs(runIds=[run_id])
            return run["status"] if run["status"] in FINISHED else None

        return eventually(ended, f"end of the run {run_id}")

    def wait_for_runs_of(self, backfill_id: str, count: int) -> set[str]:
        """Wait until the backfill's runs have ended; return how.

        Dagster notices the end of a backfill itself up to 30 s later.
        """

        def all_launched() -> list[dict[str, Any]] | None:
            found = self.runs_tagged("dagster/backfill", backfill_id)
            return found if len(found) == count else None

        runs = eventually(all_launched, f"{count} runs of the backfill {backfill_id}")
        return {self.wait_for_run(run["runId"]) for run in runs}

    def wait_for_backfill(self, backfill_id: str) -> str:
        """Wait until all runs of the backfill have ended; return how."""

        def ended() -> str | None:
            status = self.ask(BACKFILL, id=backfill_id)["status"]
            return None if status in ("REQUESTED", "CANCELING") else str(status)

        return eventually(ended, f"end of the backfill {backfill_id}")

    def rows(self, batch: str) -> dict[str, tuple[Any, ...]]:
        """The application's rows of a batch, whole, by key."""
        members = self.site.execute("SELECT row_key FROM pp_photo WHERE batch = :batch", batch=batch)
        keys = {row.row_key.strip('[]"') for row in members}
        return {
            row.id: tuple(row) for row in self.site.execute("SELECT * FROM item_photos") if row.id in keys
        }

    def urls(self, batch: str) -> list[str]:
        return [str(row[2]) for row in self.rows(batch).values()]

    def local(self, batch: str) -> dict[str, tuple[Any, ...]]:
        """The rows of a batch as they were before anything was migrated."""
        return {key: self.before[key] for key in self.rows(batch)}


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory, servers: RunningServers) -> Iterator[DagsterUi]:
    """`dagster dev` on a site of three batches, after its inventory."""
    home = tmp_path_factory.mktemp("dagster-ui")
    site = build_site(
        home / "site",
        url=f"sqlite:///{home / 'site/app.db'}",
        servers=servers,
        name=f"ui-{os.getpid()}",
        photos=6,
        batch_size=2,
    )
    for number in (4, 5):  # the third batch: large enough that a run can be met at work
        photo(site.uploads / f"items/{number}.jpg", width=1600, height=1200, seed=number)
    before = {row.id: tuple(row) for row in site.execute("SELECT * FROM item_photos")}
    process = start_dagster_dev(home, site, port := free_port())
    try:
        server = DagsterUi(f"http://127.0.0.1:{port}", site, before)
        eventually(lambda: is_up(server.url, process), "answer of the web server")
        assert server.wait_for_run(server.launch("inventory")) == "SUCCESS"
        yield server
    finally:
        stop(process)
    assert processes_of(home) == []


def start_dagster_dev(home: Path, site: Site, port: int) -> "subprocess.Popen[bytes]":
    """Start web server, daemon and code location on the site."""
    return start_dagster(home, site, "dagster", "dev", "-h", "127.0.0.1", "-p", str(port))


def start_dagster(home: Path, site: Site, module: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a program of Dagster's on the site, with the repository's own workspace.

    In `home`: relative folders in dagster.yaml, such as `.dagster`, are relative to there.
    """
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DAGSTER_"))}
    environment = kept | {
        "DAGSTER_HOME": str(home),
        CONFIG_ENV: str(site.config_path),
        "APP_DATABASE_URL": site.url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [sys.executable, "-m", module, *arguments, "-w", str(ROOT / "workspace.yaml")]
    with (home / f"{module}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=home,
            env=environment,
            stdout=log,
            stderr=log,
            # Under a shell's `&` SIGINT is ignored, and Dagster would ignore SIGTERM with it (facts A7).
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_up(url: str, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "Dagster ended by itself"
    try:
        return urllib3.request("GET", f"{url}/server_info", retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(timeout=60)


def processes_of(home: Path) -> list[str]:
    """Processes that still work in `home`, once those that are ending have had their time."""
    deadline = time.monotonic() + 60
    while (found := _working_in(home)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _working_in(home: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == home:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def facts(ui: DagsterUi, asset: str, partition: str) -> list[dict[str, Any]]:
    """Materializations of an asset's partition, the newest first: metadata, tags and run."""
    node = ui.ask(MATERIALIZATIONS, asset=[asset], partitions=[partition])
    found = []
    for each in node["assetMaterializations"]:
        assert each["partition"] == partition
        metadata = {entry["label"]: entry.get("intValue") for entry in each["metadataEntries"]}
        found.append(metadata | {tag["key"]: tag["value"] for tag in each["tags"]} | {"run": each["runId"]})
    return found


def passed_checks(ui: DagsterUi, asset: str, check: str) -> set[str]:
    """Partitions for which the check was executed and passed."""
    executions = ui.ask(CHECKS, asset={"path": [asset]}, check=check)
    return {each["evaluation"]["partition"] for each in executions if each["status"] == "SUCCEEDED"}


def test_a_backfill_migrates_batches_and_another_takes_one_of_them_back(ui: DagsterUi) -> None:
    migration = ui.launch_backfill("migrate", [FIRST, SECOND])
    assert ui.wait_for_runs_of(migration, 2) == {"SUCCESS"}
    cdn = ui.site.settings["cdn"]["base_url"]
    for batch in (FIRST, SECOND):
        assert len(ui.urls(batch)) == 2
        assert all(url.startswith(f"{cdn}/") for url in ui.urls(batch))
        (rewritten,) = facts(ui, "db_url_rewrites", batch)
        assert (rewritten["rewritten"], rewritten["url_target"]) == (2, "cdn")
    migrated = ui.rows(SECOND)
    rollback = ui.launch_backfill("rollback", [FIRST])
    assert ui.wait_for_runs_of(rollback, 1) == {"SUCCESS"}
    assert ui.rows(FIRST) == ui.local(FIRST)
    assert ui.rows(SECOND) == migrated
    assert [each["url_target"] for each in facts(ui, "db_url_rewrites", FIRST)] == ["local", "cdn"]
    assert [each["url_target"] for each in facts(ui, "db_url_rewrites", SECOND)] == ["cdn"]
    assert facts(ui, "db_url_rewrites", FIRST)[0]["rolled_back"] == 2
    assert {FIRST, SECOND} <= passed_checks(ui, "db_url_rewrites", "no_dangling_url")
    assert {FIRST, SECOND} <= passed_checks(ui, "s3_objects", "every_photo_is_uploaded_or_explained")
    assert {FIRST, SECOND} <= passed_checks(ui, "validation_report", "every_photo_is_delivered_intact")
    assert ui.wait_for_backfill(migration) == "COMPLETED_SUCCESS"


def test_a_run_whose_worker_is_killed_is_retried_and_finishes(ui: DagsterUi) -> None:
    run_id = ui.launch("migrate", THIRD)
    os.kill(eventually(lambda: worker_of(ui.site, run_id), "worker with the lease"), signal.SIGKILL)
    assert ui.wait_for_run(run_id) == "FAILURE"
    retry = eventually(lambda: ui.runs_tagged("dagster/parent_run_id", run_id), "new run by run_retries")[0]
    assert ui.wait_for_run(retry["runId"]) == "SUCCESS"
    cdn = ui.site.settings["cdn"]["base_url"]
    assert all(url.startswith(f"{cdn}/") for url in ui.urls(THIRD))
    assert all(urllib3.request("GET", url).status == 200 for url in ui.urls(THIRD))
    entries = ui.site.execute(
        "SELECT run FROM pp_rewrite WHERE batch = :batch AND photo_id IS NOT NULL", batch=THIRD
    )
    assert [entry.run for entry in entries] == [retry["runId"]] * 2
    assert THIRD in passed_checks(ui, "validation_report", "every_photo_is_delivered_intact")


def worker_of(site: Site, run_id: str) -> int | None:
    """The process that works on the batch for that run: the lease names it (host/pid/run)."""
    for (owner,) in site.execute("SELECT lease_owner FROM pp_batch WHERE lease_owner IS NOT NULL"):
        _, pid, run = owner.split("/")
        if run == run_id:
            return int(pid)
    return None
