"""What the driver decides to launch, in situations made up by hypothesis and by hand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.catalog.tables import BatchState, Control
from photo_pipeline.core.errors import ErrorClass
from photo_pipeline.core.migration.driver import (
    MAX_SILENT_ENDS,
    Act,
    BatchFacts,
    Decision,
    Launch,
    RunHistory,
    Situation,
    decide,
)
from photo_pipeline.core.retry_rules import LONGEST_WAIT_S, RULES
from photo_pipeline_tests.examples import examples

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
FORWARD = (BatchState.PENDING, BatchState.RUNNING, BatchState.PAUSED, BatchState.FAILED)
NO_RUNS: Callable[[Act, str | None], RunHistory] = lambda _act, _batch: RunHistory()  # noqa: E731

times = st.integers(0, 2 * int(LONGEST_WAIT_S)).map(lambda ago: NOW - timedelta(seconds=ago))


@st.composite
def batches(draw: st.DrawFn) -> tuple[BatchFacts, ...]:
    found = []
    for number in range(draw(st.integers(0, 7))):
        failures = draw(st.integers(0, 5))
        kind = draw(st.sampled_from(list(ErrorClass))) if failures else None
        found.append(
            BatchFacts(
                key=f"batch-{number:06d}",
                priority=draw(st.integers(0, 3)),
                state=draw(st.sampled_from(list(BatchState))),
                failures=failures,
                error_class=kind,
                failed_at=draw(times) if kind else None,
                is_busy=draw(st.booleans()),
                is_migrated=draw(st.booleans()),
            )
        )
    return tuple(found)


situations = st.builds(
    Situation,
    now=st.just(NOW),
    at_once=st.integers(1, 4),
    control=st.sampled_from(list(Control)),
    stopped=st.just("stopped by anna"),
    suspended=st.sampled_from(["", "", "uploads: the cost guard suspends them"]),
    is_overridden=st.booleans(),
    batches=batches(),
    last_success_at=st.none() | times,
    rescan=st.booleans(),
    is_pass_due=st.booleans(),
    is_inventory_busy=st.booleans(),
    delta=st.just("Zero delta is not proven."),
)
histories = st.builds(
    RunHistory,
    last=st.sampled_from(["", "run-1"]),
    silent_ends=st.integers(0, MAX_SILENT_ENDS),
    was_cancelled=st.booleans(),
)


@given(situations, st.lists(histories, min_size=8, max_size=8))
@examples(400, deadline=None)
def test_no_situation_makes_it_do_what_it_must_not(now: Situation, past: list[RunHistory]) -> None:
    by_key = {each.key: each for each in now.batches}
    told = {each.key: past[number] for number, each in enumerate(now.batches)}
    decision = decide(now, lambda _act, batch: told[batch] if batch else past[-1])
    launched = [launch.batch for launch in decision.launches if launch.batch]
    # Never one that is at work, never one twice, never more than may run at once.
    assert len(launched) == len(set(launched))
    assert not any(by_key[key].is_busy for key in launched)
    assert not launched or sum(each.is_busy for each in now.batches) + len(launched) <= now.at_once
    for launch in decision.launches:
        history = told[launch.batch] if launch.batch else past[-1]
        assert not history.was_cancelled
        assert history.silent_ends < MAX_SILENT_ENDS
        assert launch.after == history.last
        if launch.act is Act.ROLLBACK:
            batch = by_key[launch.batch or ""]
            assert batch.state is BatchState.ROLLING_BACK or (
                now.control is Control.ABORTED and batch.is_migrated
            )
        else:
            assert now.control is Control.RUNNING
            assert not now.suspended
        if launch.act is Act.MIGRATE:
            batch = by_key[launch.batch or ""]
            assert batch.state in FORWARD
            assert_rule_grants_another_try(batch, now)
        if launch.act is Act.INVENTORY:
            assert (now.rescan, now.is_pass_due, now.is_inventory_busy) == (True, True, False)
            assert not launched
            assert not any(each.is_busy for each in now.batches)
    if now.control is Control.PAUSED:
        assert not decision.launches
    assert decision.said
    # Nobody is forgotten in silence: what could go on and does not is told.
    if not decision.launches and any(each.state in FORWARD and not each.is_busy for each in now.batches):
        assert decision.said != "Nothing is left to launch."


def assert_rule_grants_another_try(batch: BatchFacts, now: Situation) -> None:
    if batch.error_class in (None, ErrorClass.QUOTA):
        return
    assert batch.error_class is not None
    assert batch.failed_at is not None
    rule = RULES[batch.error_class]
    freed = rule.is_outside and now.last_success_at is not None and now.last_success_at > batch.failed_at
    assert batch.failures <= rule.retries or freed
    assert batch.failed_at + timedelta(seconds=rule.wait_s(batch.failures)) <= NOW


def batch(number: int, state: BatchState = BatchState.PENDING, **facts: object) -> BatchFacts:
    return replace(BatchFacts(f"batch-{number:06d}", number, state), **facts)  # type: ignore[arg-type]


def launched(
    *batches: BatchFacts, history: Callable[[Act, str | None], RunHistory] = NO_RUNS, **facts: object
) -> list[str]:
    return shown(decided(*batches, history=history, **facts))


def decided(
    *batches: BatchFacts, history: Callable[[Act, str | None], RunHistory] = NO_RUNS, **facts: object
) -> Decision:
    return decide(replace(Situation(now=NOW, at_once=2, batches=batches), **facts), history)  # type: ignore[arg-type]


def shown(decision: Decision) -> list[str]:
    return [
        f"{each.act} {int(each.batch[-6:])}" if each.batch else str(each.act) for each in decision.launches
    ]


def failed(number: int, kind: ErrorClass, failures: int, *, ago_s: float) -> BatchFacts:
    at = NOW - timedelta(seconds=ago_s)
    return batch(number, BatchState.FAILED, failures=failures, error_class=kind, failed_at=at)


def test_batches_go_in_the_order_of_their_priority_and_failed_ones_last() -> None:
    failing = failed(0, ErrorClass.PROCESSING, 1, ago_s=0)
    assert launched(batch(3), batch(1), batch(2)) == ["migrate 1", "migrate 2"]
    assert launched(failing, batch(1), batch(2)) == ["migrate 1", "migrate 2"]
    assert launched(failing, batch(1)) == ["migrate 1", "migrate 0"]


def test_what_was_interrupted_goes_on_in_both_directions() -> None:
    assert launched(batch(1), batch(2, BatchState.RUNNING), at_once=3) == ["migrate 1", "migrate 2"]
    assert launched(batch(1), batch(2, BatchState.ROLLING_BACK)) == ["rollback 2", "migrate 1"]


def test_after_an_abort_everything_migrated_goes_back_the_last_one_first_and_nothing_forward() -> None:
    there = [batch(number, BatchState.COMPLETED, is_migrated=True) for number in (1, 2, 3)]
    partly = batch(4, BatchState.PAUSED, is_migrated=True)
    aborted = {"control": Control.ABORTED, "stopped": "aborted by anna (wrong bucket)"}
    assert launched(*there, partly, batch(5), **aborted) == ["rollback 4", "rollback 3"]
    told = decided(batch(5), **aborted)
    assert told.launches == ()
    assert "aborted by anna (wrong bucket)" in told.said


def test_failures_on_the_way_forward_do_not_keep_a_batch_from_going_back() -> None:
    partly = replace(failed(1, ErrorClass.CORRUPTION, 4, ago_s=0), is_migrated=True)
    assert launched(partly, control=Control.ABORTED) == ["rollback 1"]
    left = replace(partly, state=BatchState.COMPLETED)  # what a rollback that left rows looks like
    assert launched(left, control=Control.ABORTED) == []


def test_it_says_who_paused_the_migration_and_what_the_cost_guard_said() -> None:
    paused = decided(batch(1), control=Control.PAUSED, stopped="paused by anna (deploying)")
    assert paused == Decision((), "Nothing is launched: the migration was paused by anna (deploying).")
    suspended = decided(batch(1), batch(2, BatchState.ROLLING_BACK), suspended="uploads: 90 % are used.")
    assert shown(suspended) == ["rollback 2"]
    assert "No batch is launched: uploads: 90 % are used." in suspended.said


def test_a_batch_is_tried_as_often_as_the_rule_of_its_error_says_and_then_named() -> None:
    for kind, rule in RULES.items():
        tries = []
        for failures in range(1, 8):
            told = decided(failed(1, kind, failures, ago_s=LONGEST_WAIT_S))
            tries += [failures] if told.launches else []
            assert told.launches or "batch-000001 (failed" in told.said
        if kind is not ErrorClass.QUOTA:  # goes on when there is room, however long that takes
            assert tries == list(range(1, rule.retries + 1)), kind


def test_while_the_outside_fails_one_batch_at_a_time_is_tried_ever_less_often() -> None:
    down = [failed(number, ErrorClass.NETWORK, 1, ago_s=3) for number in (1, 2)]
    assert launched(*down, batch(3), batch(4)) == ["migrate 3"]  # two failures: after 2 s
    down.append(failed(3, ErrorClass.NETWORK, 1, ago_s=3))
    waiting = decided(*down, batch(4))  # three: after 4 s
    assert waiting.launches == ()
    assert waiting.said.startswith("No batch is launched before 12:00:01 UTC: 3 tries failed since the last")
    assert launched(*down, batch(4), now=NOW + timedelta(seconds=1)) == ["migrate 4"]
    assert launched(*down, batch(4, is_busy=True), now=NOW + timedelta(seconds=1)) == []


def test_once_one_batch_gets_through_those_that_gave_up_meanwhile_are_tried_again() -> None:
    exhausted = failed(1, ErrorClass.NETWORK, 4, ago_s=600)
    assert launched(exhausted) == []
    through = {"last_success_at": NOW - timedelta(seconds=10)}
    assert launched(exhausted, **through) == ["migrate 1"]
    own = failed(1, ErrorClass.PROCESSING, 2, ago_s=600)
    assert launched(own, **through) == []


def test_a_refused_forecast_is_looked_at_again_after_five_minutes_or_at_once_under_an_override() -> None:
    refused = replace(failed(1, ErrorClass.QUOTA, 1, ago_s=299), state=BatchState.PAUSED)
    assert launched(refused, batch(2)) == []
    assert launched(refused, batch(2), now=NOW + timedelta(seconds=1)) == ["migrate 2"]
    assert launched(refused, batch(2), is_overridden=True) == ["migrate 2", "migrate 1"]


def test_a_batch_whose_runs_end_in_silence_or_are_cancelled_is_left_and_the_next_one_goes() -> None:
    silent = {
        "batch-000001": RunHistory("run-5", MAX_SILENT_ENDS),
        "batch-000002": RunHistory("run-9", 0, True),
    }
    told = decided(
        *(batch(number) for number in (1, 2, 3, 4)),
        history=lambda _act, key: silent.get(key or "", RunHistory()),
    )
    assert shown(told) == ["migrate 3", "migrate 4"]
    assert "batch-000001 (5 runs in a row failed, the last one is run-5)" in told.said
    assert "batch-000002 (its run run-9 was cancelled)" in told.said


def test_an_inventory_comes_when_nothing_else_is_to_be_done_and_ends_with_the_proof() -> None:
    due = {"rescan": True, "is_pass_due": True}
    done, left = batch(1, BatchState.COMPLETED), failed(2, ErrorClass.CORRUPTION, 1, ago_s=0)
    assert launched(**due) == ["inventory"]
    assert launched(done, left, **due) == ["inventory"]
    assert launched(done, batch(2, is_busy=True), **due) == []
    assert launched(done, **due, is_inventory_busy=True) == []
    assert launched(done, rescan=True) == []
    assert launched(done, is_pass_due=True) == []
    proven = decided(done, left, rescan=True, delta="Zero delta proven.")
    assert proven.said.startswith("Left for a person: batch-000002 (failed once, corruption error).")
    assert proven.said.endswith("Zero delta proven.")


def test_each_launch_follows_one_run_so_that_no_second_one_can_follow_the_same() -> None:
    first = Launch(Act.MIGRATE, "batch-000001", "")
    assert first.key == "migrate batch-000001 after nothing"
    assert replace(first, after="run-1").key != first.key != replace(first, act=Act.ROLLBACK).key
