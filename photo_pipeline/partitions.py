"""The one partitions definition: a partition is a batch of photos.

Batches, not photos: the UI stays quick to about 10,000 keys (facts/dagster.md A1). Keys are registered by
`checksum_catalog`; never put anything else under this name.
"""

import dagster as dg

photo_batches = dg.DynamicPartitionsDefinition(name="photo_batches")

# SQLite and psycopg both fail on much larger single statements (facts/dagster.md A1).
REGISTRATION_CHUNK = 10_000


def register_batches(instance: dg.DagsterInstance, keys: tuple[str, ...]) -> None:
    """Make the batches known to Dagster as partitions; known ones stay as they are."""
    for start in range(0, len(keys), REGISTRATION_CHUNK):
        instance.add_dynamic_partitions("photo_batches", list(keys[start : start + REGISTRATION_CHUNK]))
