"""A child program that runs Dagster jobs on a site and, when told to, kills itself at an exact moment.

It follows one plan, in a process of `processes`. Everything that makes a process die, or takes a defence
away, is patched in here; the product has no hooks.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg
import obstore
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.chunk_rewrite import ChunkRewriter
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.definitions import defs

PARTITION = "batch-000001"

Moment = Literal["before", "after"]
Defence = Literal["", "ledger in the row's transaction", "conditional PUT"]


@dataclass(frozen=True)
class Plan:
    """Which jobs to run, and where to die: right before or after the n-th commit (or PUT) of an asset.

    `n` 0 means to live. `job` is the one of `jobs` in which `asset` is meant.
    """

    jobs: tuple[str, ...]
    asset: str = ""
    job: str = ""
    moment: Moment = "before"
    event: Literal["commit", "PUT"] = "commit"
    n: int = 0
    without: Defence = ""


class Fuse:
    """Counts what happens inside one asset of one job, and kills this process at the planned moment."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._counts = {"before": 0, "after": 0}
        self.job = ""

    def pass_by(self, event: str, moment: Moment) -> None:
        plan = self._plan
        if (event, self.job, moment) != (plan.event, plan.job, plan.moment):
            return
        if event == "commit" and _running_asset() != plan.asset:
            return
        with self._lock:
            self._counts[moment] += 1
            if self._counts[moment] == plan.n:
                os.kill(os.getpid(), signal.SIGKILL)


def _running_asset() -> str:
    try:
        return dg.AssetExecutionContext.get().op.name
    except dg.DagsterInvariantViolationError:
        return ""  # an asset check, or between two assets


def _arm(fuse: Fuse) -> None:
    write, put_new = Database.write, PhotoStore.put_new

    @contextmanager
    def fused_write(database: Database, **options: Any) -> Iterator[Connection]:
        with write(database, **options) as connection:
            yield connection
            fuse.pass_by("commit", "before")
        fuse.pass_by("commit", "after")

    def fused_put(store: PhotoStore, key: str, data: bytes, **options: Any) -> bool:
        fuse.pass_by("PUT", "before")
        created = put_new(store, key, data, **options)
        fuse.pass_by("PUT", "after")
        return created

    Database.write = fused_write  # type: ignore[method-assign]
    PhotoStore.put_new = fused_put  # type: ignore[method-assign]


def _write_ledger_in_a_transaction_of_its_own() -> None:
    """Remove a defence: the rows commit first, their ledger entries afterwards."""
    write, record = Database.write, ledger.record
    owed: list[dict[str, Any]] = []

    @contextmanager
    def late_write(database: Database, **options: Any) -> Iterator[Connection]:
        with write(database, **options) as connection:
            yield connection
        if owed:
            entries = [owed.pop() for _ in range(len(owed))]
            with write(database) as connection:
                record(connection, entries)

    # One row at a time, by the one function that records it.
    ChunkRewriter._rewrite_plain = lambda *_args: []  # type: ignore[method-assign]
    Database.write = late_write  # type: ignore[method-assign]
    ledger.record = lambda _connection, entries: owed.extend(entries)


def _put_unconditionally() -> None:
    """Remove a defence: an object that is there is sent again instead of being adopted."""
    put = obstore.put
    obstore.put = lambda *args, **options: put(*args, **(options | {"mode": "overwrite"}))


_REMOVERS: dict[Defence, Callable[[], None]] = {
    "ledger in the row's transaction": _write_ledger_in_a_transaction_of_its_own,
    "conditional PUT": _put_unconditionally,
}


def run(plan: Plan) -> None:
    """Follow the plan in this process, on Dagster's persistent instance in $DAGSTER_HOME."""
    fuse = Fuse(plan)
    if plan.n:
        _arm(fuse)
    if plan.without:
        _REMOVERS[plan.without]()
    with dg.DagsterInstance.get() as instance:
        for job in plan.jobs:
            fuse.job = job
            partition = None if job == "inventory" else PARTITION
            defs.resolve_job_def(job).execute_in_process(instance=instance, partition_key=partition)


def follow(request: dict[str, Any]) -> None:
    """Follow the plan, as a process of `processes`."""
    run(Plan(**request))


# What a run imports on its way, half a second of CPU each time.
IMPORTED_LATE = (
    "boto3.s3.inject",
    "dagster._core.instance.factory",
    "dagster._core.storage.fs_io_manager",
    "dagster._core.storage.sqlite_storage",
    "dagster._daemon.controller",
    "dagster._grpc.impl",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "upath.implementations.local",
)
