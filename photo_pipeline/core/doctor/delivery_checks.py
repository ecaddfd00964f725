"""Checks of the CDN: it answers, is the right distribution, delivers with the right headers, hides originals.

Each looks at probe objects of its own. They are stored before they are asked for, since a CDN keeps the error
that it answers for a missing one (DESIGN rule 2), and deleted afterwards.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from photo_pipeline.core.delivery.caching import NOT_SERVED, cache_control
from photo_pipeline.core.delivery.canary import Expected, delivery_problems
from photo_pipeline.core.delivery.cloudfront import cloudfront_errors, open_cloudfront
from photo_pipeline.core.delivery.routing import ACCEPT_BY_FORMAT, AUTO_SUFFIX
from photo_pipeline.core.doctor.finding import Check, Finding, ok, problem, skipped
from photo_pipeline.core.doctor.patient import PROBE, Patient
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.storage.checksum import sha256_hex

_GROUP = "CDN"


def _is_auto(patient: Patient) -> bool:
    return any(source.rewrite.format == "auto" for source in patient.config.sources)


def answers(patient: Patient) -> Iterator[Finding]:
    """The CDN answers at all."""
    answer = patient.cdn.fetch(f"{patient.config.cdn.base_url}/")
    yield ok(f"{patient.config.cdn.base_url} answers (HTTP {answer.status})")


def distribution(patient: Patient) -> Iterator[Finding]:
    """The named distribution serves this bucket under this address."""
    wanted = patient.config.cdn.distribution_id
    if wanted is None:
        yield skipped("cdn.distribution_id is not set; invalidations and provisioning would need it")
        return
    with cloudfront_errors(f"distribution {wanted}", permission="cloudfront:GetDistribution"):
        found = open_cloudfront().get_distribution(Id=wanted)["Distribution"]
    problems = list(_distribution_problems(patient, found))
    yield from problems or [ok(f"{wanted} serves bucket {patient.bucket}")]


def _distribution_problems(patient: Patient, found: dict[str, Any]) -> Iterator[Finding]:
    config = found["DistributionConfig"]
    host = urlsplit(patient.config.cdn.base_url).hostname
    names = [found["DomainName"], *config.get("Aliases", {}).get("Items", [])]
    if host not in names:
        yield problem(
            f"it serves {', '.join(names)}, and cdn.base_url says {host}",
            fix="correct cdn.distribution_id or cdn.base_url",
        )
    if not config["Enabled"]:
        yield problem("it is switched off", fix="enable it (`photo-pipeline provision`)")
    origins = [origin["DomainName"] for origin in config["Origins"]["Items"]]
    if not any(origin.startswith(f"{patient.bucket}.s3") for origin in origins):
        yield problem(
            f"its origins are {', '.join(origins)}, none of them bucket {patient.bucket}",
            fix="correct its origin (`photo-pipeline provision`), cdn.distribution_id or store.bucket",
        )


def delivers(patient: Patient) -> Iterator[Finding]:
    """What was stored is delivered, with its type and cache header."""
    jpeg = cache_control(patient.config.cdn, "jpeg")
    key = patient.new_key(patient.config.store.prefix, ".jpg")
    patient.put(key, ContentType="image/jpeg", CacheControl=jpeg)
    url = f"{patient.config.cdn.base_url}/{key}"
    problems = delivery_problems(patient.cdn.fetch(url), Expected(url, sha256_hex(PROBE), "image/jpeg", jpeg))
    patient.remove(key)
    if problems:
        fix = (
            "let no response headers policy override what the objects say"
            if "answers HTTP" not in problems[0]
            else "let the distribution's origin be this bucket, allow its OAC s3:GetObject in the bucket's "
            "policy, and let cdn.base_url be its address (`photo-pipeline provision`)"
        )
        yield problem("; ".join(problems), fix=fix)
    else:
        yield ok("a probe object came back with its type and cache header")


def routes(patient: Patient) -> Iterator[Finding]:
    """An `.auto` URL gives each browser the best format that it names."""
    if not _is_auto(patient):
        yield skipped("no source's rewrite.format is auto")
        return
    stem = patient.new_key(patient.config.store.prefix)
    keys = {each: f"{stem}.{each.extension}" for each in ImageFormat}
    for each, key in keys.items():
        patient.put(key, each.value.encode(), ContentType=each.mime)
    url = f"{patient.config.cdn.base_url}/{stem}{AUTO_SUFFIX}"
    got = {each: patient.cdn.fetch(url, accept=ACCEPT_BY_FORMAT[each.value]) for each in ImageFormat}
    for key in keys.values():
        patient.remove(key)
    wrong = [each.value for each, answer in got.items() if answer.body != each.value.encode()]
    if wrong:
        yield problem(
            f"browsers that ask for {', '.join(wrong)} under {AUTO_SUFFIX} URLs do not get it",
            fix="run `photo-pipeline routing publish` and attach the function to the photos' behaviour",
        )
    else:
        yield ok("AVIF, WebP and JPEG, by Accept")


def hides_originals(patient: Patient) -> Iterator[Finding]:
    """Originals are not served."""
    if patient.config.store.originals == "discard":
        yield skipped("store.originals is discard: there are none")
        return
    key = patient.new_key(patient.config.store.originals_prefix)
    patient.put(key, ContentType="text/plain", CacheControl=NOT_SERVED)
    answer = patient.cdn.fetch(f"{patient.config.cdn.base_url}/{key}")
    patient.remove(key)
    if answer.status == 200:
        yield problem(
            f"the CDN serves {patient.config.store.originals_prefix}/ to everybody, with photos' GPS data",
            fix=f"let the bucket's policy allow the CDN {patient.config.store.prefix}/* only "
            "(`photo-pipeline provision`)",
        )
    else:
        yield ok(f"{patient.config.store.originals_prefix}/ is not served (HTTP {answer.status})")


_NEEDS = ("CDN answers", "may PutObject", "may DeleteObject")
CHECKS = (
    Check("CDN answers", _GROUP, answers, ("configuration",)),
    Check("distribution", _GROUP, distribution, ("configuration", "AWS credentials")),
    Check("CDN delivers", _GROUP, delivers, _NEEDS),
    Check(".auto URLs", _GROUP, routes, ("CDN delivers",)),
    Check("originals are hidden", _GROUP, hides_originals, _NEEDS),
)
