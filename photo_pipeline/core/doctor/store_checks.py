"""Checks of the object store: it answers, knows us, has the bucket, lets us do what a migration does."""

from collections.abc import Callable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, PartialCredentialsError, ProfileNotFound
from urllib3.exceptions import HTTPError

from photo_pipeline.core.aws_errors import error_code, http_status
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.cost.hooks import counted_pool
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.doctor.finding import Check, Finding, down, ok, problem, skipped
from photo_pipeline.core.doctor.patient import PROBE, Patient, is_aws
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.core.storage.probe import ask_store
from photo_pipeline.core.storage.store import PhotoStore

_GROUP = "store"
# S3 refuses requests that are 15 minutes off; a clock that is 5 off will be soon.
_MAX_SKEW_S = 300
_UNKNOWN_TO_IT = (
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidClientTokenId"),
    *("TokenRefreshRequired", "AccountProblem", "InvalidSecurity"),
)
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_NOT_THERE = (
    "NotImplemented",
    "MethodNotAllowed",
    "501",
    "405",
    "NotFound",
    "404",
    "NoSuchKey",
    "InvalidRequest",
)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _server(patient: Patient) -> str:
    return patient.config.store.endpoint_url or "AWS S3"


def _answer(patient: Patient) -> tuple[dict[str, Any], str]:
    """Ask for one key of the bucket; return the headers and the error's code, or "".

    A GET, since the answer to a HEAD has no code. Raises BotoCoreError where nothing answers.
    """
    try:
        answer = patient.s3.list_objects_v2(Bucket=patient.bucket, MaxKeys=1)
    except ClientError as error:
        return error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}), error_code(error)
    return answer["ResponseMetadata"]["HTTPHeaders"], ""


def credentials(patient: Patient) -> Iterator[Finding]:
    """There are AWS credentials in the environment."""
    fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    try:
        found = patient.session.get_credentials()
    except PartialCredentialsError as error:
        yield problem(_one_line(error), fix=fix)
        return
    except ProfileNotFound as error:
        yield problem(_one_line(error), fix="let $AWS_PROFILE name an existing profile")
        return
    if found is None:
        yield problem("there are none in the environment", fix=fix)
    else:
        # AWS's have 20 characters; of a shorter one four would be too much to show.
        shown = f"…{found.access_key[-4:]}" if len(found.access_key) >= 16 else "of a few characters"
        yield ok(f"access key {shown}, from {found.method}")


def answers(patient: Patient) -> Iterator[Finding]:
    """The store answers at all."""
    try:
        _answer(patient)
    except (BotoCoreError, ValueError) as error:
        yield down(
            f"{_server(patient)} does not answer ({_one_line(error)})",
            fix="check store.endpoint_url, the network, and that the server is up",
        )
    else:
        yield ok(f"{_server(patient)} answers")


def accepted(patient: Patient) -> Iterator[Finding]:
    """The store accepts the credentials."""
    _, code = _answer(patient)
    if code in _UNKNOWN_TO_IT:
        yield problem(
            f"{_server(patient)} refuses them ({code})",
            fix="correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or AWS_PROFILE",
        )
    else:
        yield ok("accepted")


def bucket(patient: Patient) -> Iterator[Finding]:
    """The bucket exists."""
    _, code = _answer(patient)
    if code in ("NoSuchBucket", "InvalidBucketName"):
        yield problem(
            f"there is no bucket {patient.bucket!r} at {_server(patient)}",
            fix="create it (`photo-pipeline provision`), or correct store.bucket or $AWS_S3_BUCKET_NAME",
        )
    else:
        yield ok(patient.bucket)


def region(patient: Patient) -> Iterator[Finding]:
    """The configured region is the bucket's."""
    configured = patient.config.store.region
    try:
        headers = patient.s3.head_bucket(Bucket=patient.bucket)["ResponseMetadata"]["HTTPHeaders"]
    except ClientError as error:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        status = http_status(error)
        if status in (301, 307, 400) and "x-amz-bucket-region" not in headers:
            yield problem(
                f"the store refuses requests for {configured!r} (HTTP {status})",
                fix="set store.region (or $AWS_REGION) to the bucket's region",
            )
            return
    actual = headers.get("x-amz-bucket-region")
    if actual and actual != configured:
        yield problem(
            f"the bucket is in {actual}, and the configuration says {configured}",
            fix=f"set store.region (or $AWS_REGION) to {actual}",
        )
    else:
        yield ok(configured if actual else f"{configured} (the server does not say)")


def clock(patient: Patient) -> Iterator[Finding]:
    """This machine's clock agrees with the store's."""
    headers, _ = _answer(patient)
    try:
        theirs = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        yield skipped("the store sends no date")
        return
    skew_s = (utc_now() - theirs.astimezone(UTC)).total_seconds()
    if abs(skew_s) > _MAX_SKEW_S:
        yield problem(
            f"it is {abs(skew_s):,.0f} s {'ahead of' if skew_s > 0 else 'behind'} the store's",
            fix="let NTP set this machine's clock (`timedatectl set-ntp true`): S3 refuses 15 minutes",
        )
    else:
        yield ok(f"within {abs(skew_s) + 1:.0f} s of the store's")


def _permission(action: str, done: str, attempt: Callable[[Patient], None]) -> Check:
    """Return the check that tries one action on a probe object."""

    def look(patient: Patient) -> Iterator[Finding]:
        try:
            attempt(patient)
        except ClientError as error:
            prefix = patient.config.store.prefix
            # To delete is needed of probe objects only: a migration deletes nothing else.
            below = {"s3:ListBucket": "", "s3:DeleteObject": f"/{prefix}/.doctor/* and .probe/*"}
            on = f"arn:aws:s3:::{patient.bucket}{below.get(action, f'/{prefix}/*')}"
            key = " and the KMS key" if "KMS" in str(error) else ""
            yield problem(
                f"the store refuses it ({_one_line(error)})",
                fix=f"allow {action} on {on}{key} to these credentials",
            )
        else:
            yield ok(done)

    look.__doc__ = f"The credentials allow {action}."
    return Check(
        name=f"may {action.partition(':')[2]}",
        group=_GROUP,
        look=look,
        needs=("bucket", "credentials accepted", "region")
        if action in ("s3:PutObject", "s3:ListBucket")
        else ("may PutObject",),
    )


def _put(patient: Patient) -> None:
    patient.put(patient.probe_key)


def _get(patient: Patient) -> None:
    body = patient.s3.get_object(Bucket=patient.bucket, Key=patient.probe_key)["Body"].read()
    if body != PROBE:
        raise ConfigurationError(
            f"s3://{patient.bucket}",
            cause="the store gives back other bytes than it was given",
            fix="do not trust this store before that is explained",
        )


def _list(patient: Patient) -> None:
    prefix = f"{patient.config.store.prefix}/.doctor/"
    patient.s3.list_objects_v2(Bucket=patient.bucket, Prefix=prefix, MaxKeys=1)


def _delete(patient: Patient) -> None:
    patient.remove(patient.probe_key)


def private(patient: Patient) -> Iterator[Finding]:
    """Nobody reads the bucket without credentials."""
    signed = patient.s3.generate_presigned_url(
        "get_object", Params={"Bucket": patient.bucket, "Key": patient.probe_key}
    )
    try:
        with counted_pool(patient.meter, unit=Unit.GETS) as http:
            answer = http.request("GET", signed.partition("?")[0], timeout=6, retries=2, redirect=False)
    except HTTPError as error:
        yield down(_one_line(error), fix="run again when the store answers")
        return
    if answer.status == 200:
        yield problem(
            "anybody can read the bucket's objects without credentials",
            fix="remove the bucket policy or ACL that makes it public, and switch Block Public Access on",
        )
    else:
        yield ok(f"a request without credentials is refused (HTTP {answer.status})")


def public_access(patient: Patient) -> Iterator[Finding]:
    """Block Public Access is on, all four parts of it."""
    fix = "switch all four settings of Block Public Access on (`photo-pipeline provision`)"
    try:
        answer = patient.s3.get_public_access_block(Bucket=patient.bucket)
    except ClientError as error:
        if error_code(error) == "NoSuchPublicAccessBlockConfiguration" and not is_aws(patient.config.store):
            yield skipped("none is set on this server; `bucket is private` says what it does without")
        elif error_code(error) == "NoSuchPublicAccessBlockConfiguration":
            yield problem("it is off", fix=fix)
        else:
            yield _not_seen(patient, error, "s3:GetBucketPublicAccessBlock")
        return
    settings = answer.get("PublicAccessBlockConfiguration", {})
    if not settings and not is_aws(patient.config.store):
        # Some servers answer what they do not know with something else.
        yield skipped("this server has no such thing; `bucket is private` says what it does without")
        return
    off = [name for name in _BLOCKS if not settings.get(name)]
    yield problem(f"it is off for {', '.join(off)}", fix=fix) if off else ok("all four settings are on")


def versioning(patient: Patient) -> Iterator[Finding]:
    """The bucket keeps earlier versions, so that a deletion can be undone."""
    try:
        status = patient.s3.get_bucket_versioning(Bucket=patient.bucket).get("Status")
    except ClientError as error:
        yield _not_seen(patient, error, "s3:GetBucketVersioning")
        return
    if status == "Enabled":
        yield ok("on")
    else:
        unable = (
            "" if is_aws(patient.config.store) else "; where the server cannot, back the bucket up yourself"
        )
        yield problem(
            "it is off: what is deleted by mistake cannot be brought back",
            fix=f"switch it on (`photo-pipeline provision`, or aws s3api put-bucket-versioning --bucket "
            f"{patient.bucket} --versioning-configuration Status=Enabled){unable}",
        )


def _not_seen(patient: Patient, error: ClientError, action: str) -> Finding:
    if error_code(error) in _NOT_THERE and not is_aws(patient.config.store):
        return skipped("this server has no such thing")
    return skipped(f"cannot be looked at ({error_code(error)}); allow {action} to have it checked")


def verification(patient: Patient) -> Iterator[Finding]:
    """How uploads are proven on this store."""
    try:
        probe = ask_store(PhotoStore.open(patient.config.store, meter=patient.meter))
    finally:
        patient.forget_versions(f"{patient.config.store.prefix}/.probe/")
    cost = {
        "checksum": "cheap: one HEAD an object, by its SHA-256",
        "etag": "cheap: one HEAD an object just sent, by its MD5; others are read back",
        "read_back": "full: each object is read back",
    }[probe.verification]
    yield ok(f"{cost}; the server {' and '.join(probe.lacking) or 'checks checksums and conditions'}")


_READY = ("bucket", "credentials accepted", "region")
CHECKS = (
    Check("AWS credentials", _GROUP, credentials, ("configuration",)),
    Check("store answers", _GROUP, answers, ("AWS credentials",)),
    Check("clock", _GROUP, clock, ("store answers",)),
    Check("credentials accepted", _GROUP, accepted, ("store answers",)),
    Check("bucket", _GROUP, bucket, ("store answers", "credentials accepted")),
    Check("region", _GROUP, region, ("bucket",)),
    _permission("s3:PutObject", "stored a probe object", _put),
    _permission("s3:GetObject", "read it back", _get),
    _permission("s3:ListBucket", "listed it", _list),
    Check("bucket is private", _GROUP, private, ("may PutObject",)),
    _permission("s3:DeleteObject", "deleted it", _delete),
    Check("Block Public Access", _GROUP, public_access, _READY),
    Check("versioning", _GROUP, versioning, _READY),
    Check("verification", _GROUP, verification, ("may GetObject", "may ListBucket", "may DeleteObject")),
)
"""In the order in which they are looked at: the probe object is deleted after the last look at it."""
