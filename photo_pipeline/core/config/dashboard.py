"""Where the live dashboard is, for links to it from elsewhere; running it is `photo-pipeline serve`."""

from typing import Final

from pydantic import Field

from photo_pipeline.core.config.base import Settings

DEFAULT_PORT: Final = 8321


class DashboardSettings(Settings):
    """The dashboard's address as the people who use Dagster reach it."""

    url: str | None = Field(
        default=None,
        # No account, query or fragment: paths are put after it, and it is shown to everybody.
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$",
        max_length=2_000,
        description="Address of `photo-pipeline serve`, such as http://127.0.0.1:8321; Dagster's pages then "
        "link to it.",
    )

    def address(self, path: str = "/") -> str | None:
        """Return the address of one of its pages (`path` begins with a slash); None if no URL is set."""
        return None if self.url is None else self.url.rstrip("/") + path
