"""The sensor `migration_driver`: launches what `core.migration.driver` decides, once it is switched on."""

from functools import partial

import dagster as dg
from dagster._core.storage.tags import MAX_RETRIES_TAG, PRIORITY_TAG

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema, schema_exists
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline.core.migration.driver import Act, Decision, Launch, Situation, decide
from photo_pipeline.core.migration.driver_facts import read_situation
from photo_pipeline.core.migration.state import batch_keys
from photo_pipeline.jobs.inventory import inventory
from photo_pipeline.jobs.migrate import migrate
from photo_pipeline.jobs.rollback import rollback
from photo_pipeline.partitions import register_batches
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings
from photo_pipeline.sensors.batch_runs import BatchRuns
from photo_pipeline.sensors.configured import configured

LAUNCHED_BY_TAG = "photo_pipeline/launched_by"


@dg.sensor(
    jobs=[migrate, rollback, inventory],
    minimum_interval_seconds=15,
    description="Works through all batches by itself: switch it on, and the migration runs until nothing is "
    "left. Launches batches in the order of their priority, `batches.at_once` of them at a time, and "
    "inventories until one finds nothing new (`batches.rescan`). Goes on after a crash, tries failed batches "
    "again by the rule of their error, launches nothing while the migration is paused or the cost guard "
    "suspends uploads, and rolls back what is migrated after an abort.",
)
def migration_driver(
    context: dg.SensorEvaluationContext, settings: PipelineSettings, database: ApplicationDatabase
) -> dg.SensorResult | dg.SkipReason:
    """Launch what is next."""
    config = configured(settings, else_say="Nothing is launched. ")
    if isinstance(config, dg.SkipReason):
        return config
    try:
        with database.open() as opened:
            decision = _decide(context.instance, opened, config)
    except PhotoPipelineError as error:
        return dg.SkipReason(f"Nothing is launched. {error}")
    if not decision.launches:
        return dg.SkipReason(decision.said)
    context.log.info(decision.said)
    return dg.SensorResult(run_requests=[_request(launch) for launch in decision.launches])


def _decide(instance: dg.DagsterInstance, database: Database, config: PipelineConfig) -> Decision:
    runs = BatchRuns(instance)
    if not schema_exists(database):
        situation = _before_the_first_inventory(config, runs)
    else:
        ensure_schema(database)
        keys = batch_keys(database)
        situation = read_situation(
            database, config, busy=runs.busy(keys), is_inventory_busy=runs.is_inventory_busy
        )
    decision = decide(situation, partial(runs.history, since=situation.control_at))
    wanted = [launch.batch for launch in decision.launches if launch.batch]
    if not set(wanted) <= set(instance.get_dynamic_partitions("photo_batches")):
        # Batches that the command line's inventory has made.
        register_batches(instance, tuple(keys))
    return decision


def _before_the_first_inventory(config: PipelineConfig, runs: BatchRuns) -> Situation:
    return Situation(
        now=utc_now(),
        at_once=config.batches.at_once,
        rescan=config.batches.rescan,
        is_pass_due=True,
        is_inventory_busy=runs.is_inventory_busy,
        delta="There has been no inventory yet: launch the job inventory.",
    )


def _request(launch: Launch) -> dg.RunRequest:
    """Return the run to launch. Dagster itself does not retry it: that is decided here, and once."""
    tags = {LAUNCHED_BY_TAG: "migration_driver", MAX_RETRIES_TAG: "0"}
    if launch.act is Act.ROLLBACK:
        tags[PRIORITY_TAG] = "10"
    return dg.RunRequest(run_key=launch.key, job_name=str(launch.act), partition_key=launch.batch, tags=tags)
