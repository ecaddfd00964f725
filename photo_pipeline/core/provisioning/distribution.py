"""The CloudFront distribution in front of the bucket, with origin access control and nothing but HTTPS.

One that we created is known by its tag, and managed as far as `desired` goes: other origins and behaviours,
logs and web ACL stay as they are. One that `cdn.distribution_id` names and that we did not create is left
alone; only the bucket's policy lets it read.
"""

from dataclasses import dataclass
from typing import Any

from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.provisioning.aws import found
from photo_pipeline.core.provisioning.cdn_policies import listed, quantity
from photo_pipeline.core.provisioning.difference import Document, merged
from photo_pipeline.core.provisioning.resource import Reading, World, is_ours, tag_map

_ORIGIN = "photo-pipeline-s3"
# What a missing or forbidden object, and a store that is down, look like to the CDN.
_ERRORS = (403, 404, 500, 502, 503, 504)
# FunctionARNs have this form; anything else is a name.
_ARN = "arn:"


@dataclass(frozen=True)
class Distribution:
    """The distribution."""

    name: str = "cdn.distribution"

    def read(self, world: World) -> Reading:
        """Return what we answer for of it; the raw reading is its whole configuration and ETag."""
        function = {"routing_function.arn": arn} if (arn := _function_arn(world)) else {}
        summary = self._ours(world)
        if summary is None:
            return _named_by_user(world, function)
        answer = world.aws.cloudfront.get_distribution_config(Id=summary["Id"])
        return Reading(
            _shown(answer["DistributionConfig"]),
            raw=answer,
            outputs={**_outputs(summary), **function},
        )

    def _ours(self, world: World) -> Document | None:
        named = world.config.cdn.distribution_id
        for item in listed(world.aws.cloudfront.list_distributions, "DistributionList"):
            # Looking at the tags of every distribution of a large account would take a request each.
            if not (item["Id"] == named if named else _looks_ours(world, item)):
                continue
            tags = world.aws.cloudfront.list_tags_for_resource(Resource=item["ARN"])["Tags"]
            if is_ours(tag_map(tags.get("Items", []))):
                return item
        return None

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return what we answer for of it."""
        if "distribution.foreign" in reading.outputs:
            return None
        settings = world.config.provision.cdn
        countries = settings.countries
        kind = "whitelist" if countries.allow else "blacklist" if countries.deny else "none"
        return {
            "Comment": _comment(world),
            "Enabled": True,
            "HttpVersion": "http2and3",
            "IsIPV6Enabled": True,
            "PriceClass": settings.price_class,
            "Origin": {
                "DomainName": f"{world.bucket}.s3.{world.config.store.region}.amazonaws.com",
                "OriginAccessControlId": world.known("origin_access.id"),
                "S3OriginConfig": {"OriginAccessIdentity": ""},
            },
            "DefaultCacheBehavior": {
                "TargetOriginId": _ORIGIN,
                "ViewerProtocolPolicy": "redirect-to-https",
                "AllowedMethods": ["GET", "HEAD"],
                "Compress": True,
                "CachePolicyId": world.known("cache_policy.id"),
                "ResponseHeadersPolicyId": world.known("headers_policy.id"),
                **_function(world),
            },
            "ErrorCaching": {str(code): settings.error_ttl_s for code in _ERRORS},
            "Countries": {"RestrictionType": kind, "Items": [*countries.allow, *countries.deny]},
            **_domain(world),
        }

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Create it, or update it against the ETag that was read."""
        cloudfront = world.aws.cloudfront
        if reading.raw is None:
            # One that exists already with this reference is returned, not made twice.
            fresh = {"CallerReference": world.name, "Origins": {}, "DefaultCacheBehavior": {}}
            configuration = {
                "DistributionConfig": _configured(fresh, desired),
                "Tags": {"Items": world.tag_list},
            }
            cloudfront.create_distribution_with_tags(DistributionConfigWithTags=configuration)
            return
        cloudfront.update_distribution(
            Id=reading.outputs["distribution.id"],
            IfMatch=reading.raw["ETag"],
            DistributionConfig=_configured(reading.raw["DistributionConfig"], desired),
        )


def _comment(world: World) -> str:
    return f"photos of {world.bucket} (photo_pipeline)"


def _looks_ours(world: World, summary: Document) -> bool:
    domains = [each["DomainName"] for each in summary["Origins"]["Items"] if each["Id"] == _ORIGIN]
    return summary["Comment"] == _comment(world) or any(
        each.startswith(f"{world.bucket}.s3") for each in domains
    )


def _outputs(summary: Document) -> dict[str, str]:
    return {
        "distribution.id": summary["Id"],
        "distribution.arn": summary["ARN"],
        "distribution.domain": summary["DomainName"],
    }


def _named_by_user(world: World, function: dict[str, str]) -> Reading:
    named = world.config.cdn.distribution_id
    if named is None:
        return Reading(None, outputs=function)
    answer = found(lambda: world.aws.cloudfront.get_distribution(Id=named), "NoSuchDistribution")
    if answer is None:
        raise ConfigurationError(
            "cdn.distribution_id",
            cause=f"there is no distribution {named!r} in this account",
            fix="correct it, or leave it out to have one created",
        )
    note = (
        f"the distribution {named} was not created by photo_pipeline and is left as it is; the bucket's "
        "policy lets it read, if its origin has an origin access control"
    )
    outputs = {**_outputs(answer["Distribution"]), "distribution.foreign": named}
    return Reading(None, outputs=outputs, notes=(note,))


def _function_arn(world: World) -> str | None:
    """Return the ARN of the routing function that is to be attached.

    Raises:
        ConfigurationError: there is no published function of that name.
    """
    wanted = world.config.provision.cdn.routing_function
    if wanted is None or wanted.startswith(_ARN):
        return wanted
    answer = found(
        lambda: world.aws.cloudfront.describe_function(Name=wanted, Stage="LIVE"), "NoSuchFunctionExists"
    )
    if answer is None:
        raise ConfigurationError(
            "provision.cdn.routing_function",
            cause=f"there is no published CloudFront Function {wanted!r}",
            fix="publish it first, or leave the setting out",
        )
    return str(answer["FunctionSummary"]["FunctionMetadata"]["FunctionARN"])


def _function(world: World) -> Document:
    """Return the function to attach; with none configured, one that somebody else attached stays."""
    arn = world.outputs.get("routing_function.arn")
    return {"ViewerRequest": arn} if arn else {}


def _domain(world: World) -> Document:
    """Return alias and certificate, where there is one that is issued; else both stay as they are."""
    domain, arn = world.config.provision.cdn.domain, world.outputs.get("certificate.arn")
    if domain is None or arn is None:
        return {}
    return {
        "Aliases": {domain: domain},
        "Certificate": {
            "ACMCertificateArn": arn,
            "SSLSupportMethod": "sni-only",
            "MinimumProtocolVersion": "TLSv1.2_2021",
        },
    }


def _shown(configuration: Document) -> Document:
    """Return what we answer for of a configuration, in the shape of `desired`."""
    behaviour = dict(configuration["DefaultCacheBehavior"])
    behaviour["AllowedMethods"] = behaviour.get("AllowedMethods", {}).get("Items", [])
    behaviour["ViewerRequest"] = next(
        (each["FunctionARN"] for each in _associations(behaviour) if each["EventType"] == "viewer-request"),
        None,
    )
    restriction = configuration.get("Restrictions", {}).get("GeoRestriction", {})
    errors = configuration.get("CustomErrorResponses", {}).get("Items", [])
    return {
        **configuration,
        "Origin": next((each for each in configuration["Origins"]["Items"] if each["Id"] == _ORIGIN), {}),
        "DefaultCacheBehavior": behaviour,
        "ErrorCaching": {str(each["ErrorCode"]): each.get("ErrorCachingMinTTL") for each in errors},
        "Countries": {
            "RestrictionType": restriction.get("RestrictionType", "none"),
            "Items": restriction.get("Items", []),
        },
        "Aliases": {each: each for each in configuration.get("Aliases", {}).get("Items", [])},
        "Certificate": configuration.get("ViewerCertificate", {}),
    }


def _configured(configuration: Document, desired: Document) -> Document:
    """Return CloudFront's form of a configuration in which all is as desired, and the rest as it was."""
    simple = ("Comment", "Enabled", "HttpVersion", "IsIPV6Enabled", "PriceClass")
    return {
        **configuration,
        **{name: desired[name] for name in simple},
        "Origins": _with_origin(configuration["Origins"], desired["Origin"]),
        "DefaultCacheBehavior": _behaviour(
            configuration["DefaultCacheBehavior"], desired["DefaultCacheBehavior"]
        ),
        "CustomErrorResponses": _errors(
            configuration.get("CustomErrorResponses", {}), desired["ErrorCaching"]
        ),
        "Restrictions": {
            "GeoRestriction": {
                "RestrictionType": desired["Countries"]["RestrictionType"],
                **quantity(desired["Countries"]["Items"]),
            }
        },
        "Aliases": quantity(
            dict.fromkeys([*configuration.get("Aliases", {}).get("Items", []), *desired.get("Aliases", {})])
        ),
        "ViewerCertificate": desired.get("Certificate")
        or configuration.get("ViewerCertificate", {"CloudFrontDefaultCertificate": True}),
    }


def _with_origin(origins: Document, origin: Document) -> Document:
    items = origins.get("Items", [])
    present = next((each for each in items if each["Id"] == _ORIGIN), {"Id": _ORIGIN})
    return dict(quantity([*(each for each in items if each["Id"] != _ORIGIN), merged(present, origin)]))


def _behaviour(behaviour: Document, desired: Document) -> Document:
    changed = merged(behaviour, {name: each for name, each in desired.items() if name != "ViewerRequest"})
    # Settings of the time before cache policies, which CloudFront refuses beside one.
    for legacy in ("ForwardedValues", "MinTTL", "DefaultTTL", "MaxTTL"):
        changed.pop(legacy, None)
    changed["AllowedMethods"] = {
        **quantity(desired["AllowedMethods"]),
        "CachedMethods": quantity(("GET", "HEAD")),
    }
    if "ViewerRequest" in desired:
        kept = [each for each in _associations(behaviour) if each["EventType"] != "viewer-request"]
        ours = {"FunctionARN": desired["ViewerRequest"], "EventType": "viewer-request"}
        changed["FunctionAssociations"] = quantity([*kept, ours])
    return changed


def _associations(behaviour: Document) -> list[Document]:
    items: list[Document] = behaviour.get("FunctionAssociations", {}).get("Items", [])
    return items


def _errors(present: Document, desired: Document) -> Document:
    kept: dict[str, Any] = {str(each["ErrorCode"]): each for each in present.get("Items", [])}
    for code, ttl_s in desired.items():
        kept[code] = {**kept.get(code, {"ErrorCode": int(code)}), "ErrorCachingMinTTL": ttl_s}
    return dict(quantity(kept.values()))
