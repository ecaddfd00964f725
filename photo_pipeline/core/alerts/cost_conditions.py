"""Alerts about spending: our own ledger against the limits, and what AWS itself has counted."""

from collections.abc import Iterator

import sqlalchemy as sa

from photo_pipeline.core.alerts.alert import Alert, AlertKind
from photo_pipeline.core.alerts.situation import Situation
from photo_pipeline.core.catalog.tables import reconciliation_table
from photo_pipeline.core.cost.budget import ALERT_AT, OPEN_AT, REFUSE_OVER, USD, USD_IN_ALL, LimitState
from photo_pipeline.core.cost.reconciliation import UNITS
from photo_pipeline.core.cost.units import month_of
from photo_pipeline.core.errors import BudgetError

_MORE = "More: photo-pipeline cost"


def near_limits(situation: Situation) -> Iterator[Alert]:
    """A limit is used to 80 %."""
    for state in situation.cost.limits:
        if state.share >= ALERT_AT:
            yield Alert(
                AlertKind.COST_NEAR_LIMIT,
                f"{situation.cost.month} {state.name}",
                f"Spending nears a limit: {state.share:.0%} of {_name(state)} is used",
                f"{state.sentence}. At {OPEN_AT:.0%} uploads are suspended. {_MORE}",
            )


def suspended_uploads(situation: Situation) -> Iterator[Alert]:
    """The breaker is open. Asks it, as uploads do, so that it also closes where nobody uploads."""
    try:
        situation.guard.require_open()
    except BudgetError as error:
        yield Alert(
            AlertKind.UPLOADS_SUSPENDED,
            "uploads",
            "Uploads are suspended by the cost guard",
            str(error),
        )


def projected_limits(situation: Situation) -> Iterator[Alert]:
    """A limit would be used to more than 95 % at the end of the month, if it goes on like this."""
    now_used = {state.name: state for state in situation.cost.limits}
    for state in situation.cost.projection:
        if state.share > REFUSE_OVER:
            yield Alert(
                AlertKind.COST_PROJECTION,
                f"{situation.cost.month} {state.name}",
                f"If it goes on like this, {state.share:.0%} of {_name(state)} is used at the month's end",
                f"Now: {now_used[state.name].sentence}. The forecast takes the month's average. {_MORE}",
            )


def account_near_limits(situation: Situation) -> Iterator[Alert]:
    """AWS counts so much for the bucket, by whomever, that a limit is used to 80 %."""
    limits = {state.name: state for state in situation.cost.limits}
    with situation.database.read() as connection:
        rows = connection.execute(sa.select(reconciliation_table)).all()
    for row in rows:
        limit = limits.get(UNITS.get(row.measure, ""))
        if limit is None or row.theirs is None or month_of(row.until) != situation.cost.month:
            continue
        if row.theirs / limit.limit >= ALERT_AT > limit.share:
            yield Alert(
                AlertKind.ACCOUNT_NEAR_LIMIT,
                f"{situation.cost.month} {limit.name}",
                f"AWS counts {row.theirs / limit.limit:.0%} of {_name(limit)}",
                f"AWS: {row.theirs:,} of {limit.limit:,.0f}; our own ledger: {row.ours:,}. {row.reason} "
                "Others' use is not limited here. More: photo-pipeline cost reconcile",
            )


def _name(state: LimitState) -> str:
    """Return what the limit is of, as a title has it."""
    return {USD: "the month's budget in dollars", USD_IN_ALL: "the dollars in all"}.get(
        state.name, state.title
    )
