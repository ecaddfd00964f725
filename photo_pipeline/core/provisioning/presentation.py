"""A plan as people read it: one line per resource, and below it each value that changes."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from photo_pipeline.core.provisioning.difference import Difference
from photo_pipeline.core.provisioning.plan import Change, Plan

_IDENTITIES = ("ID", "Sid", "AlarmName")
_SIGNS = {"create": "+", "update": "~"}


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield the plan's lines: `+` will be created, `~` changed, `-` removed."""
    for change in plan.changes:
        yield from change_lines(change)
    for warning in plan.warnings:
        yield f"! {warning}"
    for note in plan.notes:
        yield f"  note: {note}"
    for name in plan.unsupported:
        yield f"  note: this server does not know {name}; it is left out"
    yield summary(plan)


def change_lines(change: Change) -> Iterator[str]:
    """Yield one resource's lines."""
    yield f"{_SIGNS[change.action]} {change.action} {change.resource}"
    for each in change.differences:
        yield from _difference_lines(each)


def _difference_lines(difference: Difference) -> Iterator[str]:
    if difference.actual in (None, [], {}):
        yield from _added_lines(difference.path, difference.desired)
    elif difference.desired is None:
        yield f"    - {difference.path}: {_shown(difference.actual)}"
    else:
        yield f"    ~ {difference.path}: {_shown(difference.actual)} -> {_shown(difference.desired)}"


def _added_lines(path: str, value: Any) -> Iterator[str]:
    """Yield a line for each value of what is new, however deep."""
    if not isinstance(value, Mapping):
        yield f"    + {path}: {_shown(value)}"
        return
    for name, each in value.items():
        is_in_path = name in _IDENTITIES and path.endswith(str(each))
        if each is not None and not is_in_path:
            yield from _added_lines(f"{path}.{name}", each)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, Mapping):
        value = {name: each for name, each in value.items() if each is not None}
    return json.dumps(value, default=str)


def summary(plan: Plan) -> str:
    """Return the plan's last line."""
    if plan.is_clean:
        return f"Everything is as configured ({len(plan.unchanged)} resources)."
    counts = {action: sum(change.action == action for change in plan.changes) for action in _SIGNS}
    warnings = f", {len(plan.warnings)} warnings" if plan.warnings else ""
    return (
        f"Plan {plan.digest}: {counts['create']} to create, {counts['update']} to change, "
        f"{len(plan.unchanged)} as configured{warnings}."
    )
