"""What an operator launches, one module each."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from photo_pipeline.jobs import (
    control,
    delete_photos,
    inventory,
    local_cleanup,
    migrate,
    orphan_cleanup,
    provision_storage,
    reconcile_costs,
    rehearse_rollback,
    repoint,
    report,
    revalidate,
    rollback,
)

JOBS: list[dg.JobDefinition | UnresolvedAssetJobDefinition] = [
    # The migration, and its way back.
    *(inventory.inventory, migrate.migrate, rollback.rollback, report.report),
    *(control.pause, control.resume, control.abort),
    # Looking again, and following a change of the configuration.
    *(revalidate.revalidate, rehearse_rollback.rehearse_rollback, repoint.repoint),
    # Before it, on AWS, and its costs.
    *(provision_storage.provision_storage, reconcile_costs.reconcile_costs),
    # What deletes, each after a look or a plan.
    *(orphan_cleanup.orphan_cleanup, local_cleanup.local_cleanup, delete_photos.delete_photos),
]
