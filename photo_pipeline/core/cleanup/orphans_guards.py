"""What must be so before anything is called an orphan: each refusal costs nothing, each error all photos."""

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema, known_versions, stored_version
from photo_pipeline.core.cleanup.listing import Prefixes
from photo_pipeline.core.cleanup.orphans_compare import Census
from photo_pipeline.core.errors import GuardRefusedError


def require_state(database: Database) -> None:
    """Refuse without state tables, or with those of another version; bring older ones up to date.

    Raises:
        GuardRefusedError: nobody knows what is in the bucket.
    """
    with database.read() as connection:
        version = stored_version(connection)
    if version is None:
        raise GuardRefusedError(
            "the pp_* state tables",
            cause="there are none, so every object would look like an orphan",
            fix="check the database URL; if they are lost: photo-pipeline rebuild",
        )
    if version not in known_versions():
        raise GuardRefusedError(
            "the pp_* state tables",
            cause=f"they have version {version}, which this photo_pipeline does not know",
            fix="use the newer photo_pipeline that made them",
        )
    ensure_schema(database)


def require_prefixes(prefixes: Prefixes) -> None:
    """Refuse a prefix that does not part our objects from everybody else's.

    Raises:
        GuardRefusedError: it is unset.
    """
    for name, value in (("store.prefix", prefixes.photos), ("store.originals_prefix", prefixes.originals)):
        if not value.strip("./ "):
            raise GuardRefusedError(
                name,
                cause="it is unset, so that every object of the bucket would be taken for ours",
                fix="set it to the prefix that the photos were uploaded under",
            )


def require_known(*, objects: int, rows: int) -> None:
    """Refuse where the database is empty: then nothing refers to anything.

    Args:
        objects: Objects of this bucket that the catalog knows.
        rows: Rows of the sources' tables.

    Raises:
        GuardRefusedError: there are none of the one or the other.
    """
    if objects == 0:
        raise GuardRefusedError(
            "pp_object",
            cause="it knows no object of this bucket, so that all of them would look like orphans",
            fix="check the database URL and store.bucket; if the tables are lost: photo-pipeline rebuild",
        )
    if rows == 0:
        raise GuardRefusedError(
            "the application's tables",
            cause="those of the sources have no row, so that every object would look like an orphan",
            fix="check the database URL; restore the tables if they were emptied",
        )


def require_share(census: Census, *, limit: float, with_foreign: bool) -> None:
    """Refuse when there are more orphans than anybody expects.

    Raises:
        GuardRefusedError: their share of all listed objects is above the limit.
    """
    count = census.orphans + (census.foreign if with_foreign else 0)
    if count > limit * census.listed:
        raise GuardRefusedError(
            f"{count:,} of {census.listed:,} objects",
            cause=f"they look like orphans, which is more than orphans.max_share allows ({limit:.1%})",
            fix="look at `photo-pipeline orphans scan`; if it is right, raise --max-share for once",
        )


def require_versions(*, kept: bool, allowed: bool) -> None:
    """Refuse to delete from a bucket that keeps no versions, unless that was allowed in so many words.

    Raises:
        GuardRefusedError: it could not be undone.
    """
    if not kept and not allowed:
        raise GuardRefusedError(
            "the bucket",
            cause="it keeps no versions, so that no delete can be undone",
            fix="switch its versioning on; or delete for good: --unversioned",
        )
