"""AWS Signature Version 4, from the server's side: is this request signed by the one who holds our secret?

The canonical request, the string to sign and the signature come from botocore; what is ours is reading the
claim from the request, rebuilding what the client must have signed, and the refusals that S3 answers with.
``SignedS3Client`` is the other side, for the edge and the controller. Bodies are checked in ``s3_guard``.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes
from wsgiref.types import WSGIEnvironment

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse, HTTPHeaders
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

REGION: Final = "us-east-1"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_TIMESTAMP: Final = "%Y%m%dT%H%M%SZ"
_MAX_SKEW: Final = timedelta(minutes=15)
_MAX_EXPIRY_S: Final = 7 * 24 * 3600


class S3Refusal(Exception):  # noqa: N818 - an answer of the protocol, not a failure of ours
    """The server's "no": an HTTP status with an S3 error code.

    Attributes:
        status: HTTP status code.
        code: S3 error code, such as ``SignatureDoesNotMatch``.
        message: One sentence for the client.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message
        super().__init__(f"{status} {code}: {message}")


@dataclass(frozen=True)
class SignatureClaim:
    """What a request says about its own signature, not believed yet.

    Attributes:
        access_key: Whose secret it is said to be signed with.
        scope_date: Date part of the credential scope, ``YYYYMMDD``.
        region: Region part of the credential scope; any is accepted.
        service: Service part of the credential scope.
        signed_headers: Lower-case names of the headers that are covered.
        signature: Hexadecimal signature.
        timestamp: When it was signed, ``YYYYMMDDTHHMMSSZ``.
        payload_hash: What is signed for the body: its SHA-256 in hexadecimal, or UNSIGNED-PAYLOAD.
        expires_s: Lifetime of a presigned URL in seconds; None for a signature in the Authorization header.
    """

    access_key: str
    scope_date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    payload_hash: str
    expires_s: int | None


def environ_key(header: str) -> str:
    """Return the WSGI environ key of a request header."""
    key = header.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


def verified_claim(environ: WSGIEnvironment, *, credentials: Credentials, now: datetime) -> SignatureClaim:
    """Return the request's signature claim after proving it, or raise the refusal that S3 answers with.

    Args:
        environ: The request; ``RAW_URI`` must hold its undecoded target.
        credentials: The only key pair that is accepted.
        now: The server's time, aware.
    """
    path, query = _target(environ)
    claim = _claim(environ, query)
    _check_scope(claim, credentials)
    _check_time(claim, now)
    _check_signed_headers(claim, environ)
    expected = _expected_signature(claim, environ, path=path, query=query, credentials=credentials)
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise S3Refusal(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        )
    return claim


def _target(environ: WSGIEnvironment) -> tuple[bytes, list[tuple[str, str]]]:
    """Split the raw request target into its decoded path and its decoded query, in order."""
    raw_path, _, raw_query = str(environ["RAW_URI"]).partition("?")
    pairs = (part.partition("=") for part in raw_query.split("&") if part)
    try:
        query = [(unquote(k, errors="strict"), unquote(v, errors="strict")) for k, _, v in pairs]
    except UnicodeDecodeError as error:
        raise S3Refusal(400, "InvalidURI", "Couldn't parse the specified URI.") from error
    return unquote_to_bytes(raw_path), query


def _claim(environ: WSGIEnvironment, query: list[tuple[str, str]]) -> SignatureClaim:
    fields = dict(query)
    authorization = str(environ.get("HTTP_AUTHORIZATION", ""))
    if authorization.startswith(f"{_ALGORITHM} "):
        return _header_claim(environ, authorization)
    if fields.get("X-Amz-Algorithm") == _ALGORITHM:
        return _query_claim(environ, fields)
    if authorization or "Signature" in fields or "X-Amz-Algorithm" in fields:
        raise S3Refusal(
            400,
            "InvalidRequest",
            f"The authorization mechanism you have provided is not supported. Please use {_ALGORITHM}.",
        )
    raise S3Refusal(403, "AccessDenied", "Access Denied")


def _header_claim(environ: WSGIEnvironment, authorization: str) -> SignatureClaim:
    pairs = (part.strip().partition("=") for part in authorization[len(_ALGORITHM) :].split(","))
    fields = {key: value for key, _, value in pairs}
    if not {"Credential", "SignedHeaders", "Signature"} <= fields.keys():
        raise S3Refusal(400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
    payload_hash = str(environ.get("HTTP_X_AMZ_CONTENT_SHA256", ""))
    if not payload_hash:
        raise S3Refusal(
            400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
        )
    return _parsed(
        credential=fields["Credential"],
        signed_headers=fields["SignedHeaders"],
        signature=fields["Signature"],
        timestamp=str(environ.get("HTTP_X_AMZ_DATE", "")),
        payload_hash=payload_hash,
        expires_s=None,
    )


def _query_claim(environ: WSGIEnvironment, fields: Mapping[str, str]) -> SignatureClaim:
    malformed = "AuthorizationQueryParametersError"
    names = {"X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Date", "X-Amz-Expires"}
    if not names <= fields.keys():
        raise S3Refusal(400, malformed, f"Query-string authentication requires {', '.join(sorted(names))}.")
    expires = fields["X-Amz-Expires"]
    if not (expires.isascii() and expires.isdigit() and 1 <= int(expires) <= _MAX_EXPIRY_S):
        raise S3Refusal(400, malformed, f"X-Amz-Expires must be between 1 and {_MAX_EXPIRY_S} seconds.")
    return _parsed(
        credential=fields["X-Amz-Credential"],
        signed_headers=fields["X-Amz-SignedHeaders"],
        signature=fields["X-Amz-Signature"],
        timestamp=fields["X-Amz-Date"],
        payload_hash=str(environ.get("HTTP_X_AMZ_CONTENT_SHA256", UNSIGNED_PAYLOAD)),
        expires_s=int(expires),
    )


def _parsed(
    *,
    credential: str,
    signed_headers: str,
    signature: str,
    timestamp: str,
    payload_hash: str,
    expires_s: int | None,
) -> SignatureClaim:
    scope = credential.split("/")
    if len(scope) != 5 or scope[4] != "aws4_request":
        raise S3Refusal(400, "AuthorizationHeaderMalformed", "The Credential is malformed.")
    return SignatureClaim(
        access_key=scope[0],
        scope_date=scope[1],
        region=scope[2],
        service=scope[3],
        signed_headers=tuple(signed_headers.lower().split(";")),
        signature=signature,
        timestamp=timestamp,
        payload_hash=payload_hash,
        expires_s=expires_s,
    )


def _check_scope(claim: SignatureClaim, credentials: Credentials) -> None:
    if claim.service != "s3":
        raise S3Refusal(
            400,
            "AuthorizationHeaderMalformed",
            f"The service '{claim.service}' is wrong; expecting 's3', all that the embedded server speaks.",
        )
    if not hmac.compare_digest(claim.access_key.encode(), credentials.access_key.encode()):
        raise S3Refusal(
            403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
        )


def _check_time(claim: SignatureClaim, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(claim.timestamp, _TIMESTAMP).replace(tzinfo=UTC)
    except ValueError as error:
        message = "AWS authentication requires a valid x-amz-date"
        raise S3Refusal(403, "AccessDenied", message) from error
    if claim.scope_date != claim.timestamp[:8]:
        raise S3Refusal(400, "AuthorizationHeaderMalformed", "The credential's date is not the request's.")
    if claim.expires_s is None and abs(now - signed_at) > _MAX_SKEW:
        raise S3Refusal(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )
    if claim.expires_s is not None and signed_at - now > _MAX_SKEW:
        raise S3Refusal(403, "AccessDenied", "Request is not yet valid")
    if claim.expires_s is not None and now > signed_at + timedelta(seconds=claim.expires_s):
        raise S3Refusal(403, "AccessDenied", "Request has expired")


def _check_signed_headers(claim: SignatureClaim, environ: WSGIEnvironment) -> None:
    signed = {environ_key(name) for name in claim.signed_headers}
    present = {key for key in environ if key.startswith("HTTP_X_AMZ_")}
    if claim.expires_s is not None:
        # Signers of URLs cannot know it; a wrong one still fails against the body.
        present.discard("HTTP_X_AMZ_CONTENT_SHA256")
    if "HTTP_HOST" not in signed or not present <= signed:
        raise S3Refusal(
            403, "AccessDenied", "There were headers present in the request which were not signed"
        )


class _ServerSideSigV4(S3SigV4Auth):
    """Botocore's signer, told what was signed instead of choosing it."""

    def __init__(self, credentials: Credentials, claim: SignatureClaim) -> None:
        super().__init__(credentials, "s3", claim.region)
        self._claim = claim

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        return request.headers

    def payload(self, request: AWSRequest) -> str:
        return self._claim.payload_hash


def _expected_signature(
    claim: SignatureClaim,
    environ: WSGIEnvironment,
    *,
    path: bytes,
    query: list[tuple[str, str]],
    credentials: Credentials,
) -> str:
    # Decoded and encoded again, as S3 does: clients may spell "~" or "+" either way on the wire.
    request = AWSRequest(
        method=str(environ["REQUEST_METHOD"]),
        url=f"http://{environ.get('HTTP_HOST', '')}{quote(path, safe='/~')}",
        params=[(key, value) for key, value in query if key != "X-Amz-Signature"],  # type: ignore[arg-type]
        headers={name: str(environ.get(environ_key(name), "")) for name in claim.signed_headers},
    )
    request.context["timestamp"] = claim.timestamp
    signer = _ServerSideSigV4(credentials, claim)
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(to_sign, request))


class SignedS3Client:
    """Signed requests to one bucket of the embedded server: no retries, no proxies, no redirects.

    boto3 would add 0.3 s of import and its own retries and checksums between the edge and the answer.
    """

    def __init__(self, s3_url: str, *, bucket: str, credentials: Credentials, timeout_s: int = 30) -> None:
        self._base = f"{s3_url}/{bucket}"
        self._signer = S3SigV4Auth(credentials, "s3", REGION)
        self._session = URLLib3Session(proxies={}, timeout=timeout_s, max_pool_connections=64)

    def send(self, method: str, key: str = "") -> AWSResponse:
        """Send a request without a body for the key, or for the bucket itself when the key is empty."""
        url = f"{self._base}/{quote(key, safe='/~')}" if key else self._base
        request = AWSRequest(method=method, url=url)
        self._signer.add_auth(request)
        return self._session.send(request.prepare())
