"""Budgets for tests."""

from photo_pipeline.core.cost.budget import Budget, plan_amounts
from photo_pipeline.core.cost.pricing import price_list
from photo_pipeline.core.cost.units import Unit


def no_limits() -> Budget:
    return Budget("no limits", price_list().for_region(None), True, {})


def legacy_free_tier() -> Budget:
    plan = price_list().plans["aws-legacy-free-tier"]
    return Budget(plan.title, price_list().for_region(None), True, plan_amounts(plan))


def dollars(a_month: float) -> Budget:
    return Budget(f"${a_month}", price_list().for_region(None), True, {}, usd_a_month=a_month)


def puts(limit: int) -> Budget:
    return Budget(f"{limit} PUTs", price_list().for_region(None), True, {Unit.PUTS: limit})
