"""Plan, apply, drift: the registry's resources one after the other, each compared before it is changed.

A later resource may need what an earlier one is given by AWS (an id, say). In a plan such a value is unknown;
in an apply each resource is read and compared again at its turn, when everything before it is there.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from botocore.exceptions import ClientError

from photo_pipeline.core.errors import GuardRefusedError, PhotoPipelineError
from photo_pipeline.core.provisioning.aws import aws_errors, is_unsupported
from photo_pipeline.core.provisioning.difference import Difference, Document, differences
from photo_pipeline.core.provisioning.registry import resources_for
from photo_pipeline.core.provisioning.resource import Reading, ResourceType, World


@dataclass(frozen=True)
class Change:
    """What is to be done to one resource; `action` is create or update."""

    resource: str
    action: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Plan:
    """What an apply would do.

    Attributes:
        changes: In the order in which they are made.
        unchanged: Names of the resources that are as wanted.
        unsupported: Names of the resources that this server does not know.
        warnings: What somebody else has set up and endangers photos, as sentences.
        notes: What is worth knowing and is no difference.
        outputs: Ids and ARNs that are known.
    """

    changes: tuple[Change, ...]
    unchanged: tuple[str, ...]
    unsupported: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    outputs: dict[str, str]

    @property
    def digest(self) -> str:
        """A short name of exactly these changes, for an apply that must do nothing else."""
        text = json.dumps([asdict(change) for change in self.changes], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def is_clean(self) -> bool:
        """Whether everything is as wanted, and nothing endangers photos."""
        return not self.changes and not self.warnings


@dataclass(frozen=True)
class Applied:
    """What an apply did, and what a plan says afterwards (nothing, unless something else interfered)."""

    changes: tuple[Change, ...]
    after: Plan


def make_plan(world: World) -> Plan:
    """Compare what is there with what the configuration wants; changes nothing.

    Raises:
        ConfigurationError: AWS refuses the credentials or a request.
        GuardRefusedError: a name that we need is taken by something that we did not create.
        InfrastructureError: AWS does not answer.
    """
    world.outputs.clear()
    changes: list[Change] = []
    unchanged: list[str] = []
    unsupported: list[str] = []
    warnings: list[str] = []
    notes: list[str] = []
    for resource in resources_for(world):
        compared = _compare(world, resource)
        if compared is None:
            unsupported.append(resource.name)
            continue
        warnings += compared.reading.warnings
        notes += compared.reading.notes
        if compared.change is not None:
            changes.append(compared.change)
        elif compared.desired:
            unchanged.append(resource.name)
    return Plan(
        tuple(changes),
        tuple(unchanged),
        tuple(unsupported),
        tuple(warnings),
        tuple(notes),
        dict(world.outputs),
    )


def apply_plan(
    world: World,
    plan: Plan,
    *,
    changed: Callable[[Change], None] = lambda change: None,
) -> Applied:
    """Make the changes of a plan that was made just now with this world.

    Only resources that the plan names are looked at again and changed; of the others the plan knows what is
    to be known. Idempotent: after a failure, plan and apply again.

    Args:
        world: As the plan was made with.
        plan: What was agreed to.
        changed: Told of each change after it.

    Raises:
        As `make_plan`; the message says how many changes were made before.
    """
    planned = {change.resource for change in plan.changes}
    done: list[Change] = []
    refused: list[str] = []
    world.outputs = dict(plan.outputs)
    for resource in resources_for(world):
        if resource.name not in planned:
            continue
        try:
            compared = _compare(world, resource)
            if compared is None or compared.change is None:
                continue
            if not _write(world, resource, compared):
                refused.append(resource.name)
                continue
        except PhotoPipelineError as error:
            raise _after(error, len(done), len(plan.changes)) from error
        done.append(compared.change)
        changed(compared.change)
    return Applied(tuple(done), _without(refused, make_plan(world)))


def require_digest(plan: Plan, digest: str) -> None:
    """Check that the plan is the one that was agreed to.

    Raises:
        GuardRefusedError: it is another one.
    """
    if plan.digest != digest:
        raise GuardRefusedError(
            f"plan {digest}",
            cause=f"what would be done now is another plan, {plan.digest}",
            fix="look at the plan again, and apply that",
        )


@dataclass(frozen=True)
class _Compared:
    reading: Reading
    desired: Document | None
    change: Change | None


def _compare(world: World, resource: ResourceType) -> _Compared | None:
    """Return how the resource is and should be, or None where the server does not know its kind."""
    with aws_errors(resource.name):
        try:
            reading = resource.read(world)
        except ClientError as error:
            if is_unsupported(error):
                return None
            raise
        except (LookupError, ValueError):
            if world.aws.is_amazon:
                raise
            # Some compatible servers (rclone) answer every question about a bucket with its listing.
            return None
        world.outputs.update(reading.outputs)
        desired = resource.desired(world, reading)
    if desired is None:
        return _Compared(reading, None, None)
    found = differences(reading.actual, desired)
    action = "create" if reading.actual is None else "update"
    return _Compared(reading, desired, Change(resource.name, action, found) if found else None)


def _write(world: World, resource: ResourceType, compared: _Compared) -> bool:
    """Make the change; return whether the server knows how to."""
    assert compared.desired is not None  # it has a change
    with aws_errors(resource.name):
        try:
            resource.write(world, compared.reading, compared.desired)
        except ClientError as error:
            if is_unsupported(error):
                return False
            raise
        # Read again for what AWS has given it.
        world.outputs.update(resource.read(world).outputs)
    return True


def _without(refused: list[str], plan: Plan) -> Plan:
    """Return the plan with what the server has just refused to know among the unsupported."""
    changes = tuple(change for change in plan.changes if change.resource not in refused)
    return replace(plan, changes=changes, unsupported=(*plan.unsupported, *refused))


def _after(error: PhotoPipelineError, done: int, planned: int) -> PhotoPipelineError:
    if not done:
        return error
    cause = f"{error.cause}; {done} of {planned} changes were made before"
    return type(error)(error.thing, cause=cause, fix=error.fix)
