"""Least-privilege IAM policies, one a role: each permission is here because a call in the code needs it.

| role | is for |
| --- | --- |
| migrator | everything but clean-up: migrate, validate, repoint, rollback, rebuild, invalidations |
| uploader | the web application and the direct uploads: stores new objects, deletes temporary ones only |
| cleaner | orphan clean-up and deletion, and their undo |
| reader | status, validation, reports, doctor: reads, and changes nothing |
| provisioner | `provision plan`, `apply` and `drift` |

None of them but the provisioner may change the bucket's own settings, and nobody may delete the bucket.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.provisioning.bucket import LOGS

Role = Literal["migrator", "uploader", "cleaner", "reader", "provisioner"]
ROLES: tuple[Role, ...] = get_args(Role)

_Statement = dict[str, Any]


def policy(config: PipelineConfig, role: Role, *, distribution_arn: str | None = None) -> dict[str, Any]:
    """Return the IAM policy document of a role.

    Args:
        config: Names the bucket and its prefixes.
        role: Who is to have it.
        distribution_arn: The CDN's; without it the policy allows invalidations on that account's every
            distribution, or on that of `cdn.distribution_id`.
    """
    arn = distribution_arn or f"arn:aws:cloudfront::*:distribution/{config.cdn.distribution_id or '*'}"
    statements = _STATEMENTS[role](_Names(config, arn))
    return {"Version": "2012-10-17", "Statement": [*statements, *_optional(config, role)]}


class _Names:
    """The ARNs of what policies name."""

    def __init__(self, config: PipelineConfig, distribution: str) -> None:
        store = config.store
        self.bucket = f"arn:aws:s3:::{store.bucket}"
        self.logs = f"arn:aws:s3:::{LOGS.of(store.bucket)}"
        self.distribution = distribution
        self.served = self.below(store.prefix)
        # What the store probe and the doctor store, and take away again.
        self.probes = [
            self.below(f"{prefix}/{folder}")
            for prefix in (store.prefix, store.originals_prefix)
            for folder in (".probe", ".doctor")
        ]
        self.originals = self.below(store.originals_prefix)
        self.backups = self.below(store.backups_prefix)
        self.incoming = self.below(config.provision.lifecycle.incoming_prefix)

    def below(self, prefix: str) -> str:
        """Return the objects below a key prefix."""
        return f"{self.bucket}/{prefix}/*"


def _allow(sid: str, actions: Iterable[str], *resources: str) -> _Statement:
    return {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": list(resources)}


def _bucket(names: _Names, *more: str) -> _Statement:
    """Return what every role needs of the bucket itself.

    HeadBucket (when the store is opened) and every listing need s3:ListBucket. It has no condition on the
    prefix: HeadBucket sends none, and without the permission S3 answers 403 for a key that does not exist,
    which the code could not tell from a forbidden one.
    """
    return _allow("Bucket", ("s3:ListBucket", *more), names.bucket)


# PutObject also begins, fills and completes uploads in parts; one that failed is let go of.
_STORE = ("s3:PutObject", "s3:AbortMultipartUpload")
# HeadObject needs GetObject too.
_READ = ("s3:GetObject",)
# What AWS has counted, beside our own ledger; CloudWatch knows no resources.
_METRICS = ("cloudwatch:GetMetricStatistics", "cloudwatch:ListMetrics")
_WATCHING = ("migrator", "reader")
_INVALIDATE = ("cloudfront:CreateInvalidation", "cloudfront:GetInvalidation")


def _migrator(names: _Names) -> list[_Statement]:
    return [
        # The doctor looks at both settings.
        _bucket(names, "s3:GetBucketVersioning", "s3:GetBucketPublicAccessBlock"),
        # Variants and originals; the backups of rows and the copies of the catalog.
        _allow("Objects", (*_READ, *_STORE), names.served, names.originals, names.backups),
        # Of the versions that test objects leave behind, too.
        _allow("Probes", ("s3:DeleteObject", "s3:DeleteObjectVersion"), *names.probes),
        _allow("Cdn", ("cloudfront:GetDistribution", *_INVALIDATE), names.distribution),
        _allow("Metrics", _METRICS, "*"),
    ]


def _uploader(names: _Names) -> list[_Statement]:
    return [
        _bucket(names),
        _allow("Objects", (*_READ, *_STORE), names.served, names.originals, names.incoming),
        _allow("TemporaryObjects", ("s3:DeleteObject",), names.incoming, *names.probes),
    ]


def _cleaner(names: _Names) -> list[_Statement]:
    photos = (names.served, names.originals)
    return [
        # Versioning is asked before a deletion: without it nothing could be undone.
        _bucket(names, "s3:ListBucketVersions", "s3:GetBucketVersioning"),
        # Each object is looked at once more before it is deleted.
        _allow("Read", _READ, *photos, names.backups),
        # The store probe: whether deletions here are conditional.
        _allow("Probes", ("s3:PutObject",), *names.probes),
        # A deletion sets a delete marker. To undo it, that marker, which is a version, is deleted.
        _allow("Delete", ("s3:DeleteObject", "s3:DeleteObjectVersion"), *photos),
        # A deleted photo is to leave the CDN too.
        _allow("Cdn", _INVALIDATE, names.distribution),
    ]


def _reader(names: _Names) -> list[_Statement]:
    return [
        _bucket(names, "s3:GetBucketVersioning", "s3:GetBucketPublicAccessBlock"),
        _allow("Read", _READ, names.served, names.originals, names.backups),
        _allow("Cdn", ("cloudfront:GetDistribution", "cloudfront:GetInvalidation"), names.distribution),
        _allow("Metrics", _METRICS, "*"),
    ]


_BUCKET_SETTINGS = (
    *("BucketTagging", "BucketPublicAccessBlock", "BucketOwnershipControls", "EncryptionConfiguration"),
    *("BucketVersioning", "LifecycleConfiguration", "BucketCORS", "ReplicationConfiguration"),
    *("BucketLogging", "BucketPolicy"),
)


def _provisioner(names: _Names) -> list[_Statement]:
    settings = [f"s3:{verb}{setting}" for setting in _BUCKET_SETTINGS for verb in ("Get", "Put")]
    return [
        _allow(
            "Buckets",
            ("s3:CreateBucket", "s3:ListBucket", "s3:DeleteBucketPolicy", *settings),
            names.bucket,
            names.logs,
        ),
        # These have no names before they exist, or AWS lets nobody name them.
        _allow("Cdn", (f"cloudfront:{action}" for action in _CLOUDFRONT), "*"),
        _allow("RoutingFunction", (f"cloudfront:{action}Function" for action in _FUNCTION), "*"),
        _allow("Certificates", (f"acm:{action}" for action in _ACM), "*"),
        _allow("Alerts", (*_SNS, *_CLOUDWATCH), "*"),
        _allow("Budget", ("budgets:ViewBudget", "budgets:ModifyBudget", "budgets:TagResource"), "*"),
    ]


_CLOUDFRONT = (
    *("ListOriginAccessControls", "GetOriginAccessControl"),
    *("CreateOriginAccessControl", "UpdateOriginAccessControl"),
    *("ListCachePolicies", "GetCachePolicy", "CreateCachePolicy", "UpdateCachePolicy"),
    *("ListResponseHeadersPolicies", "GetResponseHeadersPolicy"),
    *("CreateResponseHeadersPolicy", "UpdateResponseHeadersPolicy"),
    *("ListDistributions", "GetDistribution", "GetDistributionConfig", "ListTagsForResource"),
    *("CreateDistribution", "UpdateDistribution", "TagResource"),
    *("GetMonitoringSubscription", "CreateMonitoringSubscription"),
)
_FUNCTION = ("Create", "Describe", "Get", "Update", "Test", "Publish")
_ACM = (
    *("ListCertificates", "ListTagsForCertificate", "DescribeCertificate"),
    *("RequestCertificate", "AddTagsToCertificate"),
)
_SNS = (
    *("sns:ListTagsForResource", "sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic"),
    *("sns:CreateTopic", "sns:TagResource", "sns:SetTopicAttributes", "sns:Subscribe"),
)
_CLOUDWATCH = (
    *("cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource"),
    *("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", "cloudwatch:DeleteAlarms"),
)

_STATEMENTS: Mapping[Role, Callable[[_Names], list[_Statement]]] = {
    "migrator": _migrator,
    "uploader": _uploader,
    "cleaner": _cleaner,
    "reader": _reader,
    "provisioner": _provisioner,
}


def _optional(config: PipelineConfig, role: Role) -> list[_Statement]:
    """Return what telling by SNS, a KMS key of one's own and replication take."""
    topic = config.alerts.sns
    # Who may run the sensors, and who only looks: both raise alerts. The topic is named in the file.
    tells = [_allow("Alerts", ("sns:Publish",), topic.topic_arn)] if topic and role in _WATCHING else []
    return [*tells, *_with_keys(config, role)]


def _with_keys(config: PipelineConfig, role: Role) -> list[_Statement]:
    """Return what a KMS key and replication take: S3 uses the key in the name of whoever reads or stores."""
    key = config.provision.kms_key
    replication = config.provision.replication
    if role == "provisioner":
        # Whoever sets up replication hands S3 the role by which it copies.
        return [_allow("ReplicationRole", ("iam:PassRole",), replication.role_arn)] if replication else []
    if key is None:
        return []
    stores = role in ("migrator", "uploader")
    return [_allow("Key", ("kms:Decrypt", *(("kms:GenerateDataKey",) if stores else ())), key)]
