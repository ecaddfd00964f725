"""Buckets that others set up at random and somebody broke at random: all is found, and nothing else."""

import json
import random
from typing import Any

import pytest

from photo_pipeline.core.provisioning.plan import apply_plan, make_plan
from photo_pipeline.core.provisioning.resource import World
from photo_pipeline_tests.core.provisioning.breaks import ON_THE_BUCKET, Break
from photo_pipeline_tests.core.provisioning.worlds import EVERYTHING, found, make_world
from photo_pipeline_tests.pretend_aws import PretendAws

BUCKET_ALONE = {
    "access_logs": {"enabled": False},
    "cdn": {"enabled": False},
    "alerts": {"enabled": False},
}
# Of the bucket alone; the break of the tags would take those of others away.
ELSEWHERE = ("logs_bucket", "bucket.access_logs", "bucket.tags")
BREAKS = [
    each for each in ON_THE_BUCKET if not each.resource.startswith(ELSEWHERE) and "Cdn" not in each.path
]
# One key below each prefix that a rule may name, and must not delete.
KEPT = ("photos/ab/1.jpg", "photos/x/1.jpg", "originals/ab.jpg", "originals-backups/b.parquet")
PREFIXES = ("exports/", "tmp/", "photo", "photos/x", "photos-old/", "originals", "originals/", "")


def foreign_rules(chance: random.Random) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    for number in range(chance.randrange(4)):
        rule: dict[str, Any] = {
            "ID": f"theirs-{number}",
            "Status": chance.choice(["Enabled", "Disabled"]),
            "Filter": {"Prefix": chance.choice(PREFIXES)},
        }
        if chance.random() < 0.6:
            rule["Expiration"] = {"Days": chance.randrange(1, 400)}
        else:
            rule["Transitions"] = [{"Days": 30, "StorageClass": "STANDARD_IA"}]
        rules.append(rule)
    return rules


def deletes_photos(rule: dict[str, Any]) -> bool:
    prefix = rule["Filter"]["Prefix"]
    return (
        rule["Status"] == "Enabled" and "Expiration" in rule and any(key.startswith(prefix) for key in KEPT)
    )


def foreign_statements(chance: random.Random, bucket: str) -> list[dict[str, Any]]:
    return [
        {
            "Sid": f"Theirs{number}",
            "Effect": chance.choice(["Allow", "Deny"]),
            "Principal": {"AWS": "arn:aws:iam::999999999999:root"},
            "Action": chance.choice(["s3:GetObject", ["s3:GetObject", "s3:PutObject"]]),
            "Resource": f"arn:aws:s3:::{bucket}/exports/*",
        }
        for number in range(chance.randrange(3))
    ]


def foreign_cors(chance: random.Random) -> list[dict[str, Any]]:
    return [
        {"ID": f"theirs-{number}", "AllowedOrigins": ["https://x.example"], "AllowedMethods": ["GET"]}
        for number in range(chance.randrange(3))
    ]


def theirs(world: World) -> tuple[Any, ...]:
    """What others have set up in the bucket, as it is now."""
    s3, bucket = world.aws.s3, world.bucket
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    statements = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    cors = s3.get_bucket_cors(Bucket=bucket)["CORSRules"]
    tags = s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    return (
        [each for each in rules if each["ID"].startswith("theirs")],
        [each for each in statements if each["Sid"].startswith("Theirs")],
        [each for each in cors if each["ID"].startswith("theirs")],
        [each for each in tags if each["Key"].startswith("theirs")],
    )


def set_up_by_others(world: World, chance: random.Random) -> list[dict[str, Any]]:
    """Create the bucket and things in it; return the lifecycle rules."""
    s3, bucket = world.aws.s3, world.bucket
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    rules, statements, cors = foreign_rules(chance), foreign_statements(chance, bucket), foreign_cors(chance)
    if rules:
        s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    if statements:
        policy = {"Version": "2012-10-17", "Statement": statements}
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    if cors:
        s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": cors})
    if chance.random() < 0.5:
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "theirs", "Value": "1"}]})
    return rules


def chosen_breaks(chance: random.Random) -> list[Break]:
    """Return some breaks, in their own order."""
    return [each for each in BREAKS if chance.random() < 0.3]


def assert_all_is_found_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    world = make_world(f"random-{seed}", provision=EVERYTHING | BUCKET_ALONE)
    dangerous = {rule["ID"] for rule in set_up_by_others(world, chance) if deletes_photos(rule)}
    clean = apply_plan(world, make_plan(world)).after
    assert clean.changes == ()
    assert {warning.split("'")[1] for warning in clean.warnings} == dangerous
    before, broken = theirs(world), chosen_breaks(chance)
    for each in broken:
        each.act(world)
    plan = make_plan(world)
    assert sorted(found(plan)) == sorted((each.resource, each.path) for each in broken)
    assert apply_plan(world, plan).after.changes == ()
    assert theirs(world) == before


@pytest.mark.parametrize("seed", range(4))
def test_planted_faults_are_found_and_nothing_of_others_is_touched(
    pretend_aws: PretendAws, seed: int
) -> None:
    assert_all_is_found_and_nothing_else(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_planted_faults_are_found_in_a_hundred_more_buckets(pretend_aws: PretendAws, seed: int) -> None:
    assert_all_is_found_and_nothing_else(seed)
