"""The examination: every check in turn, and what came of it.

A new check is one function and one line in its module's CHECKS; a new group is one module and one line here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from photo_pipeline.core.doctor import database_checks, delivery_checks, machine_checks, store_checks
from photo_pipeline.core.doctor.finding import Check, Finding, Status, down, ok, problem, skipped
from photo_pipeline.core.doctor.patient import Patient
from photo_pipeline.core.errors import InfrastructureError, PhotoPipelineError


def _configuration(patient: Patient) -> Iterator[Finding]:
    """The configuration file is readable and makes sense as a whole."""
    sources = ", ".join(source.name for source in patient.config.sources)
    yield ok(f"sources: {sources}")


CHECKS = (
    Check("configuration", "configuration", _configuration),
    *database_checks.CHECKS,
    *store_checks.CHECKS,
    *delivery_checks.CHECKS,
    *machine_checks.CHECKS,
)
"""In the order in which they are made; each stands after what it needs."""


@dataclass(frozen=True)
class Examined:
    """One check and what it said."""

    check: Check
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst of the findings."""
        seen = {finding.status for finding in self.findings}
        return next((s for s in (Status.DOWN, Status.PROBLEM, Status.OK) if s in seen), Status.SKIPPED)


def examine(
    config_path: Path | None = None,
    *,
    checks: Sequence[Check] = CHECKS,
    told: Callable[[Examined], None] = lambda _examined: None,
) -> list[Examined]:
    """Make every check and return what was seen; a check whose needs are not met is skipped.

    Args:
        config_path: The configuration file; None: where it usually is.
        checks: Which, in an order in which each stands after its needs.
        told: Called after each check.
    """
    done: dict[str, Examined] = {}
    with Patient(config_path) as patient:
        for check in checks:
            unmet = [name for name in check.needs if done[name].status is not Status.OK]
            findings = _findings(check, patient) if not unmet else [skipped(f"needs: {', '.join(unmet)}")]
            done[check.name] = Examined(check, tuple(findings))
            told(done[check.name])
    return list(done.values())


def _findings(check: Check, patient: Patient) -> list[Finding]:
    seen: list[Finding] = []
    try:
        seen.extend(check.look(patient))
    except InfrastructureError as error:
        seen.append(down(f"{error.thing}: {error.cause}", fix=error.fix))
    except PhotoPipelineError as error:
        seen.append(problem(f"{error.thing}: {error.cause}", fix=error.fix or "see the message"))
    except ClientError as error:
        seen.append(problem(_one_line(error), fix="allow it to these credentials"))
    except BotoCoreError as error:
        seen.append(down(_one_line(error), fix="run again when the store answers"))
    return seen


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
