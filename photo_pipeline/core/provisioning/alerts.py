"""Who is told: the SNS topic, who may publish to it, and who reads it."""

import json
from dataclasses import dataclass

from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.provisioning.aws import GLOBAL_REGION, found
from photo_pipeline.core.provisioning.difference import Document
from photo_pipeline.core.provisioning.resource import (
    Reading,
    World,
    is_ours,
    tag_map,
    wanted_items,
    with_items,
)

_SID = "PhotoPipeline"
_MISSING = ("NotFound", "NotFoundException", "ResourceNotFound", "ResourceNotFoundException")


@dataclass(frozen=True)
class Topic:
    """The topic that alarms and budget publish to, in us-east-1, where CloudFront reports."""

    name: str = "alerts.topic"

    def read(self, world: World) -> Reading:
        """Return whether it is there."""
        arn = f"arn:aws:sns:{GLOBAL_REGION}:{world.aws.account}:{world.name}"
        answer = found(lambda: world.aws.sns.list_tags_for_resource(ResourceArn=arn), *_MISSING)
        if answer is None:
            return Reading(None)
        tags = tag_map(answer["Tags"])
        if not is_ours(tags):
            raise GuardRefusedError(
                f"SNS topic {world.name!r}",
                cause="it was not created by photo_pipeline (it lacks the tag managed-by)",
                fix="rename it, or tag it managed-by=photo_pipeline to have it managed",
            )
        return Reading({"Name": world.name, "Tags": tags}, outputs={"topic.arn": arn})

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return its name and tags."""
        return {"Name": world.name, "Tags": world.tags}

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Create it, or set our tags beside the others."""
        if reading.actual is None:
            world.aws.sns.create_topic(Name=world.name, Tags=world.tag_list)
            return
        world.aws.sns.tag_resource(ResourceArn=reading.outputs["topic.arn"], Tags=world.tag_list)


@dataclass(frozen=True)
class TopicPolicy:
    """That the budget may publish, which the topic's first policy does not allow; other statements stay."""

    name: str = "alerts.topic_policy"

    def read(self, world: World) -> Reading:
        """Return our statement."""
        arn = world.outputs.get("topic.arn")
        if arn is None:
            return Reading(None)
        policy = json.loads(world.aws.sns.get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"])
        ours = {each["Sid"]: each for each in policy["Statement"] if each.get("Sid", "").startswith(_SID)}
        return Reading(ours or None, raw=policy)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return our statement."""
        account = {"StringEquals": {"aws:SourceAccount": world.aws.account}}
        statements: list[Document] = [
            {
                "Sid": f"{_SID}{name}",
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": "sns:Publish",
                "Resource": world.known("topic.arn"),
                "Condition": account,
            }
            for name, service in (
                ("Alarms", "cloudwatch.amazonaws.com"),
                ("Budget", "budgets.amazonaws.com"),
            )
        ]
        return wanted_items(reading.actual, {each["Sid"]: each for each in statements})

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Set our statement behind those of others."""
        policy = reading.raw
        statements = with_items(policy["Statement"], desired, "Sid")
        world.aws.sns.set_topic_attributes(
            TopicArn=world.known("topic.arn"),
            AttributeName="Policy",
            AttributeValue=json.dumps({**policy, "Statement": statements}),
        )


@dataclass(frozen=True)
class Subscriptions:
    """The mail addresses that are told. Others that subscribed stay."""

    name: str = "alerts.subscriptions"

    def read(self, world: World) -> Reading:
        """Return the addresses."""
        arn = world.outputs.get("topic.arn")
        if arn is None:
            return Reading(None)
        pages = world.aws.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
        items = [each for page in pages for each in page["Subscriptions"] if each["Protocol"] == "email"]
        notes = tuple(
            f"{each['Endpoint']} has not confirmed AWS's mail yet, and is told nothing until then"
            for each in items
            if each["SubscriptionArn"] == "PendingConfirmation"
        )
        return Reading({str(each["Endpoint"]): "email" for each in items} or None, notes=notes)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return the configured addresses."""
        return dict.fromkeys(world.config.provision.alerts.emails, "email")

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Subscribe those that are not."""
        for address in desired:
            if address not in (reading.actual or {}):
                world.aws.sns.subscribe(TopicArn=world.known("topic.arn"), Protocol="email", Endpoint=address)
