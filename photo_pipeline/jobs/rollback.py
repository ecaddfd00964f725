"""The job `rollback`: `db_url_rewrites` with a target that nobody can forget to set.

Hard-coded, because re-executing a job backfill loses configuration that was typed in, and a rollback
without its target would migrate forward again (facts/dagster.md A2).
"""

import dagster as dg

from photo_pipeline.assets.db_url_rewrites import RewriteConfig, db_url_rewrites

rollback = dg.define_asset_job(
    "rollback",
    selection=[db_url_rewrites],
    config=dg.RunConfig(ops={"db_url_rewrites": RewriteConfig(target="local")}),
    description="Takes batches back: their rows point to the local files again. Objects in S3 stay. "
    "Materialize the partitions to take back; the job `migrate` on them goes forward again.",
)
