"""The dated price table, and what a migration means under each plan."""

from datetime import date

import pytest

from photo_pipeline.core.config.limits import OwnPrices
from photo_pipeline.core.cost.budget import Budget, Used, plan_amounts
from photo_pipeline.core.cost.fit import Workload, fit
from photo_pipeline.core.cost.pricing import GB, price_list, usd
from photo_pipeline.core.cost.units import Unit
from photo_pipeline_tests.core.cost.budgets import dollars, legacy_free_tier, no_limits


def work(*, pictures: int, gigabytes: float = 1, batch_size: int = 100) -> Workload:
    return Workload(
        pictures=pictures,
        objects=7 * pictures,
        stored_bytes=gigabytes * GB,
        batch_size=batch_size,
        sizes=2,
        formats=3,
    )


def test_every_figure_has_a_day_and_a_source() -> None:
    prices = price_list()
    for table in (*prices.s3, prices.cloudfront, *prices.plans.values()):
        assert date(2025, 1, 1) < table.as_of <= date.today()
        assert "http" in table.source


def test_the_legacy_free_tier_is_what_aws_says() -> None:
    allowed = plan_amounts(price_list().plans["aws-legacy-free-tier"])
    assert (allowed[Unit.PUTS], allowed[Unit.GETS], allowed[Unit.STORED_BYTES]) == (2_000, 20_000, 5 * GB)
    assert price_list().cloudfront.free_invalidation_paths == 1_000


def test_a_hundred_thousand_photos_cost_three_dollars_and_a_half_in_puts() -> None:
    assert usd({Unit.PUTS: 700_000}, price_list().for_region("us-east-1")) == pytest.approx(3.50)


def test_invalidation_paths_are_free_up_to_the_thousandth() -> None:
    table = price_list().for_region(None)
    assert usd({Unit.INVALIDATION_PATHS: 1_000}, table) == 0
    assert usd({Unit.INVALIDATION_PATHS: 1_100}, table) == pytest.approx(0.5)


def test_a_region_without_prices_says_whose_are_used_and_the_file_can_give_its_own() -> None:
    listed = price_list().for_region("eu-central-1")
    assert listed.region == "us-east-1"
    own = OwnPrices(put_per_1000=0.0054, get_per_1000=0.00043, storage_gb_month=0.0245, as_of=date.today())
    mine = price_list().for_region("eu-central-1", own)
    assert (mine.region, mine.put_per_1000) == ("eu-central-1", 0.0054)


def test_seven_objects_a_photo_are_285_photos_a_month_of_the_free_tier() -> None:
    found = fit(work(pictures=1_000), legacy_free_tier())
    (plan,) = found.plans
    assert found.objects_per_photo == 7
    assert (plan.puts_per_month, plan.photos_per_month) == (2_000, 285)
    assert plan.photos_per_month_guarded == 257  # at 90 %
    assert plan.months == 4  # 7,000 PUTs, 1,800 a month
    assert found.first_month_share == pytest.approx(3.5)
    said = " ".join(found.suggestions)
    for words in ("over 4 months", "fewer sizes", "{monthly_usd: 1}"):
        assert words in said


def test_a_batch_that_is_more_than_a_month_is_named_beforehand() -> None:
    said = " ".join(fit(work(pictures=1_000, batch_size=300), legacy_free_tier()).suggestions)
    assert "batches.size is 300" in said
    assert "batches smaller" not in " ".join(fit(work(pictures=1_000), legacy_free_tier()).suggestions)


def test_what_does_not_fit_by_its_bytes_never_fits() -> None:
    (plan,) = fit(work(pictures=100, gigabytes=6), legacy_free_tier()).plans
    assert plan.months is None
    assert "6.0 GB" in plan.why_never


def test_what_fits_gets_no_advice() -> None:
    assert fit(work(pictures=100), legacy_free_tier()).suggestions == ()
    assert fit(work(pictures=10_000), dollars(5)).suggestions == ()
    assert fit(work(pictures=100), no_limits()).suggestions == ()


def test_a_budget_in_dollars_counts_requests_and_the_months_storage() -> None:
    budget = dollars(5)
    used = Used({Unit.PUTS: 100_000, Unit.GETS: 100_000, Unit.STORED_BYTES: 100 * GB}, {})
    (state,) = budget.states(used)
    assert state.used == pytest.approx(0.50 + 0.04 + 2.30)
    (state,) = budget.states(used, {Unit.PUTS: 100_000})
    assert state.reserved == pytest.approx(0.50)


def test_credits_are_spent_over_all_months() -> None:
    budget = Budget("credits", price_list().for_region(None), True, {}, usd_in_all=100)
    earlier = {"2026-10": {Unit.PUTS: 1_000_000}, "2026-09": {Unit.PUTS: 1_000_000}}
    (state,) = budget.states(Used({Unit.PUTS: 1_000_000}, earlier))
    assert state.used == pytest.approx(15.0)
