"""Bucket policies: statements of ours, known by their Sid; statements of others stay as they are."""

import json
from dataclasses import dataclass

from photo_pipeline.core.provisioning.aws import found
from photo_pipeline.core.provisioning.bucket import LOGS, MAIN, BucketKind
from photo_pipeline.core.provisioning.difference import Document
from photo_pipeline.core.provisioning.resource import Reading, World, wanted_items, with_items

_SID = "PhotoPipeline"


@dataclass(frozen=True)
class BucketPolicy:
    """Who may do what in a bucket, beside what IAM allows."""

    kind: BucketKind

    @property
    def name(self) -> str:
        """What plans call it."""
        return f"{self.kind.label}.policy"

    def read(self, world: World) -> Reading:
        """Return our statements by Sid; the raw reading is the whole policy."""
        name = self.kind.name(world)
        answer = found(lambda: world.aws.s3.get_bucket_policy(Bucket=name), "NoSuchBucketPolicy")
        if answer is None:
            return Reading(None, raw={"Version": "2012-10-17", "Statement": []})
        policy = json.loads(answer["Policy"])
        if isinstance(policy["Statement"], dict):
            policy["Statement"] = [policy["Statement"]]
        ours = {each["Sid"]: _plain(each) for each in policy["Statement"] if _is_ours(each)}
        return Reading(ours or None, raw=policy)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return our statements by Sid."""
        statements = _log_statements(world) if self.kind is LOGS else _photo_statements(world)
        return wanted_items(reading.actual, {each["Sid"]: each for each in statements})

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Set our statements behind those of others."""
        statements = with_items(reading.raw["Statement"], desired, "Sid")
        if not statements:
            world.aws.s3.delete_bucket_policy(Bucket=self.kind.name(world))
            return
        policy = {**reading.raw, "Statement": statements}
        world.aws.s3.put_bucket_policy(Bucket=self.kind.name(world), Policy=json.dumps(policy))


def _is_ours(statement: Document) -> bool:
    return str(statement.get("Sid", "")).startswith(_SID)


def _plain(statement: Document) -> Document:
    """Return the statement with the one of AWS's two spellings of everybody that ours have."""
    everybody = statement.get("Principal") == "*"
    return {**statement, "Principal": {"AWS": "*"}} if everybody else statement


def _photo_statements(world: World) -> list[Document]:
    if not world.aws.is_amazon:
        return []  # A server of one's own may speak plain HTTP, and knows no CloudFront.
    cdn = _cdn_statements(world) if world.config.provision.cdn.enabled else []
    return [_tls_only(MAIN.name(world)), *cdn]


def _cdn_statements(world: World) -> list[Document]:
    """Only that distribution, only what is served; and no distribution at all where the originals are."""
    bucket, store = f"arn:aws:s3:::{world.bucket}", world.config.store
    cdn = {"Service": "cloudfront.amazonaws.com"}
    private = (f"{store.originals_prefix}/*", f"{store.backups_prefix}/*")
    return [
        {
            "Sid": f"{_SID}CdnReads",
            "Effect": "Allow",
            "Principal": cdn,
            "Action": "s3:GetObject",
            "Resource": f"{bucket}/{store.prefix}/*",
            "Condition": {"StringEquals": {"AWS:SourceArn": world.known("distribution.arn")}},
        },
        {
            "Sid": f"{_SID}CdnNeverReadsOriginals",
            "Effect": "Deny",
            "Principal": cdn,
            "Action": "s3:*",
            "Resource": [f"{bucket}/{prefix}" for prefix in private],
        },
    ]


def _tls_only(bucket: str) -> Document:
    return {
        "Sid": f"{_SID}TlsOnly",
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def _log_statements(world: World) -> list[Document]:
    bucket, settings = LOGS.name(world), world.config.provision.access_logs
    return [
        _tls_only(bucket),
        {
            "Sid": f"{_SID}AccessLogs",
            "Effect": "Allow",
            "Principal": {"Service": "logging.s3.amazonaws.com"},
            "Action": "s3:PutObject",
            "Resource": f"arn:aws:s3:::{bucket}/{settings.prefix}*",
            "Condition": {
                "ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{world.bucket}"},
                "StringEquals": {"aws:SourceAccount": world.aws.account},
            },
        },
    ]
