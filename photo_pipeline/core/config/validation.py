"""How migrated photos are looked at again and again, long after their rewrite."""

from pydantic import Field

from photo_pipeline.core.config.base import Settings


class ValidationSettings(Settings):
    """When the scheduled validation runs, and how much it looks at."""

    schedule: str = Field(
        default="0 3 * * *",
        pattern=r"^\s*(\S+\s+){4}\S+\s*$",
        description="When it runs, as five cron fields; it is switched on in Dagster.",
    )
    sample: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="Share of all migrated photos that each run looks at, at least one.",
    )
