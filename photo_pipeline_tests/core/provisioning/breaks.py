"""Every way in which somebody may change by hand what was provisioned, and the one difference it must be."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from photo_pipeline.core.provisioning.resource import World
from photo_pipeline_tests.pretend_aws import ACCOUNT


@dataclass(frozen=True)
class Break:
    """What is done, and where the drift must be found."""

    resource: str
    path: str
    act: Callable[[World], object]

    def __str__(self) -> str:
        return f"{self.resource}/{self.path}"


def _lifecycle(
    change: Callable[[list[dict[str, Any]]], object], suffix: str = ""
) -> Callable[[World], object]:
    def act(world: World) -> object:
        bucket, s3 = world.bucket + suffix, world.aws.s3
        rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        change(rules)
        return s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})

    return act


def _rule(rules: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(rule for rule in rules if rule["ID"] == f"photo-pipeline-{name}")


def _policy(change: Callable[[list[dict[str, Any]]], object], suffix: str = "") -> Callable[[World], object]:
    def act(world: World) -> object:
        bucket, s3 = world.bucket + suffix, world.aws.s3
        policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
        change(policy["Statement"])
        return s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    return act


def _statement(statements: list[dict[str, Any]], sid: str) -> dict[str, Any]:
    return next(each for each in statements if each.get("Sid") == sid)


def _cors(change: Callable[[dict[str, Any]], object]) -> Callable[[World], object]:
    def act(world: World) -> object:
        rules = world.aws.s3.get_bucket_cors(Bucket=world.bucket)["CORSRules"]
        change(_rule(rules, "uploads"))
        return world.aws.s3.put_bucket_cors(Bucket=world.bucket, CORSConfiguration={"CORSRules": rules})

    return act


def distribution(change: Callable[[dict[str, Any]], object]) -> Callable[[World], object]:
    """Return an act that changes the distribution's configuration as it is."""

    def act(world: World) -> object:
        name = world.outputs["distribution.id"]
        answer = world.aws.cloudfront.get_distribution_config(Id=name)
        change(answer["DistributionConfig"])
        return world.aws.cloudfront.update_distribution(
            Id=name, IfMatch=answer["ETag"], DistributionConfig=answer["DistributionConfig"]
        )

    return act


def _alarm(name: str, **changes: Any) -> Callable[[World], object]:
    def act(world: World) -> object:
        full = f"{world.name}-{name}"
        (alarm,) = world.aws.cloudwatch.describe_alarms(AlarmNames=[full])["MetricAlarms"]
        known = world.aws.cloudwatch.meta.service_model.operation_model("PutMetricAlarm").input_shape.members
        kept = {key: value for key, value in alarm.items() if key in known and value not in (None, [])}
        return world.aws.cloudwatch.put_metric_alarm(**{**kept, **changes}, Tags=world.tag_list)

    return act


def _public_access(switch: str) -> Break:
    def act(world: World) -> object:
        s3, bucket = world.aws.s3, world.bucket
        present = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        return s3.put_public_access_block(
            Bucket=bucket, PublicAccessBlockConfiguration=present | {switch: False}
        )

    return Break("bucket.public_access", switch, act)


def _policy_of(kind: str, path: str, change: Callable[[dict[str, Any]], object]) -> Break:
    """Return a change of one of CloudFront's policies."""

    def act(world: World) -> object:
        cloudfront = world.aws.cloudfront
        name = world.outputs[f"{kind}.id"]
        if kind == "cache_policy":
            answer = cloudfront.get_cache_policy(Id=name)
            config = answer["CachePolicy"]["CachePolicyConfig"]
            change(config)
            return cloudfront.update_cache_policy(Id=name, IfMatch=answer["ETag"], CachePolicyConfig=config)
        answer = cloudfront.get_response_headers_policy(Id=name)
        config = answer["ResponseHeadersPolicy"]["ResponseHeadersPolicyConfig"]
        change(config)
        return cloudfront.update_response_headers_policy(
            Id=name, IfMatch=answer["ETag"], ResponseHeadersPolicyConfig=config
        )

    return Break(f"cdn.{kind}", path, act)


def _never_signed(world: World) -> object:
    cloudfront, name = world.aws.cloudfront, world.outputs["origin_access.id"]
    answer = cloudfront.get_origin_access_control(Id=name)
    config = answer["OriginAccessControl"]["OriginAccessControlConfig"] | {"SigningBehavior": "never"}
    return cloudfront.update_origin_access_control(
        Id=name, IfMatch=answer["ETag"], OriginAccessControlConfig=config
    )


def _accept_in_the_key(config: dict[str, Any]) -> None:
    config["ParametersInCacheKeyAndForwardedToOrigin"]["HeadersConfig"] = {
        "HeaderBehavior": "whitelist",
        "Headers": {"Quantity": 1, "Items": ["Accept"]},
    }


def _long_errors(config: dict[str, Any]) -> None:
    for each in config["CustomErrorResponses"]["Items"]:
        if each["ErrorCode"] == 404:
            each["ErrorCachingMinTTL"] = 300


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda found: found.pop(name)


def _topic_policy(world: World) -> object:
    arn = world.outputs["topic.arn"]
    policy = json.loads(world.aws.sns.get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"])
    policy["Statement"] = [each for each in policy["Statement"] if each.get("Sid") != "PhotoPipelineBudget"]
    return world.aws.sns.set_topic_attributes(
        TopicArn=arn, AttributeName="Policy", AttributeValue=json.dumps(policy)
    )


def _unsubscribe(world: World) -> None:
    sns, arn = world.aws.sns, world.outputs["topic.arn"]
    for each in sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=each["SubscriptionArn"])


def _dearer(world: World) -> object:
    budget = world.aws.budgets.describe_budget(AccountId=ACCOUNT, BudgetName=world.name)["Budget"]
    budget["BudgetLimit"] = {"Amount": "5000", "Unit": "USD"}
    budget.pop("CalculatedSpend")
    return world.aws.budgets.update_budget(AccountId=ACCOUNT, NewBudget=budget)


def _without_forecast(world: World) -> object:
    return world.aws.budgets.delete_notification(
        AccountId=ACCOUNT,
        BudgetName=world.name,
        Notification={
            "NotificationType": "FORECASTED",
            "ComparisonOperator": "GREATER_THAN",
            "Threshold": 100.0,
            "ThresholdType": "PERCENTAGE",
        },
    )


def _untag(suffix: str) -> Callable[[World], object]:
    return lambda world: world.aws.s3.put_bucket_tagging(
        Bucket=world.bucket + suffix,
        Tagging={"TagSet": [{"Key": "managed-by", "Value": "photo_pipeline"}]},
    )


ON_THE_BUCKET = (
    # First: it needs the versioning that another break suspends.
    Break(
        "bucket.replication",
        "photo-pipeline-replica.Status",
        lambda world: world.aws.s3.put_bucket_replication(
            Bucket=world.bucket,
            ReplicationConfiguration={
                "Role": "arn:aws:iam::123456789012:role/copy",
                "Rules": [
                    {
                        "ID": "photo-pipeline-replica",
                        "Priority": 1,
                        "Status": "Disabled",
                        "Filter": {"Prefix": ""},
                        "DeleteMarkerReplication": {"Status": "Disabled"},
                        "Destination": {"Bucket": "arn:aws:s3:::elsewhere", "StorageClass": "STANDARD_IA"},
                    }
                ],
            },
        ),
    ),
    Break("bucket.tags", "team", _untag("")),
    _public_access("BlockPublicAcls"),
    _public_access("IgnorePublicAcls"),
    _public_access("BlockPublicPolicy"),
    _public_access("RestrictPublicBuckets"),
    Break(
        "bucket.ownership",
        "ObjectOwnership",
        lambda world: world.aws.s3.put_bucket_ownership_controls(
            Bucket=world.bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
        ),
    ),
    Break(
        "bucket.encryption",
        "SSEAlgorithm",
        lambda world: world.aws.s3.delete_bucket_encryption(Bucket=world.bucket),
    ),
    Break(
        "bucket.versioning",
        "Status",
        lambda world: world.aws.s3.put_bucket_versioning(
            Bucket=world.bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
    ),
    Break(
        "bucket.lifecycle",
        "photo-pipeline-incoming.Expiration.Days",
        _lifecycle(lambda rules: _rule(rules, "incoming").update(Expiration={"Days": 9})),
    ),
    Break(
        "bucket.lifecycle",
        "photo-pipeline-photos.Status",
        _lifecycle(lambda rules: _rule(rules, "photos").update(Status="Disabled")),
    ),
    Break(
        "bucket.lifecycle",
        "photo-pipeline-originals.Transitions",
        _lifecycle(
            lambda rules: _rule(rules, "originals").update(
                Transitions=[{"Days": 365, "StorageClass": "DEEP_ARCHIVE"}]
            )
        ),
    ),
    Break(
        "bucket.lifecycle",
        "photo-pipeline-documents",
        _lifecycle(lambda rules: rules.remove(_rule(rules, "documents"))),
    ),
    Break(
        "bucket.lifecycle",
        "photo-pipeline-backups.NoncurrentVersionExpiration.NoncurrentDays",
        _lifecycle(
            lambda rules: _rule(rules, "backups").update(NoncurrentVersionExpiration={"NoncurrentDays": 1})
        ),
    ),
    Break(
        "bucket.lifecycle",
        "photo-pipeline-photos.AbortIncompleteMultipartUpload",
        _lifecycle(lambda rules: _rule(rules, "photos").pop("AbortIncompleteMultipartUpload")),
    ),
    Break(
        "bucket.cors",
        "photo-pipeline-uploads.AllowedOrigins",
        _cors(lambda rule: rule.update(AllowedOrigins=["*"])),
    ),
    Break(
        "bucket.access_logs",
        "Target",
        lambda world: world.aws.s3.put_bucket_logging(Bucket=world.bucket, BucketLoggingStatus={}),
    ),
    Break(
        "logs_bucket.lifecycle",
        "photo-pipeline-logs.Expiration.Days",
        _lifecycle(lambda rules: _rule(rules, "logs").update(Expiration={"Days": 1}), "-logs"),
    ),
    Break("logs_bucket.tags", "team", _untag("-logs")),
    Break(
        "logs_bucket.policy",
        "PhotoPipelineAccessLogs.Resource",
        _policy(
            lambda all_: _statement(all_, "PhotoPipelineAccessLogs").update(Resource="arn:aws:s3:::x/*"),
            "-logs",
        ),
    ),
    Break(
        "bucket.policy",
        "PhotoPipelineCdnReads.Resource",
        _policy(
            lambda all_: _statement(all_, "PhotoPipelineCdnReads").update(Resource="arn:aws:s3:::my-photos/*")
        ),
    ),
    Break(
        "bucket.policy",
        "PhotoPipelineCdnReads.Condition",
        _policy(lambda all_: _statement(all_, "PhotoPipelineCdnReads").pop("Condition")),
    ),
    Break(
        "bucket.policy",
        "PhotoPipelineCdnNeverReadsOriginals.Condition",
        _policy(
            lambda all_: _statement(all_, "PhotoPipelineCdnNeverReadsOriginals").update(
                Condition={"StringEquals": {"AWS:SourceArn": "nobody"}}
            )
        ),
    ),
    Break(
        "bucket.policy",
        "PhotoPipelineTlsOnly",
        _policy(lambda all_: all_.remove(_statement(all_, "PhotoPipelineTlsOnly"))),
    ),
)
"""Of S3, on moto."""

ON_ALERTS = (
    Break(
        "alerts.topic",
        "Tags.team",
        lambda world: world.aws.sns.untag_resource(ResourceArn=world.outputs["topic.arn"], TagKeys=["team"]),
    ),
    Break("alerts.topic_policy", "PhotoPipelineBudget", _topic_policy),
    Break("alerts.subscriptions", "ops@shop.example", _unsubscribe),
    Break(
        "alerts.alarms", "photo-pipeline-my-photos-errors-5xx.Threshold", _alarm("errors-5xx", Threshold=90)
    ),
    Break(
        "alerts.alarms",
        "photo-pipeline-my-photos-latency.ActionsEnabled",
        _alarm("latency", ActionsEnabled=False),
    ),
    Break(
        "alerts.alarms",
        "photo-pipeline-my-photos-cost",
        lambda world: world.aws.cloudwatch.delete_alarms(AlarmNames=[f"{world.name}-cost"]),
    ),
    Break(
        "alerts.alarms",
        "photo-pipeline-my-photos-unusual-access.ThresholdMetricId",
        _alarm("unusual-access", ThresholdMetricId="requests"),
    ),
    Break(
        "alerts.alarms",
        "photo-pipeline-my-photos-errors-4xx.AlarmActions",
        _alarm("errors-4xx", AlarmActions=["arn:aws:sns:us-east-1:123456789012:other"]),
    ),
    Break("alerts.budget", "Amount", _dearer),
    Break("alerts.budget", "Notifications.forecasted 100 %", _without_forecast),
)
"""Of SNS, CloudWatch and Budgets, on moto."""

ON_CLOUDFRONT = (
    Break("cdn.origin_access", "SigningBehavior", _never_signed),
    _policy_of(
        "cache_policy",
        "ParametersInCacheKeyAndForwardedToOrigin.HeadersConfig.HeaderBehavior",
        _accept_in_the_key,
    ),
    _policy_of("cache_policy", "MaxTTL", lambda config: config.update(MaxTTL=60)),
    _policy_of(
        "headers_policy",
        "SecurityHeadersConfig.ContentTypeOptions",
        lambda config: config["SecurityHeadersConfig"].pop("ContentTypeOptions"),
    ),
    _policy_of(
        "headers_policy",
        "CorsConfig.AccessControlAllowOrigins.Items",
        lambda config: config["CorsConfig"].update(
            AccessControlAllowOrigins={"Quantity": 1, "Items": ["https://else.example"]}
        ),
    ),
    Break("cdn.distribution", "Comment", distribution(lambda config: config.update(Comment="mine"))),
    Break("cdn.distribution", "Enabled", distribution(lambda config: config.update(Enabled=False))),
    Break(
        "cdn.distribution", "HttpVersion", distribution(lambda config: config.update(HttpVersion="http1.1"))
    ),
    Break(
        "cdn.distribution", "IsIPV6Enabled", distribution(lambda config: config.update(IsIPV6Enabled=False))
    ),
    Break(
        "cdn.distribution",
        "PriceClass",
        distribution(lambda config: config.update(PriceClass="PriceClass_All")),
    ),
    Break(
        "cdn.distribution",
        "Origin.OriginAccessControlId",
        distribution(lambda config: config["Origins"]["Items"][0].update(OriginAccessControlId="")),
    ),
    Break(
        "cdn.distribution",
        "DefaultCacheBehavior.ViewerProtocolPolicy",
        distribution(lambda config: config["DefaultCacheBehavior"].update(ViewerProtocolPolicy="allow-all")),
    ),
    Break(
        "cdn.distribution",
        "DefaultCacheBehavior.Compress",
        distribution(lambda config: config["DefaultCacheBehavior"].update(Compress=False)),
    ),
    Break(
        "cdn.distribution",
        "DefaultCacheBehavior.ResponseHeadersPolicyId",
        distribution(lambda config: config["DefaultCacheBehavior"].pop("ResponseHeadersPolicyId")),
    ),
    Break("cdn.distribution", "ErrorCaching.404", distribution(_long_errors)),
    Break(
        "cdn.distribution",
        "Countries.RestrictionType",
        distribution(
            lambda config: config.update(
                Restrictions={
                    "GeoRestriction": {"RestrictionType": "whitelist", "Quantity": 2, "Items": ["KP", "SY"]}
                }
            )
        ),
    ),
)
"""Of CloudFront, on the stub."""


def rounds(at_once: int = 3) -> list[tuple[Break, ...]]:
    """Return all of them in rounds, in each of which every resource is broken in a few places at most."""
    waiting: dict[str, list[Break]] = {}
    for each in (*ON_THE_BUCKET, *ON_ALERTS, *ON_CLOUDFRONT):
        waiting.setdefault(each.resource, []).append(each)
    longest = max(map(len, waiting.values()))
    return [
        tuple(broken for each in waiting.values() for broken in each[start : start + at_once])
        for start in range(0, longest, at_once)
    ]
