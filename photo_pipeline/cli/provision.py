"""`photo-pipeline provision`: bucket, CDN, alarms and budget, compared with the configuration and set up."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer

from photo_pipeline.cli.command import DONE, FINDINGS, AsJson, CommandGroup
from photo_pipeline.cli.project import open_config
from photo_pipeline.core.cost.lenient import LenientMeter
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline.core.project import open_database
from photo_pipeline.core.provisioning import roles
from photo_pipeline.core.provisioning.aws import Aws
from photo_pipeline.core.provisioning.plan import Plan, apply_plan, make_plan, require_digest
from photo_pipeline.core.provisioning.presentation import plan_lines, summary
from photo_pipeline.core.provisioning.resource import World
from photo_pipeline.terminal import Terminal


def plan(json_: AsJson = False) -> int:
    """Show what `provision apply` would create and change. Changes nothing.

    Example: photo-pipeline provision plan
    """
    terminal = Terminal(as_json=json_)
    with _world() as world:
        made = make_plan(world)
    _say(terminal, made)
    terminal.result(_document(made))
    return DONE


def apply(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    digest: Annotated[
        str | None, typer.Option("--plan", help="Apply only the plan with this digest; does not ask.")
    ] = None,
    json_: AsJson = False,
) -> int:
    """Show the plan, ask, and set up what it says. What photo_pipeline did not create stays as it is.

    Example: photo-pipeline provision apply --yes
    """
    terminal = Terminal(as_json=json_)
    with _world() as world:
        made = make_plan(world)
        _say(terminal, made)
        if digest is not None:
            require_digest(made, digest)
        elif made.changes and not yes:
            _ask(terminal)
        done = apply_plan(world, made, changed=lambda change: terminal.note(f"done: {change.resource}"))
        terminal.say(f"{len(done.changes)} changes made. {summary(done.after)}")
        _say_what_is_next(terminal, world, done.after)
    terminal.result({"applied": [asdict(change) for change in done.changes], "after": _document(done.after)})
    return DONE if done.after.is_clean else FINDINGS


def drift(json_: AsJson = False) -> int:
    """Show what is not as configured. Changes nothing; ends with exit code 1 if there is anything.

    Example: photo-pipeline provision drift --json
    """
    terminal = Terminal(as_json=json_)
    with _world() as world:
        made = make_plan(world)
    _say(terminal, made)
    terminal.result(_document(made))
    return DONE if made.is_clean else FINDINGS


def policies(
    role: Annotated[
        str | None, typer.Option("--role", help=f"One of {', '.join(roles.ROLES)}; left out: all.")
    ] = None,
    json_: AsJson = False,
) -> int:
    """Print IAM policies with the least privileges for each role, as JSON. Asks nobody.

    Example: photo-pipeline provision policies --role migrator > migrator.json
    """
    if role is not None and role not in roles.ROLES:
        raise ConfigurationError(
            "--role", cause=f"there is no role {role!r}", fix=f"take one of {', '.join(roles.ROLES)}"
        )
    config = open_config()
    documents = {each: roles.policy(config, each) for each in roles.ROLES if role in (None, each)}
    # JSON is what AWS takes, so that is also what people get.
    json.dump(documents if role is None else documents[role], sys.stdout, indent=2)
    sys.stdout.write("\n")
    return DONE


@contextmanager
def _world() -> Iterator[World]:
    config = open_config()
    with closing(LenientMeter(lambda: open_database(config))) as meter:
        yield World(config, Aws(config.store, meter=meter))


def _say(terminal: Terminal, made: Plan) -> None:
    for line in plan_lines(made):
        terminal.say(line)


def _ask(terminal: Terminal) -> None:
    """Ask whether to go on.

    Raises:
        GuardRefusedError: nobody is there to answer, or the answer is not yes.
    """
    answer = ""
    if sys.stdin.isatty() and not terminal.as_json:
        answer = typer.prompt("Make these changes? Only 'yes' is taken", default="no")
    if answer != "yes":
        raise GuardRefusedError(
            "provision apply",
            cause="the plan was not agreed to; nothing was changed",
            fix="answer yes, or give --yes or --plan with the plan's digest",
        )


def _say_what_is_next(terminal: Terminal, world: World, after: Plan) -> None:
    domain, name = after.outputs.get("distribution.domain"), after.outputs.get("distribution.id")
    own = world.config.provision.cdn.domain if "certificate.arn" in after.outputs else None
    base_url = f"https://{own or domain}"
    if domain and (world.config.cdn.base_url != base_url or world.config.cdn.distribution_id != name):
        terminal.say(
            f"Now set this in the configuration: cdn: {{base_url: {base_url}, distribution_id: {name}}}"
        )


def _document(made: Plan) -> dict[str, Any]:
    return {"digest": made.digest, "clean": made.is_clean} | asdict(made)


PROVISION = CommandGroup(
    "provision",
    "Set up bucket, CDN, alarms and budget as configured, and see what was changed since.\n\n"
    "Example: photo-pipeline provision plan",
    (plan, apply, drift, policies),
)
