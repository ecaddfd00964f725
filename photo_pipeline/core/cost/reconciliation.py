"""Our own ledger beside what AWS has counted: differences are shown and explained, and change nothing.

AWS's numbers lag and count everybody; the ledger is at once and counts us. So neither corrects the other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from photo_pipeline.core.catalog.database import Database, insert_or_update
from photo_pipeline.core.catalog.tables import object_table, reconciliation_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.cloudwatch import CloudWatch, Stored
from photo_pipeline.core.cost.units import Unit, month_of

STORED_BYTES, OBJECTS = "stored_bytes", "objects"
PUTS, GETS, DELETES, CDN_REQUESTS = "puts", "gets", "deletes", "cdn_requests"

UNITS: Final[Mapping[str, Unit]] = {
    STORED_BYTES: Unit.STORED_BYTES,
    PUTS: Unit.PUTS,
    GETS: Unit.GETS,
    DELETES: Unit.DELETES,
    CDN_REQUESTS: Unit.CDN_REQUESTS,
}
"""The ledger's unit of each measure; what is missing is in no limit."""

# S3's request metrics (CloudWatch, AWS/S3) by what they are charged as.
_REQUESTS: Final = {
    PUTS: ("PutRequests", "PostRequests", "ListRequests"),
    GETS: ("GetRequests", "HeadRequests"),
    DELETES: ("DeleteRequests",),
}
_STORAGE: Final = {STORED_BYTES: "BucketSizeBytes", OBJECTS: "NumberOfObjects"}


@dataclass(frozen=True)
class Comparison:
    """One number of ours beside AWS's.

    Attributes:
        measure: What is counted.
        since: From when on; None for what is stored at one moment.
        until: AWS's number is as of then (UTC).
        ours: By our own records, of the same time.
        theirs: AWS's; None if it has none.
        reason: Why they differ, or why there is none.
        checked_at: When they were compared (UTC).
    """

    measure: str
    since: datetime | None
    until: datetime
    ours: int
    theirs: int | None
    reason: str
    checked_at: datetime

    @property
    def difference(self) -> int | None:
        """AWS's number less ours."""
        return None if self.theirs is None else self.theirs - self.ours


def reconcile(
    database: Database, config: PipelineConfig, *, clock: Callable[[], datetime] = utc_now
) -> list[Comparison]:
    """Ask CloudWatch, compare with our records, and keep the result for whoever looks later.

    Raises:
        ConfigurationError: the store is not at AWS, or CloudWatch refuses the credentials.
        InfrastructureError: CloudWatch or the database does not answer.
    """
    now = clock()
    asked = CloudWatch(config)
    since = datetime(now.year, now.month, 1, tzinfo=UTC)
    theirs = {measure: asked.stored(metric, now) for measure, metric in _STORAGE.items()}
    counted: dict[str, int | None] = dict.fromkeys(_REQUESTS)
    if asked.has_request_metrics():
        counted = {measure: asked.requests(names, since, now) for measure, names in _REQUESTS.items()}
    cdn = asked.cdn_requests(since, now)
    with database.read() as connection:
        used = ledger.used_in(connection, month_of(now))
        found = [
            *(_storage(connection, config, measure, each, now) for measure, each in theirs.items()),
            *(
                _requests(measure, used.get(UNITS[measure], 0), each, since, now)
                for measure, each in counted.items()
            ),
            _cdn(used.get(Unit.CDN_REQUESTS, 0), cdn, since, now),
        ]
    rows = [{field.name: getattr(each, field.name) for field in fields(each)} for each in found]
    database.transact(lambda connection: insert_or_update(connection, reconciliation_table, rows))
    return found


def last_comparisons(connection: Connection) -> list[Comparison]:
    """Return what the last reconciliation found; empty if there was none."""
    names = [field.name for field in fields(Comparison)]
    query = sa.select(*(reconciliation_table.c[name] for name in names))
    return [Comparison(*row) for row in connection.execute(query.order_by(reconciliation_table.c.measure))]


def _storage(
    connection: Connection, config: PipelineConfig, measure: str, theirs: Stored | None, now: datetime
) -> Comparison:
    as_of = theirs.as_of if theirs else now
    ours = _stored_then(connection, config.store.bucket, measure, as_of)
    if theirs is None:
        reason = "AWS has no number yet: it reports storage once a day, a new bucket's after one or two days."
    elif theirs.amount == ours:
        reason = f"They agree, as of {as_of:%Y-%m-%d}, which is AWS's last day."
    elif theirs.amount > ours:
        reason = (
            f"As of {as_of:%Y-%m-%d}. AWS also counts what is not ours to count: backups of rows, earlier "
            "versions, parts of unfinished uploads, and what others store in this bucket."
        )
    else:
        reason = (
            f"AWS's last day is {as_of:%Y-%m-%d}, and it measures some time before it reports: what was "
            "stored since is missing. If it stays so for days, look for lost objects: photo-pipeline orphans "
            "scan."
        )
    return Comparison(measure, None, as_of, ours, theirs.amount if theirs else None, reason, now)


def _stored_then(connection: Connection, bucket: str, measure: str, then: datetime) -> int:
    """Return the bytes, or the number, of the objects that we had in the bucket at that moment."""
    columns = object_table.c
    what: Any = sa.func.count() if measure == OBJECTS else sa.func.sum(columns.bytes)
    query = sa.select(what).where(
        columns.bucket == bucket,
        columns.uploaded_at <= then,
        sa.or_(columns.deleted_at.is_(None), columns.deleted_at > then),
    )
    return int(connection.execute(query).scalar_one() or 0)


def _requests(measure: str, ours: int, theirs: int | None, since: datetime, now: datetime) -> Comparison:
    if theirs is None:
        reason = (
            "Request metrics of the whole bucket are not switched on (S3, Metrics, filter EntireBucket); "
            "AWS charges for them."
        )
    elif theirs == ours:
        reason = "They agree."
    elif theirs > ours:
        reason = (
            "Others use this bucket too (the CDN fetches what it has not cached, lifecycle rules, other "
            "programs, the console), or our ledger began in mid-month."
        )
    else:
        reason = (
            "AWS's request metrics are best effort and come late; ours also counts what never arrived, and "
            "up to a block of 64 per running process ahead."
        )
    return Comparison(measure, since, now, ours, theirs, reason, now)


def _cdn(ours: int, theirs: int | None, since: datetime, now: datetime) -> Comparison:
    if theirs is None:
        reason = "cdn.distribution_id names no distribution."
    elif theirs >= ours:
        reason = "AWS counts visitors' requests too; ours are only those that we sent ourselves."
    else:
        reason = "CloudFront reports some minutes late; ours also counts requests that never arrived."
    return Comparison(CDN_REQUESTS, since, now, ours, theirs, reason, now)
