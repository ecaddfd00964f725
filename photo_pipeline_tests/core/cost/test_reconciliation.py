"""Our own ledger beside CloudWatch's numbers, on moto's CloudWatch; real AWS was not reachable."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import object_table, usage_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.reconciliation import Comparison, last_comparisons, reconcile
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.errors import ConfigurationError, InfrastructureError
from photo_pipeline_tests.core.provisioning.worlds import document
from photo_pipeline_tests.pretend_aws import PretendAws

BUCKET, DISTRIBUTION = "shop-photos", "E2EXAMPLE123"


@dataclass
class Account:
    """An account of moto's with one bucket, and an installation that used it."""

    aws: PretendAws
    database: Database
    now: datetime

    def client(self, service: str, region: str = "eu-central-1") -> Any:
        return boto3.client(service, region_name=region, endpoint_url=self.aws.url)

    def config(self, **parts: Any) -> PipelineConfig:
        return PipelineConfig.model_validate(document(BUCKET, **parts))

    def reconcile(self, **parts: Any) -> dict[str, Comparison]:
        config = self.config(**({"cdn": {"distribution_id": DISTRIBUTION}} | parts))
        found = reconcile(self.database, config, clock=lambda: self.now)
        return {each.measure: each for each in found}

    def measured(
        self, metric: str, value: float, *, at: datetime, region: str = "eu-central-1", **named: str
    ) -> None:
        namespace = "AWS/CloudFront" if "DistributionId" in named else "AWS/S3"
        dimensions = [{"Name": name, "Value": value} for name, value in named.items()]
        datum = {"MetricName": metric, "Value": value, "Timestamp": at, "Dimensions": dimensions}
        self.client("cloudwatch", region).put_metric_data(Namespace=namespace, MetricData=[datum])

    def stored(self, key: str, size: int, *, at: datetime, deleted: datetime | None = None) -> None:
        row = {"bucket": BUCKET, "key": key, "source_sha256": "s", "recipe": "", "variant": "original"}
        row |= {"format": "jpeg", "mime": "image/jpeg", "bytes": size, "checksum": "c", "made_at": at}
        with self.database.write() as connection:
            values = row | {"uploaded_at": at, "deleted_at": deleted}
            connection.execute(sa.insert(object_table).values(values))

    def used(self, unit: Unit, amount: int) -> None:
        with self.database.write() as connection:
            ledger.add(connection, month_of(self.now), {unit: amount})


@pytest.fixture(scope="module")
def aws() -> Iterator[PretendAws]:
    with PretendAws() as running:
        yield running


@pytest.fixture
def account(
    aws: PretendAws, aws_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    (tmp_path / "app.db").touch()
    with closing(Database.open(f"sqlite:///{tmp_path / 'app.db'}")) as database:
        ensure_schema(database)
        # The present time: moto knows no other.
        yield Account(aws, database, utc_now())


def test_storage_is_compared_as_of_awss_last_day_on_moto(account: Account) -> None:
    yesterday = account.now - timedelta(hours=30)
    account.stored("a", 1_000, at=yesterday - timedelta(days=9))
    account.stored("gone since", 70, at=yesterday - timedelta(days=9), deleted=account.now)
    account.stored("came since", 500, at=account.now)
    account.stored("gone before", 9, at=yesterday - timedelta(days=9), deleted=yesterday - timedelta(days=5))
    for kind, size in (("StandardStorage", 1_000), ("GlacierInstantRetrievalStorage", 370)):
        account.measured("BucketSizeBytes", size, at=yesterday, BucketName=BUCKET, StorageType=kind)
    account.measured("NumberOfObjects", 2, at=yesterday, BucketName=BUCKET, StorageType="AllStorageTypes")
    found = account.reconcile()
    stored, objects = found["stored_bytes"], found["objects"]
    assert (stored.ours, stored.theirs, stored.difference) == (1_070, 1_370, 300)
    assert "backups of rows, earlier versions" in stored.reason
    assert (objects.ours, objects.theirs) == (2, 2)
    assert "They agree" in objects.reason
    assert stored.until < account.now - timedelta(hours=1)


def test_requests_are_compared_for_the_month_and_change_nothing_of_the_ledger_on_moto(
    account: Account,
) -> None:
    account.used(Unit.PUTS, 100)
    account.used(Unit.GETS, 50)
    account.used(Unit.CDN_REQUESTS, 5)
    with account.database.read() as connection:
        before = connection.execute(sa.select(usage_table)).all()
    assert "not switched on" in account.reconcile()["puts"].reason
    whole = {"BucketName": BUCKET, "FilterId": "EntireBucket"}
    earlier = datetime(account.now.year, account.now.month, 1, tzinfo=UTC) - timedelta(hours=1)
    at = max(account.now - timedelta(minutes=5), earlier + timedelta(hours=1))
    for metric, amount in (
        ("PutRequests", 90),
        ("PostRequests", 20),
        ("ListRequests", 30),
        ("HeadRequests", 9),
    ):
        account.measured(metric, amount, at=at, **whole)
    account.measured("AllRequests", 149, at=at, **whole)
    account.measured("PutRequests", 7_000, at=earlier, **whole)  # last month's
    account.measured("PutRequests", 5_000, at=at, BucketName=BUCKET, FilterId="thumbs")
    account.measured(
        "Requests", 1_234, at=at, region="us-east-1", DistributionId=DISTRIBUTION, Region="Global"
    )
    found = account.reconcile()
    assert {name: (each.ours, each.theirs) for name, each in found.items() if each.since} == {
        "puts": (100, 140),
        "gets": (50, 9),
        "deletes": (0, 0),
        "cdn_requests": (5, 1_234),
    }
    assert "Others use this bucket" in found["puts"].reason
    assert "come late" in found["gets"].reason
    assert "visitors" in found["cdn_requests"].reason
    assert account.reconcile(cdn={})["cdn_requests"].theirs is None
    with account.database.read() as connection:
        assert connection.execute(sa.select(usage_table)).all() == before
        kept = {each.measure: each for each in last_comparisons(connection)}
    assert kept == account.reconcile(cdn={}) | {"cdn_requests": kept["cdn_requests"]}


def test_a_new_bucket_has_no_numbers_yet_on_moto(account: Account) -> None:
    found = account.reconcile(store={"bucket": "yet-to-come", "region": "eu-central-1"})
    assert found["stored_bytes"].theirs is None
    assert "once a day" in found["stored_bytes"].reason


def test_other_stores_and_a_cloudwatch_that_is_away_are_named(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {"bucket": BUCKET, "region": "us-east-1", "endpoint_url": "http://127.0.0.1:9"}
    with pytest.raises(ConfigurationError, match="only AWS reports to CloudWatch"):
        account.reconcile(store=elsewhere)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(InfrastructureError, match="does not answer"):
        account.reconcile()
