"""The job `provision_storage`: what the CLI's `provision` does, from the UI."""

from contextlib import closing
from typing import Literal

import dagster as dg
from pydantic import Field

from photo_pipeline.assets.running import explained_failures
from photo_pipeline.core.cost.lenient import LenientMeter
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.project import open_database
from photo_pipeline.core.provisioning.aws import Aws
from photo_pipeline.core.provisioning.plan import Plan, apply_plan, make_plan, require_digest
from photo_pipeline.core.provisioning.presentation import plan_lines
from photo_pipeline.core.provisioning.resource import World
from photo_pipeline.resources.settings import PipelineSettings


class ProvisionConfig(dg.Config):
    """What is done. What is set up, the configuration file says, under `provision`."""

    action: Literal["plan", "apply", "drift"] = Field(
        default="plan",
        description="plan: show what would be changed; apply: change it; drift: fail if anything differs.",
    )
    plan_digest: str = Field(
        default="", description="For apply: the digest that a plan showed; only that plan is applied."
    )
    confirm: bool = Field(
        default=False, description="For apply: apply whatever the plan is, without a digest."
    )


@dg.op
def provision(context: dg.OpExecutionContext, config: ProvisionConfig, settings: PipelineSettings) -> None:
    """Compare bucket, CDN, alarms and budget with the configuration; change them if asked to."""
    with explained_failures(context):
        loaded = settings.load_before_delivery()
        with closing(LenientMeter(lambda: open_database(loaded))) as meter:
            world = World(loaded, Aws(loaded.store, meter=meter))
            plan = make_plan(world)
            _log(context, plan)
            if config.action == "apply":
                _require_consent(plan, config)
                done = apply_plan(
                    world, plan, changed=lambda change: context.log.info(f"done: {change.resource}")
                )
                plan = done.after
                _log(context, plan)
    context.add_output_metadata(_facts(plan))
    if config.action != "plan" and not plan.is_clean:
        found = [*plan.warnings, *(change.resource for change in plan.changes)]
        raise dg.Failure(
            description=f"{len(found)} things are not as configured: {found[0]}",
            metadata=_facts(plan),
            allow_retries=False,
        )


def _require_consent(plan: Plan, config: ProvisionConfig) -> None:
    if config.plan_digest:
        require_digest(plan, config.plan_digest)
    elif plan.changes and not config.confirm:
        raise GuardRefusedError(
            f"plan {plan.digest}",
            cause="nobody has agreed to it; nothing was changed",
            fix=f"launch again with plan_digest: {plan.digest}, or with confirm: true",
        )


def _log(context: dg.OpExecutionContext, plan: Plan) -> None:
    context.log.info("\n".join(plan_lines(plan)))


def _facts(plan: Plan) -> dict[str, dg.MetadataValue]:
    text = "\n".join(plan_lines(plan))
    return {
        "plan_digest": dg.MetadataValue.text(plan.digest),
        "changes": dg.MetadataValue.int(len(plan.changes)),
        "warnings": dg.MetadataValue.int(len(plan.warnings)),
        "plan": dg.MetadataValue.md(f"```\n{text}\n```"),
    }


@dg.job(description="Shows, makes or checks what is set up on AWS: bucket, CDN, alarms, budget.")
def provision_storage() -> None:
    """Set up, or look for what was changed since."""
    provision()
