"""What Dagster looks for by itself, one module each."""

from photo_pipeline.sensors import alerts, cost_guard, lost_retries, migration_driver

SENSORS = [
    cost_guard.cost_guard,
    migration_driver.migration_driver,
    lost_retries.lost_retries,
    alerts.alerts,
    alerts.run_failures,
]
