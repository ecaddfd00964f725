"""What the distribution needs beside itself: origin access control, cache policy, response headers policy.

AWS gives them no tags; ours are known by their names and by the mark in their comments.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline.core.provisioning.difference import Document, merged
from photo_pipeline.core.provisioning.resource import MANAGED_BY, Reading, World

_MARK = f"managed-by: {MANAGED_BY}"


def listed(ask: Any, container: str, **options: Any) -> Iterator[Document]:
    """Yield the items of one of CloudFront's paged lists."""
    marker: str | None = None
    while True:
        page = ask(**options, **({"Marker": marker} if marker else {}))[container]
        yield from page.get("Items", [])
        marker = page.get("NextMarker")
        if not marker:
            return


def _require_mark(thing: str, comment: str) -> None:
    if _MARK not in comment:
        raise GuardRefusedError(
            thing,
            cause="one of this name exists that photo_pipeline did not create (its comment does not say so)",
            fix=f"rename it, or write {_MARK!r} into its comment to have it managed",
        )


def _policy(world: World, kind: str, ask: Any, get: Any, *, what: str, output: str) -> Reading:
    """Return the settings of our policy of that kind, as CloudFront's answers call it."""
    for item in listed(ask, f"{kind}List", Type="custom"):
        policy = item[kind]
        if policy[f"{kind}Config"]["Name"] == world.name:
            answer = get(Id=policy["Id"])
            settings = answer[kind][f"{kind}Config"]
            _require_mark(f"{what} {world.name!r}", settings.get("Comment", ""))
            return Reading(settings, raw=answer, outputs={output: policy["Id"]})
    return Reading(None)


@dataclass(frozen=True)
class OriginAccess:
    """The identity by which CloudFront signs its requests to the bucket (origin access control)."""

    name: str = "cdn.origin_access"

    def read(self, world: World) -> Reading:
        """Return its settings."""
        cloudfront = world.aws.cloudfront
        for item in listed(cloudfront.list_origin_access_controls, "OriginAccessControlList"):
            if item["Name"] == world.name:
                _require_mark(f"origin access control {world.name!r}", item.get("Description", ""))
                answer = cloudfront.get_origin_access_control(Id=item["Id"])
                settings = answer["OriginAccessControl"]["OriginAccessControlConfig"]
                return Reading(settings, raw=answer, outputs={"origin_access.id": item["Id"]})
        return Reading(None)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return its settings: every request is signed."""
        return {
            "Name": world.name,
            "Description": _MARK,
            "SigningProtocol": "sigv4",
            "SigningBehavior": "always",
            "OriginAccessControlOriginType": "s3",
        }

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Create or update it."""
        cloudfront = world.aws.cloudfront
        if reading.raw is None:
            cloudfront.create_origin_access_control(OriginAccessControlConfig=desired)
            return
        cloudfront.update_origin_access_control(
            Id=reading.outputs["origin_access.id"],
            IfMatch=reading.raw["ETag"],
            OriginAccessControlConfig=desired,
        )


@dataclass(frozen=True)
class CachePolicy:
    """What tells one cached answer from another: the path, and whether it may be compressed. Nothing else.

    The Accept header stays out: the routing function has put its answer into the path before the cache is
    asked. With it in the key there would be a copy of each photo for every browser's own wording.
    """

    name: str = "cdn.cache_policy"

    def read(self, world: World) -> Reading:
        """Return its settings."""
        cloudfront = world.aws.cloudfront
        ask, get = cloudfront.list_cache_policies, cloudfront.get_cache_policy
        return _policy(world, "CachePolicy", ask, get, what="cache policy", output="cache_policy.id")

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return its settings: the objects' own Cache-Control decides, within a year."""
        return {
            "Name": world.name,
            "Comment": _MARK,
            "MinTTL": 0,
            "DefaultTTL": 86_400,
            "MaxTTL": 31_536_000,
            "ParametersInCacheKeyAndForwardedToOrigin": {
                "EnableAcceptEncodingGzip": True,
                "EnableAcceptEncodingBrotli": True,
                "HeadersConfig": {"HeaderBehavior": "none"},
                "CookiesConfig": {"CookieBehavior": "none"},
                "QueryStringsConfig": {"QueryStringBehavior": "none"},
            },
        }

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Create or update it."""
        cloudfront = world.aws.cloudfront
        if reading.raw is None:
            cloudfront.create_cache_policy(CachePolicyConfig=desired)
            return
        cloudfront.update_cache_policy(
            Id=reading.outputs["cache_policy.id"], IfMatch=reading.raw["ETag"], CachePolicyConfig=desired
        )


@dataclass(frozen=True)
class HeadersPolicy:
    """What the CDN adds to every answer: no guessing of types, HTTPS only, and who may read the pixels."""

    name: str = "cdn.headers_policy"

    def read(self, world: World) -> Reading:
        """Return its settings."""
        cloudfront = world.aws.cloudfront
        return _policy(
            world,
            "ResponseHeadersPolicy",
            cloudfront.list_response_headers_policies,
            cloudfront.get_response_headers_policy,
            what="response headers policy",
            output="headers_policy.id",
        )

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return its settings."""
        return {
            "Name": world.name,
            "Comment": _MARK,
            "SecurityHeadersConfig": {
                "ContentTypeOptions": {"Override": True},
                "StrictTransportSecurity": {"Override": True, "AccessControlMaxAgeSec": 31_536_000},
                # An SVG or HTML file that slipped in runs no script.
                "ContentSecurityPolicy": {
                    "Override": True,
                    "ContentSecurityPolicy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
                },
            },
            "CorsConfig": {
                "AccessControlAllowOrigins": quantity(world.config.provision.cdn.cors_origins),
                "AccessControlAllowMethods": quantity(("GET", "HEAD")),
                "AccessControlAllowHeaders": quantity(("*",)),
                "AccessControlAllowCredentials": False,
                "AccessControlMaxAgeSec": 86_400,
                "OriginOverride": True,
            },
        }

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Create or update it."""
        cloudfront = world.aws.cloudfront
        if reading.raw is None:
            cloudfront.create_response_headers_policy(ResponseHeadersPolicyConfig=desired)
            return
        cloudfront.update_response_headers_policy(
            Id=reading.outputs["headers_policy.id"],
            IfMatch=reading.raw["ETag"],
            ResponseHeadersPolicyConfig=merged(reading.actual or {}, desired),
        )


def quantity(items: Any) -> Mapping[str, Any]:
    """Return items in CloudFront's way of writing lists."""
    members = list(items)
    return {"Quantity": len(members), **({"Items": members} if members else {})}
