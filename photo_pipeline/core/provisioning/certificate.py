"""The certificate of the CDN's own domain: the one that is named, or one that is requested from ACM.

ACM gives it out once the domain's owner has put a record into its DNS. Until then the distribution works
under its own name, and the plan says which record is waited for.
"""

from dataclasses import dataclass

from photo_pipeline.core.provisioning.difference import Document
from photo_pipeline.core.provisioning.resource import Reading, World, is_ours, tag_map


@dataclass(frozen=True)
class Certificate:
    """A certificate in us-east-1, where CloudFront looks for it."""

    name: str = "cdn.certificate"

    def read(self, world: World) -> Reading:
        """Return the domain and state of the certificate that we requested or were told of."""
        settings = world.config.provision.cdn
        if settings.certificate_arn:
            return Reading(None, outputs={"certificate.arn": settings.certificate_arn})
        arn = self._requested(world)
        if arn is None:
            return Reading(None)
        certificate = world.aws.acm.describe_certificate(CertificateArn=arn)["Certificate"]
        actual = {"DomainName": certificate["DomainName"]}
        if certificate["Status"] == "ISSUED":
            return Reading(actual, outputs={"certificate.arn": arn})
        return Reading(actual, raw=arn, notes=(_waiting(certificate),))

    def _requested(self, world: World) -> str | None:
        for page in world.aws.acm.get_paginator("list_certificates").paginate():
            for item in page["CertificateSummaryList"]:
                if item["DomainName"] != world.config.provision.cdn.domain:
                    continue
                tags = world.aws.acm.list_tags_for_certificate(CertificateArn=item["CertificateArn"])
                if is_ours(tag_map(tags["Tags"])):
                    return str(item["CertificateArn"])
        return None

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return the domain, where a certificate is to be requested."""
        settings = world.config.provision.cdn
        if settings.domain is None or settings.certificate_arn:
            return None
        return {"DomainName": settings.domain}

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Request it."""
        world.aws.acm.request_certificate(
            DomainName=desired["DomainName"], ValidationMethod="DNS", Tags=world.tag_list
        )


def _waiting(certificate: Document) -> str:
    domain, state = certificate["DomainName"], certificate["Status"]
    for option in certificate.get("DomainValidationOptions", []):
        record = option.get("ResourceRecord")
        if record:
            return (
                f"the certificate of {domain} is {state}: put the {record['Type']} record {record['Name']} "
                f"with the value {record['Value']} into its DNS, then apply again to use the domain"
            )
    return f"the certificate of {domain} is {state}; apply again when it is issued, to use the domain"
