"""The migration report as values: everything that it says, read from the state tables in one go.

How it is written to files is `write`; how it looks is `html`. Works at any time: before the first
inventory, in the middle of a migration, after a rollback.
"""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from pydantic import TypeAdapter

from photo_pipeline.core import audit
from photo_pipeline.core.audit import AuditVerdict
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.inventory import Inventory, last_inventory
from photo_pipeline.core.catalog.schema import schema_exists
from photo_pipeline.core.catalog.tables import PhotoState, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.delta import ZeroDelta, zero_delta
from photo_pipeline.core.migration.state import BatchStatus, batch_statuses, migration_row
from photo_pipeline.core.report import measures
from photo_pipeline.core.report.costs import Costs, collect_costs
from photo_pipeline.core.report.findings import FindingGroup, collect_findings
from photo_pipeline.core.report.lookalikes import Lookalikes, collect_lookalikes
from photo_pipeline.core.report.measures import (
    Objects,
    Rewrites,
    StoreAnswers,
    Times,
    Validation,
)
from photo_pipeline.core.report.sizes import Sizes, VariantFiles, collect_sizes, variant_files
from photo_pipeline.core.report.verdict import NOT_STARTED, WAITING, Verdict, judge
from photo_pipeline.core.report.visual_quality import VisualQuality, collect_quality

MAX_LISTED_FINDINGS = 500
"""How many photos the report lists by name; the counts are always complete, and so is photos.csv."""


@dataclass(frozen=True)
class ReportData:
    """Everything that the report says. These names are the keys of `migration_report.json`.

    Attributes:
        made_at: When the report was made (UTC).
        status: The migration's status, or `not_started` before the first inventory.
        verdict: The report in one sentence.
        inventory: The last inventory's totals, or None; `by_class` names every class.
        adds_up: Whether each reference and each file stands in exactly one class; None without inventory.
        photos: Rows of `pp_photo` by state, every state named.
        batches: Every batch with its state, its photos by state and its error.
        zero_delta: Whether nothing is left to migrate: proven when, or what is still open.
        sizes: Bytes before and after.
        variants: The variants by name and format.
        quality: How a sample of the variants looks: scores by format, and the worst.
        lookalikes: Photos that look alike although their bytes differ.
        objects: The objects in the store and how they were proven.
        rewrites: Photo columns in the ledger by outcome.
        validation: Migrated photos by their last validation.
        findings: What a person should look at, by reason.
        stores: What the store probe saw.
        times: When the steps ran (UTC).
        costs: What was used, by month, and what it cost.
        audit: Whether the audit log is unbroken, how long it is, and the hash that vouches for it.
    """

    made_at: datetime
    status: str
    verdict: Verdict
    inventory: Inventory | None = None
    adds_up: bool | None = None
    photos: dict[str, int] | None = None
    batches: tuple[BatchStatus, ...] = ()
    zero_delta: ZeroDelta | None = None
    sizes: Sizes = field(default_factory=Sizes)
    variants: tuple[VariantFiles, ...] = ()
    quality: VisualQuality = field(default_factory=VisualQuality)
    lookalikes: Lookalikes = field(default_factory=Lookalikes)
    objects: Objects = field(default_factory=Objects)
    rewrites: Rewrites = field(default_factory=Rewrites)
    validation: Validation = field(default_factory=Validation)
    findings: tuple[FindingGroup, ...] = ()
    stores: tuple[StoreAnswers, ...] = ()
    times: Times = field(default_factory=Times)
    costs: Costs = field(default_factory=Costs)
    audit: AuditVerdict | None = None

    @property
    def migrated(self) -> int:
        """How many photo references show the CDN now."""
        return (self.photos or {}).get(PhotoState.MIGRATED, 0)

    @property
    def waiting(self) -> int:
        """How many photo references are on their way or have not started."""
        return sum((self.photos or {}).get(state, 0) for state in WAITING)

    @property
    def findings_total(self) -> int:
        """How many findings there are, listed or not."""
        return sum(group.count for group in self.findings)


def collect(
    database: Database, config: PipelineConfig, *, max_findings: int = MAX_LISTED_FINDINGS
) -> ReportData:
    """Read the whole report from the state tables; writes nothing, asks neither store nor CDN.

    Args:
        database: The application's database.
        config: Says which bucket, formats and presets the numbers are about.
        max_findings: How many photos to list by name.
    """
    row = migration_row(database) if schema_exists(database) else None
    if row is None:
        return ReportData(made_at=utc_now(), status="not_started", verdict=NOT_STARTED)
    delta = zero_delta(database)
    inventory, batches = last_inventory(database), tuple(batch_statuses(database))
    with database.read() as connection:
        photos = measures.photo_states(connection)
        validation = measures.validation(connection)
        findings = collect_findings(connection, limit=max_findings)
        return ReportData(
            made_at=utc_now(),
            status=row.status,
            verdict=judge(inventory, photos, batches, validation, findings),
            inventory=inventory,
            adds_up=inventory.adds_up if inventory else None,
            photos=photos,
            batches=batches,
            zero_delta=delta,
            sizes=collect_sizes(connection, config),
            variants=variant_files(connection, config),
            quality=collect_quality(connection, config),
            lookalikes=collect_lookalikes(connection),
            objects=measures.objects(connection, config),
            rewrites=measures.rewrites(connection),
            validation=validation,
            findings=findings,
            stores=measures.store_answers(connection),
            times=measures.times(connection, row.inventoried_at),
            costs=collect_costs(connection, config),
            audit=audit.verify(connection),
        )


@cache
def _adapter() -> TypeAdapter[ReportData]:
    return TypeAdapter(ReportData)


def to_json(data: ReportData) -> str:
    """Return the report as JSON; its keys are documented at `ReportData`, its instants are ISO 8601."""
    return _adapter().dump_json(data, indent=2).decode()


def from_json(text: str) -> ReportData:
    """Return the report that `to_json` wrote.

    Raises:
        pydantic.ValidationError: the text is no such report.
    """
    return _adapter().validate_json(text)
