"""The metrics of an installation in Prometheus' text format, read from the state tables at each look.

Nothing is kept in memory: every process says the same, also after a restart. A look is some ten GROUP BY
queries.
`metrics_emf` has the same for CloudWatch; docs/metrics.md lists them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.metadata import version

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from photo_pipeline.core.alerts.recent import RecentPhotos
from photo_pipeline.core.alerts.register import alert_states
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.fence import MIGRATION
from photo_pipeline.core.catalog.photo_counts import PhotoCount, count_photos
from photo_pipeline.core.catalog.schema import expected_version, stored_version
from photo_pipeline.core.catalog.tables import (
    BatchState,
    Control,
    PhotoState,
    batch_table,
    lease_table,
    migration_table,
    pass_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.guard import CostGuard, CostStatus
from photo_pipeline.core.cost.ledger import Stored, stored_by_format
from photo_pipeline.core.cost.reconciliation import last_comparisons
from photo_pipeline.core.migration.delta import zero_delta_of
from photo_pipeline.core.migration.watch import read_wish

PREFIX = "photo_pipeline_"
_BREAKER_STATES = ("closed", "half-open", "open")

Samples = Iterable[tuple[tuple[str, ...], float]]


def metrics_text(database: Database, config: PipelineConfig) -> str:
    """Return every metric in Prometheus' text format (version 0.0.4).

    Raises:
        DatabaseError: the database does not answer.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StateCollector(database, config))
    return generate_latest(registry).decode()


class StateCollector(Collector):
    """Reads the state tables when it is asked, in the registry of the caller."""

    def __init__(self, database: Database, config: PipelineConfig) -> None:
        self._database = database
        self._config = config

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give every family; before the first migration, and of another version's tables, the first two."""
        with self._database.read() as connection:
            known = stored_version(connection) == expected_version()
            yield _one("up", "Whether the state tables are there, and of this version.", float(known))
            yield _gauge("build_info", "This version.", ("version",), [((version("photo-pipeline"),), 1)])
            if known:
                yield from self._everything(connection)

    def _everything(self, connection: Connection) -> Iterator[Metric]:
        # The two large tables are looked at once each, for all who need something of them.
        photos, stored = count_photos(connection, validations=True), stored_by_format(connection)
        yield from _photos(photos)
        yield from _work(connection)
        yield from _objects(stored)
        yield from _recent(connection, self._config)
        yield from _trouble(connection, self._config)
        guard = CostGuard.of(self._database, self._config)
        total = sum(each.size_bytes for each in stored.values())
        yield from _spending(guard.status_of(connection, stored=total))
        proven_at = zero_delta_of(connection, photos).proven_at
        yield _at("zero_delta_proven", "When the pass began that found nothing left to migrate.", proven_at)


def _photos(photos: list[PhotoCount]) -> Iterator[Metric]:
    """Photos by class and state, the failed ones by reason, and the migrated ones by their validation."""
    counts: Counter[tuple[str, ...]] = Counter()
    failed: Counter[tuple[str, ...]] = Counter()
    validated = Counter({("passed",): 0, ("failed",): 0})
    quarantined = 0
    for each in photos:
        counts[each.photo_class, each.state] += each.photos
        if each.state in (PhotoState.QUARANTINED, PhotoState.CONFLICT):
            failed[(each.error_type or each.state,)] += each.photos
        if each.state == PhotoState.QUARANTINED:
            quarantined += each.photos
        if each.state == PhotoState.MIGRATED and each.is_valid is not None:
            validated["passed" if each.is_valid else "failed",] += each.photos
    yield _gauge("photos", "Photo references and unreferenced files.", ("class", "state"), counts.items())
    yield _gauge("photo_failures", "Photos quarantined or in conflict.", ("error_type",), failed.items())
    yield _one("photos_quarantined", "Photos set aside with their reason.", quarantined)
    title = "Migrated photos by their last validation."
    yield _gauge("validated_photos", title, ("outcome",), validated.items())


def _work(connection: Connection) -> Iterator[Metric]:
    """Batches, leases, the migration as a whole, and its passes."""
    batch, migration, lease, passed = batch_table.c, migration_table.c, lease_table.c, pass_table.c
    now = utc_now()
    states = dict.fromkeys(BatchState, 0)
    for state, count in connection.execute(sa.select(batch.state, sa.func.count()).group_by(batch.state)):
        states[BatchState(state)] = count
    yield _gauge("batches", "Batches.", ("state",), (((each,), count) for each, count in states.items()))
    held = connection.execute(
        sa.select(sa.func.count()).where(batch.lease_owner.is_not(None), batch.lease_expires_at > now)
    ).scalar_one()
    cleaning = connection.execute(
        sa.select(sa.func.count()).where(lease.owner.is_not(None), lease.expires_at > now)
    ).scalar_one()
    leases = [(("batch",), held), (("clean_up",), cleaning)]
    yield _gauge("leases_held", "Leases held at this moment.", ("kind",), leases)
    wanted = read_wish(connection).control
    yield _gauge("control", "What a person wants.", ("control",), _one_of(Control, wanted))
    row = connection.execute(
        sa.select(migration.inventoried_at).where(migration.name == MIGRATION)
    ).one_or_none()
    yield _at("last_inventory", "When the last inventory ended.", row.inventoried_at if row else None)
    last = connection.execute(
        sa.select(passed.started_at, passed.finished_at)
        .where(passed.finished_at.is_not(None))
        .order_by(passed.id.desc())
        .limit(1)
    ).one_or_none()
    took = [((), (last.finished_at - last.started_at).total_seconds())] if last else []
    yield _gauge("last_pass_seconds", "How long the last inventory with its checksums took.", (), took)


def _objects(stored: dict[str, Stored]) -> Iterator[Metric]:
    formats = ("format",)
    objects = (((name,), each.objects) for name, each in stored.items())
    yield _gauge("objects", "Objects in the store.", formats, objects)
    sizes = (((name,), each.size_bytes) for name, each in stored.items())
    yield _gauge("object_bytes", "Their bytes.", formats, sizes)


def _recent(connection: Connection, config: PipelineConfig) -> Iterator[Metric]:
    """The last photos of the last 24 hours, as the alerts see them."""
    recent = RecentPhotos.read(connection, config.alerts.last_photos, utc_now())
    yield _one("recent_photos", "How many of the last photos the next two look at.", recent.photos)
    yield _one("recent_failure_ratio", "The share of them that failed.", recent.failure_rate)
    times = recent.seconds
    ranks = [("0.5", 50), ("0.95", 95), ("1", 100)]
    quantiles = [((name,), times[-(-len(times) * rank // 100) - 1]) for name, rank in ranks] if times else []
    yield _gauge("photo_seconds", "Seconds that making one took.", ("quantile",), quantiles)


def _trouble(connection: Connection, config: PipelineConfig) -> Iterator[Metric]:
    """Alerts and their channels, and AWS's numbers beside ours."""
    states = alert_states(connection, config.alerts.channels)
    kinds: dict[tuple[str, ...], float] = {}
    unsent: dict[tuple[str, ...], float] = {(name,): 0 for name in config.alerts.channels}
    for state in states:
        kinds[(state.kind,)] = kinds.get((state.kind,), 0) + 1
        for each in state.channels:
            unsent[(each.channel,)] += each.failures > 0
    yield _gauge("alerts_open", "Alerts that are open.", ("kind",), kinds.items())
    yield _gauge("alerts_unsent", "Open alerts that a channel could not send.", ("channel",), unsent.items())
    compared = [
        ((each.measure, side), float(amount))
        for each in last_comparisons(connection)
        for side, amount in (("ledger", each.ours), ("aws", each.theirs))
        if amount is not None
    ]
    yield _gauge("reconciliation", "The last comparison with CloudWatch.", ("measure", "side"), compared)


def _spending(cost: CostStatus) -> Iterator[Metric]:
    used = (((str(unit),), amount) for unit, amount in cost.used.items())
    yield _gauge("usage", "Used in this UTC month, by the request ledger.", ("unit",), used)
    reserved = (((str(unit),), amount) for unit, amount in cost.reserved.items())
    yield _gauge("reserved", "Promised to work under way.", ("unit",), reserved)
    name = ("limit",)
    limits = (((each.name,), each.limit) for each in cost.limits)
    yield _gauge("limit", "What the limits allow, in requests, bytes or dollars.", name, limits)
    shares = (((each.name,), each.share) for each in cost.limits)
    yield _gauge("limit_used_ratio", "The used share of each limit.", name, shares)
    later = (((each.name,), each.share) for each in cost.projection)
    yield _gauge("limit_projected_ratio", "The same at the month's end, if it goes on so.", name, later)
    yield _one("usd", "What this month has cost so far, at list price.", cost.usd)
    yield _one("usd_projected", "The same at the month's end, if it goes on so.", cost.usd_projected)
    yield _gauge("breaker", "The cost guard's breaker.", ("state",), _one_of(_BREAKER_STATES, cost.breaker))
    overridden = float(cost.override_until is not None)
    yield _one("limits_overridden", "Whether a person lets uploads go on beyond the limits.", overridden)


def _gauge(name: str, about: str, labels: tuple[str, ...], samples: Samples) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}{name}", about, labels=labels)
    for values, amount in samples:
        family.add_metric([str(each) for each in values], float(amount))
    return family


def _one(name: str, about: str, amount: float) -> Metric:
    return _gauge(name, about, (), [((), amount)])


def _at(name: str, about: str, when: datetime | None) -> Metric:
    """Return an instant; without a sample where there is none."""
    samples: Samples = [] if when is None else [((), when.timestamp())]
    return _gauge(f"{name}_timestamp_seconds", about, (), samples)


def _one_of(names: Iterable[str], present: str) -> Samples:
    return (((str(name),), float(name == present)) for name in names)
