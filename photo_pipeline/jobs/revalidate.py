"""The job `revalidate`: migrated photos looked at again, long after their migration."""

from typing import Any

import dagster as dg
from pydantic import Field

from photo_pipeline.assets.presentation import finding_table
from photo_pipeline.assets.running import explained_failures, log_progress
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.migration.validate import Validated, validate_sample
from photo_pipeline.resources.cdn import CdnResource
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.photo_store import PhotoStoreResource
from photo_pipeline.resources.settings import PipelineSettings


class RevalidateConfig(dg.Config):
    """How much is looked at."""

    sample: float = Field(
        default=0, ge=0, le=1, description="Share of all migrated photos; 0: `validation.sample` of the file."
    )


@dg.op
def look_again(
    context: dg.OpExecutionContext,
    config: RevalidateConfig,
    settings: PipelineSettings,
    database: ApplicationDatabase,
    photo_store: PhotoStoreResource,
    cdn: CdnResource,
) -> None:
    """Check a random sample of all migrated photos: row, URL, delivered bytes, objects in the store."""
    with explained_failures(context), database.open() as opened, cdn.open() as delivery:
        ensure_schema(opened)
        loaded = settings.load()
        found = validate_sample(
            opened,
            loaded,
            delivery,
            photo_store.open(),
            run=context.run_id,
            sample=config.sample or loaded.validation.sample,
            progress=log_progress(context),
        )
    _report(context, found)


def _report(context: dg.OpExecutionContext, found: Validated) -> None:
    findings = [(f"{e.source} {e.row_key} {e.path}", "; ".join(e.problems)) for e in found.findings]
    metadata: dict[str, Any] = {
        "photos": found.photos,
        "checked": found.checked,
        "failed": found.failed,
        "findings": finding_table(findings, first="photo", second="problems"),
    }
    context.add_output_metadata(metadata)
    if found.failed:
        # A failed run is what people (and alerts) notice.
        raise dg.Failure(
            description=f"{found.failed} of {found.checked} photos are not as they should be: "
            f"{findings[0][0]}: {findings[0][1]}",
            metadata=metadata,
            allow_retries=False,
        )


@dg.job(description="Looks at a sample of all migrated photos again: drift, bit rot, missing objects.")
def revalidate() -> None:
    """Look again."""
    look_again()
