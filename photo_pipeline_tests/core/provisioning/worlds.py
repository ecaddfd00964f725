"""Configurations whose AWS is the pretend one."""

import os
from functools import cache
from typing import Any

import boto3

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.provisioning.aws import Aws
from photo_pipeline.core.provisioning.plan import Applied, Plan, apply_plan, make_plan
from photo_pipeline.core.provisioning.resource import World

EVERYTHING: dict[str, Any] = {
    "tags": {"team": "shop"},
    "upload_origins": ["https://shop.example"],
    "replication": {"bucket": "elsewhere", "role_arn": "arn:aws:iam::123456789012:role/copy"},
    "cdn": {"countries": {"deny": ["KP", "SY"]}},
    "alerts": {"emails": ["ops@shop.example"], "monthly_usd": 20},
}
"""Every resource type in use, but for those that need a domain."""


def document(bucket: str, **parts: Any) -> dict[str, Any]:
    """Return a whole configuration for that bucket; `parts` replaces top-level keys."""
    field = {"kind": "url", "column": "url", "root": "uploads", "role": "primary", "variant": "full"}
    source = {
        "name": "photos",
        "table": "photos",
        "key": ["id"],
        "fields": [field],
        "rewrite": {"mode": "url", "format": "jpeg"},
    }
    return {
        "version": 1,
        "database": {"env": "SHOP_DATABASE_URL"},
        "roots": [{"name": "uploads", "dir": "./uploads", "url_prefixes": ["/uploads/"]}],
        "sources": [source],
        "store": {"bucket": bucket, "region": "eu-central-1"},
    } | parts


def make_world(bucket: str, **parts: Any) -> World:
    """Return the world of a configuration; credentials and endpoint are the environment's."""
    config = PipelineConfig.model_validate(document(bucket, **parts))
    return World(config, Aws(config.store, session=_session(os.environ.get("AWS_ACCESS_KEY_ID"))))


@cache
def _session(_: str | None) -> boto3.Session:
    """Return one session for all worlds of the same credentials: reading AWS's models takes half a second."""
    return boto3.Session()


def applied(world: World) -> Applied:
    """Plan and apply."""
    return apply_plan(world, make_plan(world))


def found(plan: Plan) -> list[tuple[str, str]]:
    """Return (resource, path) of each difference."""
    return [(change.resource, each.path) for change in plan.changes for each in change.differences]
