"""Which page helps with which error."""

from pathlib import Path

import pytest

from photo_pipeline.core.alerts.alert import ALERT_RUNBOOKS
from photo_pipeline.core.errors import (
    BudgetError,
    ConfigurationError,
    InfrastructureError,
    PausedError,
    PhotoPipelineError,
    StoreError,
    StoreRefusedError,
)
from photo_pipeline.core.runbooks import FALLBACK, RUNBOOKS, runbook

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        (BudgetError, "docs/runbooks/budget-exhausted.md"),
        (PausedError, "docs/runbooks/migration-stuck.md"),
        (StoreError, "docs/runbooks/s3-outage.md"),
        (StoreRefusedError, "docs/runbooks/s3-outage.md"),  # a kind of StoreError
        (InfrastructureError, FALLBACK),
        (ConfigurationError, FALLBACK),
    ],
)
def test_an_error_leads_to_the_page_of_its_closest_kind(kind: type[PhotoPipelineError], page: str) -> None:
    assert runbook(kind("thing", cause="cause")) == page


def test_every_page_that_errors_and_alerts_lead_to_exists() -> None:
    assert [
        page
        for page in {*RUNBOOKS.values(), *ALERT_RUNBOOKS.values(), FALLBACK}
        if not (ROOT / page).is_file()
    ] == []
