"""What may be spent."""

from datetime import date
from typing import Literal

from pydantic import Field

from photo_pipeline.core.config.base import Settings


class PlanLimits(Settings):
    """A monthly budget in dollars."""

    monthly_usd: float = Field(gt=0, description="Dollars a month.")


class OwnPrices(Settings):
    """Prices of the store's region, where they are not those that photo_pipeline comes with."""

    put_per_1000: float = Field(ge=0, description="Dollars per 1,000 PUT, COPY, POST or LIST requests.")
    get_per_1000: float = Field(ge=0, description="Dollars per 1,000 GET or HEAD requests.")
    storage_gb_month: float = Field(ge=0, description="Dollars per GB and month.")
    as_of: date = Field(description="The day on which they were read.")
    source: str = Field(default="the configuration file", description="Where they were read.")


class Limits(Settings):
    """Spending limits, kept by the cost guard: alert at 80 %, open at 90 %, refuse a forecast over 95 %."""

    plan: Literal["aws-legacy-free-tier", "aws-credits"] | PlanLimits = Field(
        description="aws-legacy-free-tier, aws-credits, or {monthly_usd: N}."
    )
    prices: OwnPrices | None = Field(
        default=None, description="Prices of the store's region; left out: the table that comes along."
    )
