"""Every resource type, in the order in which they are set up. A new one is one class and one line here."""

from collections.abc import Iterator

from photo_pipeline.core.provisioning import bucket, bucket_extras
from photo_pipeline.core.provisioning.alarms import Alarms, Budget, CdnMetrics
from photo_pipeline.core.provisioning.alerts import Subscriptions, Topic, TopicPolicy
from photo_pipeline.core.provisioning.bucket import LOGS, MAIN
from photo_pipeline.core.provisioning.bucket_policy import BucketPolicy
from photo_pipeline.core.provisioning.cdn_policies import CachePolicy, HeadersPolicy, OriginAccess
from photo_pipeline.core.provisioning.certificate import Certificate
from photo_pipeline.core.provisioning.distribution import Distribution
from photo_pipeline.core.provisioning.lifecycle import Lifecycle
from photo_pipeline.core.provisioning.resource import ResourceType, World

_BUCKET: tuple[ResourceType, ...] = (
    bucket.Bucket(MAIN),
    bucket.Tags(MAIN),
    bucket.PublicAccess(MAIN),
    bucket.Ownership(MAIN),
    bucket.Encryption(MAIN),
    bucket.Versioning(MAIN),
    Lifecycle(MAIN),
    bucket_extras.Cors(),
    bucket_extras.Replication(),
)
_LOGS_BUCKET: tuple[ResourceType, ...] = (
    bucket.Bucket(LOGS),
    bucket.Tags(LOGS),
    bucket.PublicAccess(LOGS),
    bucket.Ownership(LOGS),
    bucket.Encryption(LOGS),
    Lifecycle(LOGS),
    BucketPolicy(LOGS),
)
_CDN: tuple[ResourceType, ...] = (
    OriginAccess(),
    CachePolicy(),
    HeadersPolicy(),
    Certificate(),
    Distribution(),
)
_ALERTS: tuple[ResourceType, ...] = (Topic(), TopicPolicy(), Subscriptions(), Alarms(), Budget())


def resources_for(world: World) -> Iterator[ResourceType]:
    """Yield the resource types that this configuration manages, in order.

    CDN and alerts are AWS's own: with an S3-compatible server only the bucket is set up.
    """
    settings, is_amazon = world.config.provision, world.aws.is_amazon
    yield from _BUCKET
    if settings.access_logs.enabled and is_amazon:
        if settings.access_logs.bucket is None:
            yield from _LOGS_BUCKET
        yield bucket_extras.AccessLogs()
    if settings.cdn.enabled and is_amazon:
        yield from _CDN
        if settings.alerts.enabled:
            yield CdnMetrics()
    # After the distribution, which alone it lets read.
    yield BucketPolicy(MAIN)
    if settings.alerts.enabled and is_amazon:
        yield from _ALERTS
