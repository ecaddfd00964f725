"""The policies of the roles, on a server that enforces IAM (moto), and the provisioner's against the code.

What moto judges in its own way is told to it here: it names the permission of HeadBucket after the call (AWS
wants s3:ListBucket), and knows no resources outside S3. Which calls a role may make is written down by hand.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from moto.core.base_backend import BackendDict
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from photo_pipeline.core import provisioning
from photo_pipeline.core.config import PipelineConfig, StoreSettings
from photo_pipeline.core.errors import StoreRefusedError
from photo_pipeline.core.provisioning.bucket import LOGS
from photo_pipeline.core.provisioning.roles import ROLES, Role, policy
from photo_pipeline.core.storage.probe import ask_store
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline.demo.http_serving import serve_in_background
from photo_pipeline_tests.core.provisioning.worlds import document, make_world
from photo_pipeline_tests.sockets import listening_socket

BUCKET = "guarded-photos"
FOLDERS = ("photos", "originals", "originals-backups", "incoming", "photos/.probe", "exports")
CONFIG = PipelineConfig.model_validate(document(BUCKET))


@dataclass(frozen=True)
class Guarded:
    """A server that enforces IAM, and the keys of one user a role."""

    url: str
    keys: dict[str, dict[str, str]]
    distribution: str

    def client(self, service: str, role: str) -> Any:
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1", **self.keys[role])


def _for_moto(document: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(document).replace('"s3:ListBucket"', '"s3:ListBucket", "s3:HeadBucket"')
    return json.loads(re.sub(r'"arn:aws:cloudfront:[^"]*"', '"*"', text))


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    listener = listening_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    BackendDict.reset()
    server = serve_in_background(DomainDispatcherApplication(create_backend_app), listener)
    anybody = {"aws_access_key_id": "AKIAROOT", "aws_secret_access_key": "root"}
    root = Guarded(url, {"root": anybody}, "")
    iam, s3 = root.client("iam", "root"), root.client("s3", "root")
    keys = {}
    for role in ROLES:
        iam.create_user(UserName=role)
        text = json.dumps(_for_moto(policy(CONFIG, role)))
        iam.put_user_policy(UserName=role, PolicyName="p", PolicyDocument=text)
        key = iam.create_access_key(UserName=role)["AccessKey"]
        keys[role] = {
            "aws_access_key_id": key["AccessKeyId"],
            "aws_secret_access_key": key["SecretAccessKey"],
        }
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for folder in FOLDERS:
        s3.put_object(Bucket=BUCKET, Key=f"{folder}/here", Body=b"photo")
    requests.post(f"{url}/moto-api/reset-auth", data=b"0", timeout=10)
    yield Guarded(url, keys, "E2EXAMPLE")
    requests.post(f"{url}/moto-api/reset-auth", data=b"inf", timeout=10)
    server.shutdown()
    server.server_close()
    BackendDict.reset()


Call = Callable[[Any, str], object]


@dataclass(frozen=True)
class Attempt:
    """A call of S3's, and the roles that may make it."""

    name: str
    call: Call
    roles: frozenset[str]


def _on(method: str, *folders: str, roles: str, **options: Any) -> list[Attempt]:
    def call(folder: str) -> Call:
        return lambda s3, _: getattr(s3, method)(Bucket=BUCKET, Key=f"{folder}/here", **options)

    what = f"{method} of a version" if "VersionId" in options else method
    return [Attempt(f"{what} {folder}", call(folder), frozenset(roles.split())) for folder in folders]


def _bucket(method: str, roles: str = "", **options: Any) -> Attempt:
    return Attempt(
        method, lambda s3, _: getattr(s3, method)(Bucket=BUCKET, **options), frozenset(roles.split())
    )


def _in_parts(s3: Any, _: str) -> None:
    made = s3.create_multipart_upload(Bucket=BUCKET, Key="photos/big")
    s3.abort_multipart_upload(Bucket=BUCKET, Key="photos/big", UploadId=made["UploadId"])


# The cleaner last: what it deletes is gone for the others.
EVERYBODY = "migrator uploader reader cleaner"
DOCUMENT = json.dumps({"Version": "2012-10-17", "Statement": []})
ATTEMPTS = [
    _bucket("head_bucket", EVERYBODY),
    _bucket("list_objects_v2", EVERYBODY),
    _bucket("list_object_versions", "cleaner"),
    _bucket("get_bucket_versioning", "migrator cleaner reader"),
    *_on("get_object", "photos", "originals", roles=EVERYBODY),
    *_on("head_object", "photos", "originals", roles=EVERYBODY),
    *_on("get_object", "originals-backups", roles="migrator cleaner reader"),
    *_on("get_object", "incoming", roles="uploader"),
    *_on("get_object", "exports", roles=""),
    *_on("get_object", "photos", roles="", VersionId="null"),
    *_on("put_object", "photos", "originals", roles="migrator uploader", Body=b"new"),
    *_on("put_object", "originals-backups", roles="migrator", Body=b"new"),
    *_on("put_object", "incoming", roles="uploader", Body=b"new"),
    *_on("put_object", "photos/.probe", roles="migrator uploader cleaner", Body=b"new"),
    *_on("put_object", "exports", roles="", Body=b"new"),
    Attempt("an upload in parts", _in_parts, frozenset({"migrator", "uploader"})),
    *_on("list_parts", "photos", roles="", UploadId="x"),
    *_on("delete_object", "photos", "originals", roles="cleaner"),
    *_on("delete_object", "incoming", roles="uploader"),
    *_on("delete_object", "photos/.probe", roles="migrator uploader cleaner"),
    *_on("delete_object", "originals-backups", "exports", roles=""),
    *_on("delete_object", "photos", "originals", roles="cleaner", VersionId="none"),
    *_on("delete_object", "photos/.probe", roles="migrator cleaner", VersionId="none"),
    *_on("get_object_tagging", "photos", roles=""),
    *_on("put_object_tagging", "photos", roles="", Tagging={"TagSet": []}),
    *_on("put_object_acl", "photos", roles="", ACL="public-read"),
    _bucket("get_bucket_policy"),
    _bucket("put_bucket_policy", Policy=DOCUMENT),
    _bucket("delete_bucket_policy"),
    _bucket("get_bucket_lifecycle_configuration"),
    _bucket("put_bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": []}),
    _bucket("put_bucket_versioning", VersioningConfiguration={"Status": "Suspended"}),
    _bucket("put_bucket_cors", CORSConfiguration={"CORSRules": []}),
    _bucket("put_bucket_tagging", Tagging={"TagSet": []}),
    _bucket("put_bucket_acl", ACL="public-read"),
    _bucket("delete_bucket"),
    Attempt("create_bucket", lambda s3, role: s3.create_bucket(Bucket=f"of-{role}"), frozenset()),
    Attempt("list_buckets", lambda s3, _: s3.list_buckets(), frozenset()),
]


def _status(attempt: Attempt, s3: Any, role: str) -> int:
    try:
        attempt.call(s3, role)
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return 200


@pytest.mark.parametrize("role", EVERYBODY.split())
def test_each_allowed_call_succeeds_and_every_other_is_denied(guarded: Guarded, role: str) -> None:
    s3 = guarded.client("s3", role)
    answers = {attempt.name: _status(attempt, s3, role) for attempt in ATTEMPTS}
    assert answers == {attempt.name: 200 if role in attempt.roles else 403 for attempt in ATTEMPTS}
    assert len(answers) == len(ATTEMPTS)


@pytest.mark.parametrize(
    ("role", "may"), [("migrator", True), ("cleaner", True), ("uploader", False), ("reader", False)]
)
def test_only_who_changes_what_is_served_may_invalidate(guarded: Guarded, role: str, may: bool) -> None:
    paths = {"Paths": {"Quantity": 1, "Items": ["/photos/x"]}, "CallerReference": role}
    with pytest.raises(ClientError) as answer:
        guarded.client("cloudfront", role).create_invalidation(
            DistributionId=guarded.distribution, InvalidationBatch=paths
        )
    # Who is let in learns that there is no such distribution.
    assert (answer.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404) == may


def _store(guarded: Guarded, role: Role, monkeypatch: pytest.MonkeyPatch) -> PhotoStore:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in guarded.keys[role].items():
        monkeypatch.setenv(name.upper(), value)
    return PhotoStore.open(StoreSettings(bucket=BUCKET, region="us-east-1", endpoint_url=guarded.url))


def test_the_migrators_own_code_works_with_its_policy(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(guarded, "migrator", monkeypatch)
    for prefix in ("photos", "originals", "originals-backups"):
        assert store.put_new(f"{prefix}/migrated", b"bytes", content_type="image/jpeg")
        assert store.read(f"{prefix}/migrated") == b"bytes"
    assert store.head("photos/nothing-here") is None
    assert ask_store(store)  # the store probe
    assert ("photos/migrated", 5) in list(store.list("photos/"))
    with pytest.raises(StoreRefusedError):
        store.delete("photos/migrated")


def test_the_uploaders_own_code_works_with_its_policy(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(guarded, "uploader", monkeypatch)
    assert store.put_new("incoming/upload", b"bytes", content_type="image/jpeg")
    assert store.put_new("photos/uploaded", b"bytes", content_type="image/jpeg")
    store.delete("incoming/upload")
    with pytest.raises(StoreRefusedError):
        store.put_new("exports/upload", b"bytes", content_type="image/jpeg")


# --- the provisioner, whose calls moto cannot judge

_SERVICES = ("s3", "cloudfront", "cloudwatch", "sns", "acm", "budgets")
# Permissions that are not called like the call.
_NAMED = {
    "s3:HeadBucket": {"s3:ListBucket"},
    "s3:GetPublicAccessBlock": {"s3:GetBucketPublicAccessBlock"},
    "s3:PutPublicAccessBlock": {"s3:PutBucketPublicAccessBlock"},
    "s3:GetBucketEncryption": {"s3:GetEncryptionConfiguration"},
    "s3:PutBucketEncryption": {"s3:PutEncryptionConfiguration"},
    "s3:GetBucketLifecycleConfiguration": {"s3:GetLifecycleConfiguration"},
    "s3:PutBucketLifecycleConfiguration": {"s3:PutLifecycleConfiguration"},
    "s3:GetBucketCors": {"s3:GetBucketCORS"},
    "s3:PutBucketCors": {"s3:PutBucketCORS"},
    "s3:DeleteBucketCors": {"s3:PutBucketCORS"},
    "s3:GetBucketReplication": {"s3:GetReplicationConfiguration"},
    "s3:PutBucketReplication": {"s3:PutReplicationConfiguration", "iam:PassRole"},
    "s3:DeleteBucketReplication": {"s3:PutReplicationConfiguration"},
    "cloudfront:CreateDistributionWithTags": {"cloudfront:CreateDistribution", "cloudfront:TagResource"},
    "cloudwatch:PutMetricAlarm": {"cloudwatch:PutMetricAlarm", "cloudwatch:TagResource"},
    "acm:RequestCertificate": {"acm:RequestCertificate", "acm:AddTagsToCertificate"},
    "sns:CreateTopic": {"sns:CreateTopic", "sns:TagResource"},
    "budgets:DescribeBudget": {"budgets:ViewBudget"},
    "budgets:DescribeNotificationsForBudget": {"budgets:ViewBudget"},
    "budgets:CreateBudget": {"budgets:ModifyBudget", "budgets:TagResource"},
    "budgets:UpdateBudget": {"budgets:ModifyBudget"},
    "budgets:CreateNotification": {"budgets:ModifyBudget"},
}


def _called(*folders: Path, services: tuple[str, ...] = _SERVICES) -> set[str]:
    """Return the API calls that the source below the folders makes."""
    text = "".join(each.read_text() for folder in folders for each in folder.rglob("*.py"))
    calls = set()
    for service in services:
        client = boto3.client(
            service, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        names = re.findall(rf'\b{service}\s*\.get_paginator\("(\w+)"\)', text)
        names += re.findall(rf"\b{service}\s*\.(\w+)", text)
        operations = client.meta.method_to_api_mapping
        calls |= {f"{service}:{operations[name]}" for name in names if name in operations}
    return calls


def test_the_provisioner_may_do_what_its_code_calls_and_nothing_else() -> None:
    copy = {"bucket": "elsewhere", "role_arn": "arn:aws:iam::123456789012:role/copy"}
    config = PipelineConfig.model_validate(document(BUCKET, provision={"replication": copy}))
    statements = policy(config, "provisioner")["Statement"]
    allowed = {action for each in statements for action in each["Action"] if each["Sid"] != "RoutingFunction"}
    calls = _called(Path(provisioning.__path__[0]))
    needed = set().union(*(_NAMED.get(call, {call}) for call in calls))
    assert needed - allowed <= {"cloudfront:DescribeFunction"}  # it is with those of the routing function
    assert allowed - needed == set()


# Permissions of calls on objects, where they are not called like the call.
_ON_OBJECTS = {
    "s3:HeadObject": {"s3:GetObject"},
    "s3:ListObjectsV2": {"s3:ListBucket"},
    "s3:ListObjectVersions": {"s3:ListBucketVersions"},
    "s3:CopyObject": {"s3:GetObject", "s3:PutObject"},
    "s3:CreateMultipartUpload": {"s3:PutObject"},
    "s3:UploadPart": {"s3:PutObject"},
    "s3:CompleteMultipartUpload": {"s3:PutObject"},
    "s3:ListMultipartUploads": {"s3:ListBucketMultipartUploads"},
    "s3:ListParts": {"s3:ListMultipartUploadParts"},
    "s3:DeleteObjects": {"s3:DeleteObject"},
}


def test_every_call_of_the_core_is_allowed_to_somebody() -> None:
    core = Path(provisioning.__path__[0]).parent
    folders = [each for each in core.iterdir() if each.is_dir() and each.name != "provisioning"]
    calls = _called(*folders, services=("s3", "cloudfront", "cloudwatch", "sns"))
    assert {"s3:HeadBucket", "cloudwatch:GetMetricStatistics", "sns:Publish"} <= calls
    needed = set().union(*(_ON_OBJECTS.get(call, _NAMED.get(call, {call})) for call in calls))
    topic = {"topic_arn": "arn:aws:sns:us-east-1:123456789012:alerts"}
    config = PipelineConfig.model_validate(document(BUCKET, alerts={"channels": ["sns"], "sns": topic}))
    allowed = {
        action for role in ROLES for each in policy(config, role)["Statement"] for action in each["Action"]
    }
    assert needed - allowed == set()


def test_no_role_may_do_everything_or_name_everything_of_s3() -> None:
    for role in ROLES:
        for each in policy(CONFIG, role)["Statement"]:
            assert each["Effect"] == "Allow"
            assert not any("*" in action for action in each["Action"])
            if each["Action"][0].startswith("s3:"):
                assert all(resource.startswith(f"arn:aws:s3:::{BUCKET}") for resource in each["Resource"])
                assert f"arn:aws:s3:::{BUCKET}/*" not in each["Resource"]


@pytest.mark.parametrize("bucket", ["photos", "p" * 63])
def test_the_provisioner_may_make_the_very_bucket_that_the_logs_go_to(bucket: str) -> None:
    world = make_world(bucket)
    named = {name for each in policy(world.config, "provisioner")["Statement"] for name in each["Resource"]}
    assert f"arn:aws:s3:::{LOGS.name(world)}" in named


def test_a_key_of_ones_own_may_be_used_by_who_reads_and_stores() -> None:
    key = "arn:aws:kms:eu-central-1:123456789012:key/x"
    config = PipelineConfig.model_validate(document(BUCKET, provision={"kms_key": key}))

    def of(role: Role) -> list[str]:
        return [
            a
            for each in policy(config, role)["Statement"]
            if each["Resource"] == [key]
            for a in each["Action"]
        ]

    assert of("uploader") == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert of("reader") == ["kms:Decrypt"]
