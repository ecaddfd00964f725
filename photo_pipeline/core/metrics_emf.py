"""The same metrics for CloudWatch: log lines in its embedded metric format (EMF), one per set of labels.

The CloudWatch agent, Lambda, ECS and Fargate make metrics of such lines; nothing here talks to AWS.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.metrics import StateCollector

NAMESPACE = "photo_pipeline"
_MOST_METRICS = 100  # of one line, by the format's specification
_LONGEST = 1_024  # a dimension's value


def emf_lines(database: Database, config: PipelineConfig, *, now: datetime | None = None) -> Iterator[str]:
    """Give one JSON document per set of labels, each of one line.

    Raises:
        DatabaseError: the database does not answer.
    """
    at_ms = round((now or utc_now()).timestamp() * 1000)
    groups: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for family in StateCollector(database, config).collect():
        for sample in family.samples:
            labels = tuple((name, value[:_LONGEST] or "none") for name, value in sample.labels.items())
            groups.setdefault(labels, {})[sample.name] = sample.value
    for labels, metrics in groups.items():
        rest = iter(metrics.items())
        while chunk := dict(islice(rest, _MOST_METRICS)):
            yield json.dumps(_document(config.store.bucket, dict(labels), chunk, at_ms))


def _document(bucket: str, labels: dict[str, str], metrics: dict[str, float], at_ms: int) -> dict[str, Any]:
    dimensions = {"bucket": bucket, **labels}
    about = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": _unit(name)} for name in metrics],
    }
    return {"_aws": {"Timestamp": at_ms, "CloudWatchMetrics": [about]}, **dimensions, **metrics}


def _unit(name: str) -> str:
    if name.endswith("_timestamp_seconds"):
        return "None"
    for ending, unit in (("_bytes", "Bytes"), ("_seconds", "Seconds"), ("_ratio", "None")):
        if name.endswith(ending):
            return unit
    return "Count"
