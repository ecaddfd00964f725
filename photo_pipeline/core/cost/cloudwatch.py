"""What CloudWatch says of a bucket and a distribution. Numbers only; what they mean is `reconciliation`.

AWS reports storage once a day, requests to S3 only where request metrics are switched on for the bucket (they
cost money, and are best effort), and requests to CloudFront within minutes. Asking is free up to a million
requests a month.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from photo_pipeline.core.aws_errors import CREDENTIAL_ERRORS, credential_error, error_code, http_status
from photo_pipeline.core.aws_session import aws_session
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import ConfigurationError, InfrastructureError

WHOLE_BUCKET = "EntireBucket"
"""The name that AWS's console gives the request metrics of a whole bucket."""

_DAY_S = 86_400
_STORAGE_DAYS = 4  # a day is sometimes reported two days late
_CDN_REGION = "us-east-1"
_TIMEOUTS = Config(connect_timeout=3, read_timeout=6, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True)
class Stored:
    """What is stored, as of a day."""

    amount: int
    as_of: datetime


class CloudWatch:
    """The metrics of one installation."""

    def __init__(self, config: PipelineConfig) -> None:
        """Open clients; nothing is requested yet.

        Raises:
            ConfigurationError: the store is not at AWS, or there are no credentials.
        """
        if config.store.endpoint_url is not None:
            raise ConfigurationError(
                "store.endpoint_url",
                cause="only AWS reports to CloudWatch, and this store is elsewhere",
                fix="compare with your provider's own figures",
            )
        self._bucket = config.store.bucket
        self._distribution = config.cdn.distribution_id
        try:
            session = aws_session(config.store.region)
            region = config.store.region
            self._s3_metrics: Any = session.client("cloudwatch", region_name=region, config=_TIMEOUTS)
            self._cdn_metrics: Any = session.client("cloudwatch", region_name=_CDN_REGION, config=_TIMEOUTS)
        except CREDENTIAL_ERRORS as error:
            raise credential_error(error) from error

    def stored(self, metric: str, now: datetime) -> Stored | None:
        """Return the last day's BucketSizeBytes or NumberOfObjects, over all storage classes.

        Raises:
            ConfigurationError: CloudWatch refuses the credentials.
            InfrastructureError: it does not answer.
        """
        cloudwatch = self._s3_metrics
        bucket = {"Name": "BucketName", "Value": self._bucket}
        with _errors():
            pages = cloudwatch.get_paginator("list_metrics").paginate(
                Namespace="AWS/S3", MetricName=metric, Dimensions=[bucket]
            )
            kinds = [each["Dimensions"] for page in pages for each in page["Metrics"]]
            by_kind = [
                self._days(cloudwatch, "AWS/S3", metric, kind, "Average", now) for kind in _unique(kinds)
            ]
        days = [day for kind in by_kind for day in kind]
        if not days:
            return None
        last = max(days)
        return Stored(round(sum(kind.get(last, 0.0) for kind in by_kind)), last)

    def has_request_metrics(self) -> bool:
        """Return whether request metrics of the whole bucket are switched on.

        Raises:
            ConfigurationError, InfrastructureError: as `stored`.
        """
        cloudwatch = self._s3_metrics
        with _errors():
            answer = cloudwatch.list_metrics(
                Namespace="AWS/S3", MetricName="AllRequests", Dimensions=self._whole_bucket
            )
        return bool(answer["Metrics"])

    def requests(self, metrics: Iterable[str], since: datetime, now: datetime) -> int:
        """Return the bucket's requests of those kinds since then.

        Raises:
            ConfigurationError, InfrastructureError: as `stored`.
        """
        with _errors():
            return round(
                sum(
                    self._sum(self._s3_metrics, "AWS/S3", metric, self._whole_bucket, since, now)
                    for metric in metrics
                )
            )

    def cdn_requests(self, since: datetime, now: datetime) -> int | None:
        """Return the distribution's requests since then, visitors' included; None if none is named.

        Raises:
            ConfigurationError, InfrastructureError: as `stored`.
        """
        if self._distribution is None:
            return None
        dimensions = [
            {"Name": "DistributionId", "Value": self._distribution},
            {"Name": "Region", "Value": "Global"},
        ]
        with _errors():
            return round(self._sum(self._cdn_metrics, "AWS/CloudFront", "Requests", dimensions, since, now))

    @property
    def _whole_bucket(self) -> list[dict[str, str]]:
        return [
            {"Name": "BucketName", "Value": self._bucket},
            {"Name": "FilterId", "Value": WHOLE_BUCKET},
        ]

    def _days(
        self, cloudwatch: Any, namespace: str, metric: str, dimensions: Any, statistic: str, now: datetime
    ) -> dict[datetime, float]:
        answer = cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName=metric,
            Dimensions=dimensions,
            StartTime=now - timedelta(days=_STORAGE_DAYS),
            EndTime=now,
            Period=_DAY_S,
            Statistics=[statistic],
        )
        return {point["Timestamp"]: point[statistic] for point in answer["Datapoints"]}

    def _sum(
        self, cloudwatch: Any, namespace: str, metric: str, dimensions: Any, since: datetime, now: datetime
    ) -> float:
        # At most 31 points of a day each.
        answer = cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName=metric,
            Dimensions=dimensions,
            StartTime=since,
            EndTime=now,
            Period=_DAY_S,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in answer["Datapoints"]))


def _unique(dimensions: list[list[dict[str, str]]]) -> list[list[dict[str, str]]]:
    by_name = {tuple(sorted((each["Name"], each["Value"]) for each in kind)): kind for kind in dimensions}
    return list(by_name.values())


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except CREDENTIAL_ERRORS as error:
        raise credential_error(error) from error
    except ClientError as error:
        cause = f"CloudWatch refuses it ({error_code(error)}: {' '.join(str(error).split())[:200]})"
        if 400 <= http_status(error) < 500 and not error_code(error).startswith("Thrott"):
            fix = "allow cloudwatch:ListMetrics and cloudwatch:GetMetricStatistics to these credentials"
            raise ConfigurationError("CloudWatch", cause=cause, fix=fix) from error
        raise InfrastructureError("CloudWatch", cause=cause, fix="run again in a minute") from error
    except BotoCoreError as error:
        cause = f"it does not answer ({' '.join(str(error).split())[:200]})"
        raise InfrastructureError("CloudWatch", cause=cause, fix="run again in a minute") from error
