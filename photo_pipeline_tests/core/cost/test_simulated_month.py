"""A month of many processes, failures and kills: the guard's counts beside the servers' own logs.

Each request passes a proxy that fails some on purpose and writes all of them down: that is what AWS would see
of us. What it passed on is compared with the S3 server's own access log. CloudFront's API is a stub.
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.meter import BLOCKS
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.cloudfront_stub import CloudFrontStub
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cost.month import DAYS, IMPORTED_LATE, KINDS, Task, at, work
from photo_pipeline_tests.core.cost.test_meter import billed
from photo_pipeline_tests.databases import DATABASES
from photo_pipeline_tests.fault_proxy import Exchange, Fault, FaultProxy, seeded_rule
from photo_pipeline_tests.forks import server_of_forks
from photo_pipeline_tests.sites import Site

SEED = 20_261_116
CONCURRENCY = 4
FAULTS = {Fault.SLOW_DOWN: 0.03, Fault.RESET: 0.02, Fault.LOSE_ANSWER: 0.02, Fault.TRUNCATE: 0.02}
PASSED_ON = (None, Fault.LOSE_ANSWER, Fault.TRUNCATE)
S3_UNITS = (Unit.PUTS, Unit.GETS, Unit.DELETES)
MONTHS = ("2026-11", "2026-12")


def allowance(unit: Unit, kills: int) -> int:
    """How much of the unit so many killed processes may have counted and not sent.

    A request in each of their threads that was counted but not sent yet. What was counted ahead is given
    back by the next process; but for a few that died between counting it and writing down what is left.
    """
    return kills * CONCURRENCY + max(1, kills // 10) * BLOCKS[unit]


@dataclass
class Month:
    """What happened."""

    outcomes: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    counted: dict[str, dict[Unit, int]] = field(default_factory=dict)
    sent: dict[str, Counter[Unit]] = field(default_factory=dict)
    changed_s: float = 0.0
    """When the clock went into the second month, by the proxy's clock."""
    seconds: float = 0.0

    def total(self, amounts: dict[str, Any], unit: Unit) -> int:
        return sum(each.get(unit, 0) for each in amounts.values())

    def over(self, unit: Unit) -> int:
        return self.total(self.counted, unit) - self.total(self.sent, unit)

    def __str__(self) -> str:
        rows = [
            f"{unit}: counted {self.total(self.counted, unit):,}, sent {self.total(self.sent, unit):,}"
            for unit in (*S3_UNITS, Unit.CDN_REQUESTS, Unit.INVALIDATION_PATHS)
        ]
        puts = [self.counted.get(month, {}).get(Unit.PUTS, 0) for month in MONTHS]
        return (
            f"{self.kills} kills, {self.seconds:.0f} s; {'; '.join(rows)}; PUTs by month {puts}; "
            f"{dict(sorted(self.outcomes.items()))}"
        )


class Crew:
    """Processes that are given tasks; who is killed is replaced."""

    def __init__(
        self, site: Site, environment: dict[str, str], size: int, context: ForkServerContext
    ) -> None:
        self._context = context
        self.seconds = self._context.RawValue("q", 0)
        self._site, self._environment = site, environment
        self.free: list[Connection] = []
        self.busy: dict[Connection, Task] = {}
        self._processes: dict[Connection, Any] = {}
        for _ in range(size):
            self.hire()

    def hire(self) -> None:
        mine, theirs = self._context.Pipe()
        arguments = (self._site.config_path, self._environment, self.seconds, theirs)
        process = self._context.Process(target=work, args=arguments)
        process.start()
        theirs.close()
        self._processes[mine] = process
        self.free.append(mine)

    def give(self, task: Task) -> Connection:
        worker = self.free.pop()
        worker.send(task)
        self.busy[worker] = task
        return worker

    def collect(self, timeout_s: float | None) -> Iterator[tuple[Task, str]]:
        for worker in wait(list(self.busy), timeout_s):
            assert isinstance(worker, Connection)
            task = self.busy.pop(worker)
            yield task, worker.recv()
            self.free.append(worker)

    def kill(self, worker: Connection) -> bool:
        """Kill that worker if it is still busy, and hire another one; return whether it was."""
        if worker not in self.busy or worker.poll():
            return False
        self._processes[worker].kill()
        self._processes.pop(worker).join()
        del self.busy[worker]
        self.hire()
        return True

    def dismiss(self) -> None:
        for worker in self.free:
            worker.send(None)
        for worker in self.free:
            assert worker.recv() == "ended"
        for process in self._processes.values():
            process.join()
            assert process.exitcode == 0


def live(crew: Crew, site: Site, month: Month, *, tasks: int, kills: int, chance: random.Random) -> None:
    """Hand the tasks out one by one while the clock goes from the first day to the last."""
    batches = [row[0] for row in site.execute("SELECT key FROM pp_batch ORDER BY key")]
    doomed = set(chance.sample(range(tasks), kills))
    strikes: list[tuple[float, Connection]] = []
    kinds = chance.choices(list(KINDS), list(KINDS.values()), k=tasks)
    for number, kind in enumerate(kinds):
        passed = number * DAYS * 86_400 // tasks
        if at(passed).month != at(crew.seconds.value).month:
            month.changed_s = time.monotonic()
        crew.seconds.value = passed
        while not crew.free:
            _serve(crew, month, strikes)
        worker = crew.give(Task(kind, chance.choice(batches)))
        if number in doomed:
            strikes.append((time.monotonic() + chance.uniform(0, 1.0), worker))
    while crew.busy:
        _serve(crew, month, strikes)


def _serve(crew: Crew, month: Month, strikes: list[tuple[float, Connection]]) -> None:
    """Take what is done, and kill whose time has come."""
    now = time.monotonic()
    for due, worker in [each for each in strikes if each[0] <= now]:
        strikes.remove((due, worker))
        month.kills += crew.kill(worker)
    patience = max(0.0, min((due for due, _ in strikes), default=now + 60) - time.monotonic())
    for task, outcome in crew.collect(patience):
        month.outcomes[f"{task.kind}: {outcome}"] += 1


def sent_by_month(exchanges: list[Exchange], changed_s: float, unit: Unit | None) -> dict[str, Counter[Unit]]:
    """Return what the proxy saw, each request as that unit; None: as S3 bills it."""
    sent: dict[str, Counter[Unit]] = {month: Counter() for month in MONTHS}
    for each in exchanges:
        sent[MONTHS[each.began_s >= changed_s]][unit or billed(each.method, each.path)] += 1
    return sent


@contextmanager
def proxies(servers: RunningServers, site: Site) -> Iterator[tuple[FaultProxy, FaultProxy, CloudFrontStub]]:
    """Failing proxies before store and CDN, which the site uses from now on; and a stub of CloudFront."""
    rule = seeded_rule(SEED, FAULTS, applies=lambda _: True)
    with (
        FaultProxy(servers.s3_url, rule=rule) as store,
        FaultProxy(servers.cdn_url, rule=rule) as cdn,
        CloudFrontStub() as cloudfront,
    ):
        site.configure(store=site.settings["store"] | {"endpoint_url": store.url}, cdn={"base_url": cdn.url})
        yield store, cdn, cloudfront


def live_a_month(
    site: Site, servers: RunningServers, access_log: Path, *, tasks: int, processes: int, kills: int = 0
) -> Month:
    """Let a month pass, and check the server's own log against the proxy's."""
    month, chance, started = Month(), random.Random(f"{SEED} {kills}"), time.monotonic()
    with proxies(servers, site) as (store, cdn, cloudfront):
        with site.project() as project:
            site.inventory(project)
        environment = dict(os.environ) | {"AWS_ENDPOINT_URL_CLOUDFRONT": cloudfront.url}
        logged_before = len(access_log.read_text(encoding="utf-8").splitlines())
        with server_of_forks("photo_pipeline_tests.core.cost.month", *IMPORTED_LATE) as context:
            crew = Crew(site, environment, processes, context)
            live(crew, site, month, tasks=tasks, kills=kills, chance=chance)
            crew.dismiss()
    month.sent = sent_by_month(store.exchanges, month.changed_s, None)
    for name, amounts in sent_by_month(cdn.exchanges, month.changed_s, Unit.CDN_REQUESTS).items():
        month.sent[name] += amounts
    # When each was asked for is not known; only the sum is looked at.
    month.sent[MONTHS[1]][Unit.INVALIDATION_PATHS] = sum(len(each.paths) for each in cloudfront.invalidations)
    with site.project() as project, project.database.read() as connection:
        month.counted = {name: dict(each) for name, each in ledger.used_by_month(connection).items()}
    month.seconds = time.monotonic() - started
    print(
        f"\n{month}\nfailed on purpose: {store.injected.total()} of {len(store.exchanges)} to the store, "
        f"{cdn.injected.total()} of {len(cdn.exchanges)} to the CDN"
    )
    assert_the_server_saw_what_was_passed_on(access_log, logged_before, store.exchanges)
    return month


def assert_the_server_saw_what_was_passed_on(log: Path, before: int, exchanges: list[Exchange]) -> None:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[before:]]
    seen = Counter(billed(line["method"], line["path"]) for line in lines)
    passed = Counter(billed(each.method, each.path) for each in exchanges if each.fault in PASSED_ON)
    assert seen[Unit.PUTS] == passed[Unit.PUTS]
    assert seen[Unit.DELETES] == passed[Unit.DELETES]
    # The CDN reads from the store too, and that is not us.
    assert seen[Unit.GETS] >= passed[Unit.GETS]


def assert_counted_exactly(month: Month, *, in_flight: int) -> None:
    assert month.kills == 0
    for unit in (*S3_UNITS, Unit.CDN_REQUESTS, Unit.INVALIDATION_PATHS):
        assert month.over(unit) == 0, unit
    # By months as well, but for what was on its way when the clock changed.
    for unit in (*S3_UNITS, Unit.CDN_REQUESTS):
        early = month.counted[MONTHS[0]].get(unit, 0) - month.sent[MONTHS[0]][unit]
        assert abs(early) <= in_flight, unit


FREE_TIER, FREE_PUTS, FREE_GETS = {"plan": "aws-legacy-free-tier"}, 2_000, 20_000


def test_a_small_month_is_counted_exactly_as_the_server_saw_it(
    make_site: MakeSite, servers: RunningServers, s3_access_log: Path
) -> None:
    limit_usd = 0.0007  # both are reached
    site = make_site(
        photos=10,
        batch_size=3,
        limits={"plan": {"monthly_usd": limit_usd}},
        upload={"concurrency": CONCURRENCY},
    )
    month = live_a_month(site, servers, s3_access_log, tasks=14, processes=2)
    assert_counted_exactly(month, in_flight=2 * CONCURRENCY)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@DATABASES
def test_a_month_of_six_processes_is_counted_exactly_and_stays_within_the_free_tier(
    database: str, make_site: MakeSite, servers: RunningServers, s3_access_log: Path
) -> None:
    site = make_site(
        photos=560, batch_size=20, database=database, limits=FREE_TIER, upload={"concurrency": CONCURRENCY}
    )
    month = live_a_month(site, servers, s3_access_log, tasks=360, processes=6)
    assert_counted_exactly(month, in_flight=6 * CONCURRENCY)
    for name in MONTHS:
        # As much as is useful, and never beyond it.
        assert FREE_PUTS * 0.8 <= month.counted[name][Unit.PUTS] <= FREE_PUTS
        assert month.counted[name][Unit.GETS] <= FREE_GETS
    assert month.outcomes["migrate: BudgetError"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@DATABASES
def test_a_month_with_kills_counts_hardly_anything_too_many_and_never_too_few(
    database: str, make_site: MakeSite, servers: RunningServers, s3_access_log: Path
) -> None:
    site = make_site(
        photos=560, batch_size=20, database=database, limits=FREE_TIER, upload={"concurrency": CONCURRENCY}
    )
    month = live_a_month(site, servers, s3_access_log, tasks=360, processes=6, kills=60)
    assert month.kills >= 30
    for unit in (*S3_UNITS, Unit.CDN_REQUESTS, Unit.INVALIDATION_PATHS):
        assert 0 <= month.over(unit) <= allowance(unit, month.kills), unit
    for name in MONTHS:
        assert month.sent[name][Unit.PUTS] <= month.counted[name][Unit.PUTS] <= FREE_PUTS
