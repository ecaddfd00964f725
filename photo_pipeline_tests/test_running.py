"""Ops that no driver launches again are tried again by the rule of their error; others are not."""

import time

import dagster as dg
import pytest

from photo_pipeline.assets.running import explained_failures
from photo_pipeline.core.errors import BudgetError, DeliveryError, ErrorClass
from photo_pipeline.core.retry_rules import RULES

began: list[float] = []


@dg.op
def ask_twice(context: dg.OpExecutionContext) -> None:
    with explained_failures(context):
        began.append(time.monotonic())
        if len(began) == 1:
            raise DeliveryError("the CDN", cause="it does not answer")


@dg.op
def spend(context: dg.OpExecutionContext) -> None:
    with explained_failures(context):
        began.append(time.monotonic())
        raise BudgetError("a scan", cause="the limit is near")


@dg.job
def asking() -> None:
    ask_twice()


@dg.job
def spending() -> None:
    spend()


def test_dagster_tries_an_op_again_after_the_wait_of_its_errors_rule() -> None:
    began.clear()
    assert asking.execute_in_process().success
    first, second = began
    assert second - first >= RULES[ErrorClass.NETWORK].first_wait_s


def test_what_no_try_can_mend_fails_at_once() -> None:
    began.clear()
    result = spending.execute_in_process(raise_on_error=False)
    assert not result.success
    assert len(began) == 1


def test_a_batch_is_left_to_the_driver() -> None:
    with pytest.raises(dg.Failure), explained_failures():
        raise DeliveryError("a thing", cause="it does not answer")


def test_when_the_tries_are_used_up_the_run_fails_with_its_reason() -> None:
    class LastTry:
        retry_number = RULES[ErrorClass.NETWORK].retries

    with pytest.raises(dg.Failure, match="it does not answer"), explained_failures(LastTry()):  # type: ignore[arg-type]
        raise DeliveryError("a thing", cause="it does not answer")
