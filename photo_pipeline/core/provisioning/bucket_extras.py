"""A bucket's lists and links: CORS rules for uploads from browsers, access logs, replication."""

from dataclasses import dataclass

from photo_pipeline.core.provisioning.aws import found
from photo_pipeline.core.provisioning.bucket import LOGS
from photo_pipeline.core.provisioning.difference import Document
from photo_pipeline.core.provisioning.resource import (
    RULE_PREFIX,
    Reading,
    World,
    by_id,
    wanted_items,
    with_items,
)


@dataclass(frozen=True)
class Cors:
    """The rule that lets the application's pages upload to the bucket; rules of others stay."""

    name: str = "bucket.cors"

    def read(self, world: World) -> Reading:
        """Return our rule, if there is one."""
        answer = found(lambda: world.aws.s3.get_bucket_cors(Bucket=world.bucket), "NoSuchCORSConfiguration")
        rules = answer["CORSRules"] if answer else []
        return Reading(by_id(rules, "ID") or None, raw=rules)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return our rule, where pages may upload at all."""
        origins = world.config.provision.upload_origins
        rule: Document = {
            "ID": f"{RULE_PREFIX}uploads",
            "AllowedOrigins": list(origins),
            "AllowedMethods": ["POST", "PUT"],
            "AllowedHeaders": ["*"],
            # What a page needs to see to complete an upload in parts and to prove it.
            "ExposeHeaders": ["ETag", "x-amz-checksum-sha256"],
            "MaxAgeSeconds": 3600,
        }
        return wanted_items(reading.actual, {rule["ID"]: rule} if origins else {})

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Set our rule beside those of others."""
        rules = with_items(reading.raw, desired, "ID")
        if rules:
            world.aws.s3.put_bucket_cors(Bucket=world.bucket, CORSConfiguration={"CORSRules": rules})
        else:
            world.aws.s3.delete_bucket_cors(Bucket=world.bucket)


@dataclass(frozen=True)
class AccessLogs:
    """Where S3 writes who asked the bucket for what."""

    name: str = "bucket.access_logs"

    def read(self, world: World) -> Reading:
        """Return the target, as bucket and key prefix."""
        answer = found(lambda: world.aws.s3.get_bucket_logging(Bucket=world.bucket))
        enabled = answer.get("LoggingEnabled") if answer else None
        if not enabled:
            return Reading(None, raw={})
        return Reading({"Target": f"{enabled['TargetBucket']}/{enabled['TargetPrefix']}"}, raw=enabled)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return the target."""
        return {"Target": "/".join(_log_target(world))}

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Set the target."""
        bucket, prefix = _log_target(world)
        enabled = {**reading.raw, "TargetBucket": bucket, "TargetPrefix": prefix}
        world.aws.s3.put_bucket_logging(Bucket=world.bucket, BucketLoggingStatus={"LoggingEnabled": enabled})


def _log_target(world: World) -> tuple[str, str]:
    settings = world.config.provision.access_logs
    return settings.bucket or LOGS.name(world), settings.prefix


@dataclass(frozen=True)
class Replication:
    """The rule that copies every new object elsewhere. Deletions are not copied: a mistake stops here."""

    name: str = "bucket.replication"

    def read(self, world: World) -> Reading:
        """Return our rule and the role, if there are any."""
        answer = found(
            lambda: world.aws.s3.get_bucket_replication(Bucket=world.bucket),
            "ReplicationConfigurationNotFoundError",
        )
        configuration = answer["ReplicationConfiguration"] if answer else {"Rules": []}
        return Reading(by_id(configuration["Rules"], "ID") or None, raw=configuration)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return our rule, where there is to be a copy."""
        settings = world.config.provision.replication
        if settings is None:
            return wanted_items(reading.actual, {})
        rule: Document = {
            "ID": f"{RULE_PREFIX}replica",
            # Priorities must differ; one that another rule has is taken by somebody.
            "Priority": _free_priority(reading.raw["Rules"]),
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "DeleteMarkerReplication": {"Status": "Disabled"},
            "Destination": {
                "Bucket": f"arn:aws:s3:::{settings.bucket}",
                "StorageClass": settings.storage_class,
            },
        }
        return wanted_items(reading.actual, {rule["ID"]: rule})

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Set our rule beside those of others, whose role stays."""
        settings = world.config.provision.replication
        rules = with_items(reading.raw["Rules"], desired, "ID")
        if not rules:
            world.aws.s3.delete_bucket_replication(Bucket=world.bucket)
            return
        role = settings.role_arn if settings else ""
        configuration = {"Role": reading.raw.get("Role") or role, "Rules": rules}
        world.aws.s3.put_bucket_replication(Bucket=world.bucket, ReplicationConfiguration=configuration)


def _free_priority(rules: list[Document]) -> int:
    ours = next((rule for rule in rules if str(rule.get("ID", "")).startswith(RULE_PREFIX)), None)
    if ours is not None and ours.get("Priority") is not None:
        return int(ours["Priority"])
    return max((int(rule.get("Priority") or 0) for rule in rules), default=0) + 1
