"""The asset checks: statements that must hold, read from the state tables anew.

Blocking within a run, but for quality, which is an opinion. The rewrite does not rely on them: it verifies
for itself (facts/dagster.md A0.6).
"""

import warnings

import dagster as dg

from photo_pipeline.assets.checksum_catalog import checksum_catalog
from photo_pipeline.assets.db_url_rewrites import db_url_rewrites
from photo_pipeline.assets.local_inventory import local_inventory
from photo_pipeline.assets.processed_variants import processed_variants
from photo_pipeline.assets.s3_objects import s3_objects
from photo_pipeline.assets.validation_report import validation_report
from photo_pipeline.core.migration import invariants
from photo_pipeline.core.migration.invariants import Invariant
from photo_pipeline.partitions import photo_batches
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings

# Partitioned checks are marked preview in 1.13 although they work (facts/dagster.md A6).
warnings.filterwarnings("ignore", category=dg.PreviewWarning)


def _result(
    invariant: Invariant, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=invariant.holds,
        severity=severity,
        description=invariant.statement,
        metadata={
            "checked": invariant.checked,
            "violations": invariant.violations,
            "sample": invariant.sample or "-",
            **{name: round(value, 2) for name, value in invariant.figures.items()},
        },
    )


@dg.asset_check(asset=local_inventory, blocking=True)
def every_reference_and_file_has_one_class(database: ApplicationDatabase) -> dg.AssetCheckResult:
    """The classes add up to the references and the unreferenced files."""
    with database.open() as opened:
        return _result(invariants.classes_add_up(opened))


@dg.asset_check(asset=checksum_catalog, blocking=True)
def every_matched_photo_is_batched_or_explained(database: ApplicationDatabase) -> dg.AssetCheckResult:
    """Each matched photo has a checksum and a batch, or stands in quarantine with a reason."""
    with database.open() as opened:
        return _result(invariants.every_match_is_batched(opened))


@dg.asset_check(asset=processed_variants, blocking=False, partitions_def=photo_batches)
def visual_quality_is_above_the_floor(
    context: dg.AssetCheckExecutionContext, settings: PipelineSettings, database: ApplicationDatabase
) -> dg.AssetCheckResult:
    """No variant of the measured sample looks worse than `quality.floor`.

    A warning only: a photo below the floor is still the best that fits its byte target.
    """
    with database.open() as opened:
        invariant = invariants.every_score_is_above_the_floor(opened, settings.load(), context.partition_key)
    return _result(invariant, dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=s3_objects, blocking=True, partitions_def=photo_batches)
def every_photo_is_uploaded_or_explained(
    context: dg.AssetCheckExecutionContext, database: ApplicationDatabase
) -> dg.AssetCheckResult:
    """Each photo of the batch has all its objects proven in the store, or a reason why not."""
    with database.open() as opened:
        return _result(invariants.every_photo_is_uploaded_or_explained(opened, context.partition_key))


@dg.asset_check(asset=db_url_rewrites, blocking=True, partitions_def=photo_batches)
def no_dangling_url(
    context: dg.AssetCheckExecutionContext, settings: PipelineSettings, database: ApplicationDatabase
) -> dg.AssetCheckResult:
    """No rewritten row of the batch points to an object that is not proven in the store."""
    with database.open() as opened:
        return _result(
            invariants.every_rewritten_row_is_backed(opened, settings.load(), context.partition_key)
        )


@dg.asset_check(asset=validation_report, blocking=True, partitions_def=photo_batches)
def every_photo_is_delivered_intact(
    context: dg.AssetCheckExecutionContext, database: ApplicationDatabase
) -> dg.AssetCheckResult:
    """Every photo of the batch's last validation passed."""
    with database.open() as opened:
        return _result(invariants.validation_passed(opened, context.partition_key))


CHECKS = [
    every_reference_and_file_has_one_class,
    every_matched_photo_is_batched_or_explained,
    visual_quality_is_above_the_floor,
    every_photo_is_uploaded_or_explained,
    no_dangling_url,
    every_photo_is_delivered_intact,
]
