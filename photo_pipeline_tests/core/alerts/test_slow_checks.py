"""What is looked at more rarely than each minute: the audit log, and the infrastructure (moto's AWS)."""

from collections.abc import Iterator

import pytest

from photo_pipeline.core.alerts import slow_checks
from photo_pipeline.core.migration import control
from photo_pipeline_tests.core.alerts.conftest import World
from photo_pipeline_tests.core.provisioning import worlds
from photo_pipeline_tests.core.provisioning.conftest import pretended_aws
from photo_pipeline_tests.pretend_aws import PretendAws


@pytest.fixture
def log(world: World) -> World:
    """A world whose audit log has entries."""
    control.pause(world.database, reason="deploying", run="person")
    control.resume(world.database, reason="done", run="person")
    return world


def kinds(world: World) -> set[str]:
    return {str(each.kind) for each in world.look().holds}


def execute(world: World, statement: str) -> None:
    world.write(lambda connection: connection.exec_driver_sql(statement))


def test_a_changed_audit_log_is_told_once_with_its_runbook_and_again_when_it_is_whole(log: World) -> None:
    assert kinds(log) == set()
    execute(log, "UPDATE pp_audit SET subject = 'x' WHERE seq = 1")
    log.later(hours=1)
    assert kinds(log) == set()  # not due
    log.later(hours=23)
    looked = log.look()
    assert [str(each.kind) for each in looked.holds] == ["audit_log"]
    assert "broken at entry 1: its content is not what was recorded" in looked.holds[0].detail
    assert [each.title for each in looked.sent] == [looked.holds[0].title]
    log.later(minutes=1)
    assert log.look().sent == ()
    execute(log, "UPDATE pp_audit SET subject = 'the migration' WHERE seq = 1")
    log.later(hours=1, minutes=1)  # what was wrong is looked at again soon
    assert [each.title for each in log.look().sent] == [f"Resolved: {looked.holds[0].title}"]


def test_the_message_names_the_runbook(log: World, caplog: pytest.LogCaptureFixture) -> None:
    execute(log, "DELETE FROM pp_audit WHERE seq = 2")
    with caplog.at_level("WARNING"):
        log.look()
    assert "docs/runbooks/audit-log-broken.md" in caplog.text


def test_null_switches_it_off_and_what_was_found_is_over(log: World) -> None:
    execute(log, "DELETE FROM pp_audit WHERE seq = 2")
    assert kinds(log) == {"audit_log"}
    log.configure(audit_hours=None)
    assert kinds(log) == set()


def test_of_two_processes_that_look_at_once_one_does(log: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def look_while_another_does(situation: slow_checks.Situation) -> slow_checks.Found:
        made.append(1)
        if len(made) == 1:
            slow_checks.run_due(situation)
        return slow_checks.Found()

    check = slow_checks.SlowCheck(slow_checks.AUDIT, lambda _: 1.0, look_while_another_does)
    monkeypatch.setattr(slow_checks, "CHECKS", (check,))
    log.look()
    assert made == [1]


@pytest.fixture
def aws() -> Iterator[PretendAws]:
    with pretended_aws() as running:
        yield running


def test_what_is_changed_by_hand_on_aws_is_told(world: World, aws: PretendAws) -> None:
    world.configure(drift_hours=24)
    infrastructure = worlds.make_world("shop-photos")
    worlds.applied(infrastructure)
    infrastructure.aws.s3.delete_bucket_encryption(Bucket="shop-photos")
    infrastructure.aws.s3.delete_public_access_block(Bucket="shop-photos")
    (alert,) = world.look().holds
    assert str(alert.kind) == "provisioning_drift"
    assert "provision drift" in alert.detail
    world.configure(drift_hours=None)
    assert kinds(world) == set()


@pytest.mark.slow
def test_an_infrastructure_as_configured_is_no_finding_nor_is_an_aws_that_is_away(
    world: World, aws: PretendAws
) -> None:
    world.configure(drift_hours=24)
    worlds.applied(worlds.make_world("shop-photos"))
    assert kinds(world) == set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        world.later(hours=25)
        assert kinds(world) == set()
    with world.database.read() as connection:
        error = connection.exec_driver_sql("SELECT error FROM pp_check WHERE name = 'drift'").scalar_one()
    assert "does not answer" in error
