"""The folders that the pipeline works in; its state tables are in the application's database."""

from pathlib import Path

from pydantic import Field

from photo_pipeline.core.config.base import Settings


class StateSettings(Settings):
    """Where working files live."""

    counted_dir: Path = Field(
        default=Path(".photo_pipeline/counted_ahead"),
        description="What processes of this machine have counted ahead in the request ledger and not sent; a "
        "disk of this machine, not one that several share.",
    )
    staging_dir: Path = Field(
        default=Path(".photo_pipeline/staging"), description="Variants wait here until they are uploaded."
    )
    report_dir: Path = Field(default=Path(".photo_pipeline/reports"), description="Reports are written here.")
    backup_dir: Path = Field(
        default=Path(".photo_pipeline/backups"),
        description="Rows as they were before their rewrite are kept here.",
    )
