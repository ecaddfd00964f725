"""What may be spent."""

from typing import Literal

from pydantic import Field

from photo_pipeline.core.config.base import Settings


class PlanLimits(Settings):
    """A monthly budget in dollars."""

    monthly_usd: float = Field(gt=0, description="Dollars a month.")


class Limits(Settings):
    """Spending limits; read and kept, enforced by the cost guard."""

    plan: Literal["aws-legacy-free-tier", "aws-credits"] | PlanLimits = Field(
        description="aws-legacy-free-tier, aws-credits, or {monthly_usd: N}."
    )
