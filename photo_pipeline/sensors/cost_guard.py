"""The sensor `cost_guard`: carries the breaker's verdict, and a pause, over to Dagster, once a minute.

What the verdict is, and that uploads under way heed it, is the core's: without this sensor they stop all
the same. Here: runs that would upload stay queued meanwhile, so that they need not fail first.
"""

import json

import dagster as dg

from photo_pipeline.assets.s3_objects import UPLOAD_POOL
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import Control
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.guard import CostGuard
from photo_pipeline.core.errors import BudgetError
from photo_pipeline.core.migration.watch import wish
from photo_pipeline.resources.database import ApplicationDatabase
from photo_pipeline.resources.settings import PipelineSettings
from photo_pipeline.sensors.configured import configured


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Holds uploads back while the cost guard suspends them: sets the limit of the pool "
    "`s3_upload` to 0, and later back to what it was. Rollbacks are not in that pool. Who is told is the "
    "sensor `alerts`'s; what to do: docs/runbooks/budget-exhausted.md.",
)
def cost_guard(
    context: dg.SensorEvaluationContext, settings: PipelineSettings, database: ApplicationDatabase
) -> dg.SensorResult | dg.SkipReason:
    """Carry the verdict over to the pool."""
    config = configured(settings)
    if isinstance(config, dg.SkipReason):
        return config
    with database.open() as opened:
        with opened.read() as connection:
            begun = ledger.is_there(connection)
        if not begun:
            return dg.SkipReason("nothing has been migrated yet")
        said = _verdict(opened, config)
    return _switch_pool(context, said)


def _verdict(database: Database, config: PipelineConfig) -> str:
    """Return why uploads wait, or an empty text.

    An abort is no reason: what is queued starts, refuses and ends, instead of waiting for ever.
    """
    said = wish(database)
    if said.control is Control.PAUSED:
        return f"The migration is {said.sentence}."
    guard = CostGuard.of(database, config)
    try:
        guard.require_open()
    except BudgetError as error:
        return str(error)
    return ""


def _switch_pool(context: dg.SensorEvaluationContext, suspended: str) -> dg.SensorResult | dg.SkipReason:
    """Close or open the pool; one that a person has closed is left alone.

    The cursor says whether it was closed here, and which limit it had before (null: the default one).
    """
    storage = context.instance.event_log_storage
    own = {each.name: each.limit for each in storage.get_pool_limits() if not each.from_default}
    closed = json.loads(context.cursor) if context.cursor else None
    if suspended and closed is None:
        if own.get(UPLOAD_POOL) == 0:
            return dg.SkipReason(f"somebody has closed the pool {UPLOAD_POOL} already. {suspended}")
        storage.set_concurrency_slots(UPLOAD_POOL, 0)
        before = json.dumps({"limit": own.get(UPLOAD_POOL)})
        return dg.SensorResult(skip_reason=f"closed the pool {UPLOAD_POOL}. {suspended}", cursor=before)
    if not suspended and closed is not None:
        if own.get(UPLOAD_POOL) == 0:
            if closed["limit"] is None:
                storage.delete_concurrency_limit(UPLOAD_POOL)
            else:
                storage.set_concurrency_slots(UPLOAD_POOL, closed["limit"])
        return dg.SensorResult(skip_reason=f"opened the pool {UPLOAD_POOL} again", cursor="")
    return dg.SkipReason(suspended or "uploads may go on")
