"""Two real processes start on one batch at once: one works, the other refuses and says who is at it."""

import json
import subprocess
import sys
from typing import Any

import pytest

from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import uploaded
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.faults.test_storage_faults import tiny_photos

BATCH = "batch-000001"
# Both wait for the word, so that they start as one; the one that works keeps the batch until its input ends.
RUNNER = """
import json, os, sys
from pathlib import Path
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.rewrite import rewrite_batch
from photo_pipeline.core.migration.state import settle_forward
from photo_pipeline.core.project import Project
if sys.argv[2] == "no lease":
    BatchLease.__enter__ = lambda self: self
    BatchLease.hold = lambda self, connection: None
with Project.load(Path(os.environ["PHOTO_PIPELINE_CONFIG"])) as project:
    project.store
    project.database
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        with BatchLease(project.database, "batch-000001", run=sys.argv[1]) as lease:
            done = rewrite_batch(project.database, project.config, lease, project.store, project.cdn)
            settle_forward(project.database, lease)
            print(json.dumps({"worked": done.rewritten}), flush=True)
            sys.stdin.read()
    except GuardRefusedError as refusal:
        print(json.dumps({"refused": str(refusal), "exit_code": refusal.exit_code}), flush=True)
"""


def start(run: str, without: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, run, without],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def both_at_once(without: str = "") -> dict[str, dict[str, Any]]:
    """Start two runs as one; return what each said, by run, with the worker's process id."""
    processes = {run: start(run, without) for run in ("run-one", "run-two")}
    try:
        for process in processes.values():
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        return {
            run: json.loads(process.stdout.readline() if process.stdout else "") | {"pid": process.pid}
            for run, process in processes.items()
        }
    finally:
        for process in processes.values():
            process.communicate()


def assert_one_works_and_one_refuses(make_site: MakeSite, database: str, without: str = "") -> None:
    site = make_site(photos=0, rows=[], database=database, rewrite={"rows_per_transaction": 1})
    tiny_photos(site, 4)
    assert uploaded(site) == [BATCH]
    said = both_at_once(without)
    workers = [run for run, outcome in said.items() if "worked" in outcome]
    refused = [outcome for outcome in said.values() if "refused" in outcome]
    assert (len(workers), len(refused)) == (1, 1)
    (worker,) = workers
    assert said[worker]["worked"] == 4
    assert f"/{said[worker]['pid']}/{worker}" in refused[0]["refused"]
    assert refused[0]["exit_code"] == 3
    assert site.states() == {"migrated": 4}
    runs = {row.run for row in site.execute("SELECT DISTINCT run FROM pp_rewrite")}
    assert runs == {worker}


@MOSTLY_SQLITE
def test_of_two_processes_on_one_batch_one_works_and_the_other_names_it(
    make_site: MakeSite, database: str
) -> None:
    assert_one_works_and_one_refuses(make_site, database)


@pytest.mark.slow
def test_without_the_lease_two_processes_on_one_batch_are_found_out(make_site: MakeSite) -> None:
    with pytest.raises((AssertionError, json.JSONDecodeError)):
        assert_one_works_and_one_refuses(make_site, "sqlite", without="no lease")
