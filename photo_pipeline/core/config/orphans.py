"""When objects in the bucket that nothing refers to may go."""

from typing import Literal

from pydantic import Field

from photo_pipeline.core.config.base import Settings


class OrphanSettings(Settings):
    """The clean-up of the bucket: its schedule, its patience and its limits."""

    schedule: str = Field(
        default="30 4 * * 0",
        pattern=r"^\s*(\S+\s+){4}\S+\s*$",
        description="When the scheduled clean-up runs, as five cron fields (UTC); switched on in Dagster.",
    )
    schedule_does: Literal["report", "mark", "delete"] = Field(
        default="mark",
        description="How far the scheduled run goes: report, mark, or also delete what was marked long ago.",
    )
    grace_hours: float = Field(
        default=24,
        ge=24,
        description="Age of an object that may be marked, and of a mark that may be acted on; 24 at least.",
    )
    max_share: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="More orphans than this share of all objects: a mistake, nothing is marked or deleted.",
    )
    references: Literal["everywhere", "mapped"] = Field(
        default="everywhere",
        description="Where references are looked for: in every table, or only in those of the sources.",
    )
    skip_tables: tuple[str, ...] = Field(
        default=(), description="Tables (or schema.table) not to be searched, although `everywhere` is set."
    )
