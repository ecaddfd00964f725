"""When local files of migrated photos go, first to a trash folder and then for good."""

from typing import Literal

from pydantic import Field

from photo_pipeline.core.config.base import Settings


class CleanupSettings(Settings):
    """Waiting times of the local clean-up, which nothing starts by itself."""

    retention_days: float = Field(
        default=30,
        ge=0,
        description="A file stays this many days after the last rewrite of a row that showed it.",
    )
    trash_days: float = Field(
        default=7, ge=0, description="It stays this many days in the trash folder before it is deleted."
    )
    hard_links: Literal["keep", "move"] = Field(
        default="keep",
        description="What becomes of a file that has other names outside of what was inventoried "
        "(hard links): they share its bytes, so moving one name frees nothing.",
    )
