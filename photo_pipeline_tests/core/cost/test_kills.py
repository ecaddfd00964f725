"""Processes that send to a real server until SIGKILL: no request is missing in the ledger."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.cost.meter import BLOCKS, Meter
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.core.cost.test_meter import JPEG, counted, logged, settings
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.forks import server_of_forks

SEED, TOGETHER = 20_261_127, 4


def send_until_killed(
    environment: dict[str, str], url: str, s3_url: str, prefix: str, ready: Connection, sent: Any
) -> None:
    """Send PUTs and HEADs; `sent` is how many PUTs were answered, in shared memory."""
    os.environ.clear()
    os.environ.update(environment)
    with closing(Database.open(url)) as database:
        store = PhotoStore.open(settings(s3_url), meter=Meter(database))
        ready.send("go")
        while True:
            store.put_new(f"{prefix}/{sent.value}", b"x", content_type=JPEG)
            store.head(f"{prefix}/{sent.value}")
            sent.value += 1


def kill_all(context: ForkServerContext, url: str, s3_url: str, prefix: str, moments: random.Random) -> int:
    """Let four processes send, kill all of them at a random moment; return how many PUTs were answered."""
    running = []
    for number in range(TOGETHER):
        heard, ready = context.Pipe(duplex=False)
        sent = context.RawValue("q", 0)
        arguments = (dict(os.environ), url, s3_url, f"{prefix}/{number}", ready, sent)
        process = context.Process(target=send_until_killed, args=arguments)
        process.start()
        ready.close()
        running.append((process, heard, sent))
    for _, heard, _ in running:
        assert heard.recv() == "go"
    # A machine that is busy sends less in a second, so the moment is one of the work's, and a little later.
    enough = moments.randint(0, 160)
    while sum(sent.value for _, _, sent in running) < enough:
        time.sleep(0.001)
    time.sleep(moments.uniform(0, 0.02))
    for process, _, _ in running:
        process.kill()
    for process, _, _ in running:
        process.join()
        assert process.exitcode == -signal.SIGKILL
    return sum(sent.value for _, _, sent in running)


@MOSTLY_SQLITE
@pytest.mark.parametrize("kills", [4, pytest.param(120, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killing_every_process_at_random_moments_loses_no_count(
    database: str,
    kills: int,
    new_url: Callable[[str], str],
    servers: RunningServers,
    s3_access_log: Path,
    aws_environment: None,
) -> None:
    url, moments, answered = new_url(database), random.Random(SEED), 0
    found: Counter[Unit] = Counter()
    with (
        closing(Database.open(url)) as opened,
        logged(s3_access_log) as seen,
        server_of_forks("photo_pipeline_tests.core.cost.test_kills", "boto3.s3.inject") as context,
    ):
        for number in range(kills // TOGETHER):
            answered += kill_all(context, url, servers.s3_url, f"kills/{database}-{kills}/{number}", moments)
        found.update(counted(opened))
    over = {unit: found[unit] - seen[unit] for unit in (Unit.PUTS, Unit.GETS)}
    print(f"\n{database}, {kills} kills: sent {dict(seen)}, counted too many {over}")
    for unit in over:
        # Each has at most one block counted ahead, and one request that was counted and not sent yet.
        assert 0 <= over[unit] <= kills * (BLOCKS[unit] + 1)
    assert seen[Unit.PUTS] >= answered
