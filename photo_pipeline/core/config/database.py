"""The application's database: where it is, and how its rows are changed."""

from pydantic import Field

from photo_pipeline.core.config.base import Settings


class DatabaseSettings(Settings):
    """Where the application's database is; the URL itself stays in the environment."""

    env: str = Field(description="Name of the environment variable that holds the SQLAlchemy URL.")


class RewriteSettings(Settings):
    """How rows are changed."""

    rows_per_transaction: int = Field(
        default=1000,
        gt=0,
        description=(
            "Rows per database transaction, at most a batch's. They stay locked until it ends: 1,000 rows "
            "for 0.1 to 0.3 s. Fewer are slower in all and hold each lock for less time."
        ),
    )
