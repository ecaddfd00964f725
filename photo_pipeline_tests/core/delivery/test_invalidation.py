"""Sending invalidations: counted first, within CloudFront's limits, awaited to a deadline.

CloudFront is a stub over HTTP that keeps the documented limits, and once moto's server.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from photo_pipeline.core.audit import entries, verify
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.guard import CostGuard
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.delivery.cloudfront import open_cloudfront
from photo_pipeline.core.delivery.invalidation import Invalidated, Patience, bill_for, invalidate
from photo_pipeline.core.delivery.invalidation_plan import plan_invalidation
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError, InfrastructureError
from photo_pipeline_tests.cloudfront_stub import CloudFrontStub, StubError
from photo_pipeline_tests.core.cost.budgets import dollars, legacy_free_tier

SCHEME = UrlScheme("https://cdn.example", "photos", "originals")


class Clock:
    """A clock that only waiting moves on, and what happens meanwhile."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits = 0

    def __call__(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds
        self.waits += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").new_database()
    else:
        (tmp_path / "app.db").touch()
        url = f"sqlite:///{tmp_path / 'app.db'}"
    opened = Database.open(url)
    ensure_schema(opened)
    yield opened
    opened.close()


def send(
    database: Database, cloudfront: Any, paths: list[str], clock: Clock | None = None, **options: Any
) -> Invalidated:
    clock = clock or Clock()
    patience = Patience(deadline_s=60, poll_s=5, clock=clock, pause=clock.pause)
    plan = plan_invalidation(SCHEME, paths)
    return invalidate(
        database, cloudfront, plan, distribution="E1", run="r", **({"patience": patience} | options)
    )


def counted(database: Database) -> int:
    with database.read() as connection:
        return ledger.used_in(connection, month_of(utc_now())).get(Unit.INVALIDATION_PATHS, 0)


def keys(number: int) -> list[str]:
    return [f"k/{n}.jpg" for n in range(number)]


def test_paths_are_sent_counted_audited_and_waited_for_on_a_stub(
    database: Database, stub: CloudFrontStub, cloudfront: Any, clock: Clock
) -> None:
    stub.questions = 2
    done = send(database, cloudfront, ["a b.jpg", "c/*"], clock)
    assert (done.completed, done.paths, clock.waits) == (True, 2, 2)
    (sent,) = stub.invalidations
    assert (sent.paths, done.ids) == (["/c/*", "/a%20b.jpg"], (sent.id,))
    assert counted(database) == 2
    with database.read() as connection:
        (entry,) = entries(connection, last=5)
        assert (entry.action, entry.details["paths"]) == ("invalidate", ["/c/*", "/a%20b.jpg"])
        assert verify(connection).holds


@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
def test_the_month_is_counted_once_by_all_at_once(database: Database) -> None:
    month = month_of(utc_now())

    def add(amount: int) -> int:
        with database.write() as connection:
            ledger.add(connection, month, {Unit.INVALIDATION_PATHS: amount})
            return ledger.used_in(connection, month)[Unit.INVALIDATION_PATHS]

    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(add, [1] * 20))
    assert sorted(sums) == list(range(1, 21))  # nobody saw another's sum
    assert (counted(database), add(-5)) == (20, 15)
    with database.read() as connection:
        assert ledger.used_in(connection, "1999-12") == {}


def test_what_is_no_longer_free_is_refused_before_anything_is_sent_on_a_stub(
    database: Database, stub: CloudFrontStub, cloudfront: Any
) -> None:
    send(database, cloudfront, keys(999))
    assert bill_for(database, 3).usd == 0.01
    with pytest.raises(
        GuardRefusedError, match=r"3 paths would cost \$0\.01.+999 are used; nothing was sent"
    ):
        send(database, cloudfront, ["a", "b", "c"])
    assert (counted(database), len(stub.invalidations)) == (999, 1)
    assert send(database, cloudfront, ["a"]).bill.usd == 0
    assert send(database, cloudfront, ["a"], allow_cost=True).bill.usd == 0.005
    assert counted(database) == 1001


def test_more_than_fits_is_sent_as_earlier_ones_end_on_a_stub(
    database: Database, stub: CloudFrontStub, cloudfront: Any, clock: Clock
) -> None:
    wildcards = [f"w{number:02}/*" for number in range(20)]
    send(database, cloudfront, wildcards[:1])
    stub.invalidations[0].questions_left = 1  # somebody else's, still in progress

    def somebody_elses_ends(seconds: float) -> None:
        clock.pause(seconds)
        for each in stub.invalidations:
            each.questions_left = 0

    patience = Patience(deadline_s=60, clock=clock, pause=somebody_elses_ends)
    done = send(database, cloudfront, wildcards, patience=patience)
    assert done.completed
    assert [each.wildcards for each in stub.invalidations[1:]] == [15, 5]
    assert clock.waits >= 1


def test_a_deadline_ends_the_waiting_but_not_the_invalidation_on_a_stub(
    database: Database, stub: CloudFrontStub, cloudfront: Any, clock: Clock
) -> None:
    stub.questions = 10**6
    done = send(database, cloudfront, ["a"], clock)
    assert (done.completed, clock.now_s, counted(database)) == (False, 60, 1)


def test_limits_used_up_by_others_to_the_deadline_cost_nothing_on_a_stub(
    database: Database, stub: CloudFrontStub, cloudfront: Any, clock: Clock
) -> None:
    stub.failures = [StubError(400, "TooManyInvalidationsInProgress") for _ in range(100)]
    with pytest.raises(InfrastructureError, match="TooManyInvalidationsInProgress"):
        send(database, cloudfront, ["a"], clock)
    assert (counted(database), clock.now_s) == (0, 60)


def test_a_refusal_gives_back_what_was_counted_on_a_stub(
    database: Database, stub: CloudFrontStub, cloudfront: Any
) -> None:
    stub.failures = [StubError(403, "AccessDenied")]
    with pytest.raises(ConfigurationError, match="Allow cloudfront:CreateInvalidation"):
        send(database, cloudfront, ["a"])
    assert counted(database) == 0


def test_a_lost_answer_does_not_send_twice_and_stays_counted_on_a_stub(
    database: Database, stub: CloudFrontStub, cloudfront: Any
) -> None:
    stub.lost_answers = 1
    assert send(database, cloudfront, ["a"]).completed
    assert (len(stub.invalidations), stub.calls.count("CreateInvalidation")) == (1, 2)
    stub.lost_answers = 100
    with pytest.raises(InfrastructureError, match="failed the request"):
        send(database, cloudfront, ["b"])
    assert counted(database) == 2  # CloudFront has it, although nobody heard so


def test_motos_cloudfront_takes_what_is_sent(
    database: Database, aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFRONT", f"http://{host}:{port}")
        client = open_cloudfront()
        distribution = client.create_distribution(DistributionConfig=_distribution_config())["Distribution"][
            "Id"
        ]
        plan = plan_invalidation(SCHEME, ["a b.jpg", "ä/*"])
        done = invalidate(database, client, plan, distribution=distribution, run="r")
        assert done.completed
        stored = client.get_invalidation(DistributionId=distribution, Id=done.ids[0])
        batch = stored["Invalidation"]["InvalidationBatch"]
        assert batch["Paths"]["Items"] == ["/%C3%A4/*", "/a%20b.jpg"]
        with pytest.raises(ConfigurationError, match="does not know it"):
            invalidate(database, client, plan, distribution="ENONE", run="r")
    finally:
        server.stop()


def _distribution_config() -> dict[str, Any]:
    origin = {
        "Id": "s3",
        "DomainName": "b.s3.eu-central-1.amazonaws.com",
        "S3OriginConfig": {"OriginAccessIdentity": ""},
    }
    return {
        "CallerReference": "one",
        "Comment": "",
        "Enabled": True,
        "Origins": {"Quantity": 1, "Items": [origin]},
        "DefaultCacheBehavior": {
            "TargetOriginId": "s3",
            "ViewerProtocolPolicy": "redirect-to-https",
            "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}},
            "MinTTL": 0,
        },
    }


def test_paid_paths_count_against_a_budget_in_dollars_on_a_stub(
    database: Database, stub: CloudFrontStub, cloudfront: Any
) -> None:
    budget = dollars(1.0)  # 190 paid paths at 95 %
    send(database, cloudfront, ["first/*"], budget=budget)
    with database.write() as connection:
        ledger.add(connection, month_of(utc_now()), {Unit.INVALIDATION_PATHS: 999})
    with pytest.raises(GuardRefusedError, match="--allow-cost"):
        send(database, cloudfront, keys(1), budget=budget)
    assert send(database, cloudfront, keys(180), budget=budget, allow_cost=True).bill.usd == 0.9
    before, sent = counted(database), len(stub.invalidations)
    with pytest.raises(GuardRefusedError, match=r"11 paths cost \$0\.06, and the cost guard refuses"):
        send(database, cloudfront, keys(11), budget=budget, allow_cost=True)
    assert (counted(database), len(stub.invalidations)) == (before, sent)
    # Whom no limit in dollars binds is bound by --allow-cost alone, as before.
    assert send(database, cloudfront, keys(11), budget=legacy_free_tier(), allow_cost=True).paths == 11
    guard = CostGuard(database, budget)
    guard.override(reason="a broken banner", run="r")
    assert send(database, cloudfront, keys(11), budget=budget, allow_cost=True).paths == 11
    guard.end_override(run="r")
    assert guard.status().limits[0].share > 0.95


def test_free_paths_are_sent_however_little_is_left_of_a_budget_on_a_stub(
    database: Database, cloudfront: Any
) -> None:
    with database.write() as connection:
        ledger.add(connection, month_of(utc_now()), {Unit.PUTS: 1_000_000})
    assert send(database, cloudfront, keys(2), budget=dollars(1.0)).bill.usd == 0
