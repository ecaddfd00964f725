"""What is provisioned: all of it, once; what is changed by hand is found and mended; what is others' stays.

S3, SNS, CloudWatch, ACM and Budgets are moto's over HTTP, CloudFront is a stub's (`pretend_aws`).
"""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError, InfrastructureError
from photo_pipeline.core.provisioning.aws import aws_errors
from photo_pipeline.core.provisioning.bucket import LOGS
from photo_pipeline.core.provisioning.distribution import Distribution
from photo_pipeline.core.provisioning.plan import apply_plan, make_plan, require_digest
from photo_pipeline.core.provisioning.resource import World
from photo_pipeline_tests.core.provisioning.breaks import (
    ON_ALERTS,
    ON_CLOUDFRONT,
    ON_THE_BUCKET,
    Break,
    distribution,
    rounds,
)
from photo_pipeline_tests.core.provisioning.conftest import ENVIRONMENT
from photo_pipeline_tests.core.provisioning.worlds import EVERYTHING, applied, found, make_world
from photo_pipeline_tests.pretend_aws import PretendAws
from photo_pipeline_tests.rclone_server import RcloneServer


@pytest.fixture(scope="module")
def standing(pretend_aws: PretendAws) -> World:
    """Everything, set up once; tests mend what they break."""
    world = make_world("my-photos", provision=EVERYTHING)
    applied(world)
    return world


def assert_found_and_mended(world: World, *broken: Break) -> None:
    for each in broken:
        each.act(world)
    plan = make_plan(world)
    assert sorted(found(plan)) == sorted((each.resource, each.path) for each in broken)
    assert apply_plan(world, plan).after.changes == ()


QUIET = {"access_logs": {"enabled": False}, "cdn": {"enabled": False}, "alerts": {"enabled": False}}
"""The bucket alone."""


def rules(world: World) -> dict[str, Any]:
    answer = world.aws.s3.get_bucket_lifecycle_configuration(Bucket=world.bucket)
    return {rule["ID"]: rule for rule in answer["Rules"]}


# --- plan, apply, plan


def test_a_plan_changes_nothing(pretend_aws: PretendAws) -> None:
    before = len(pretend_aws.requests)
    plan = make_plan(make_world("only-planned", provision=EVERYTHING))
    asked = {request.split()[0] for request in pretend_aws.requests[before:] if "only-planned" in request}
    assert asked == {"GET", "HEAD"}
    assert {change.action for change in plan.changes} == {"create"}
    with pytest.raises(ClientError):
        make_world("only-planned").aws.s3.head_bucket(Bucket="only-planned")


def test_everything_is_set_up_at_once_and_a_second_plan_is_empty_with_a_cloudfront_stub(
    pretend_aws: PretendAws,
) -> None:
    world = make_world("from-nothing", provision=EVERYTHING)
    plan = make_plan(world)
    done = apply_plan(world, plan)
    assert done.changes
    # What a creation brings along needs no change of its own.
    assert {change.resource for change in done.changes} <= {change.resource for change in plan.changes}
    assert done.after.changes == ()
    assert done.after.warnings == ()
    again = apply_plan(world, make_plan(world))
    assert again.changes == ()
    assert len(again.after.unchanged) == 28


def test_a_configuration_without_any_provision_section_is_set_up_too(pretend_aws: PretendAws) -> None:
    world = make_world("plain-photos")
    assert applied(world).after.is_clean
    tags = world.aws.s3.get_bucket_tagging(Bucket="plain-photos")["TagSet"]
    assert tags == [{"Key": "managed-by", "Value": "photo_pipeline"}]


def test_only_the_agreed_plan_is_applied(standing: World) -> None:
    plan = make_plan(standing)
    require_digest(plan, plan.digest)
    standing.aws.s3.put_bucket_versioning(
        Bucket=standing.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    other = make_plan(standing)
    with pytest.raises(GuardRefusedError, match="another plan"):
        require_digest(other, plan.digest)
    # An older plan's apply leaves alone what it did not name.
    assert apply_plan(standing, plan).changes == ()
    assert applied(standing).after.changes == ()


def test_an_apply_that_was_cut_off_is_completed_by_the_next(pretend_aws: PretendAws) -> None:
    world = make_world("cut-off", provision={**EVERYTHING, **QUIET, "access_logs": {}})

    def cut(_: object) -> None:
        raise InfrastructureError("the network", cause="it is gone")

    for _ in range(3):
        with pytest.raises(InfrastructureError):
            apply_plan(world, make_plan(world), changed=cut)
    assert applied(world).after.changes == ()


# --- drift


@pytest.mark.parametrize("broken", rounds(), ids=lambda broken: f"{len(broken)}-at-once")
def test_what_is_changed_by_hand_is_found_exactly_and_mended_with_a_cloudfront_stub(
    standing: World, broken: tuple[Break, ...]
) -> None:
    assert_found_and_mended(standing, *broken)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [*ON_THE_BUCKET, *ON_ALERTS], ids=str)
def test_each_single_change_by_hand_is_found_and_mended(standing: World, broken: Break) -> None:
    assert_found_and_mended(standing, broken)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ON_CLOUDFRONT, ids=str)
def test_each_single_change_of_the_cdn_is_found_and_mended_on_a_cloudfront_stub(
    standing: World, broken: Break
) -> None:
    assert_found_and_mended(standing, broken)


def test_a_rule_of_ours_that_was_made_to_delete_photos_is_drift_and_a_warning(standing: World) -> None:
    s3 = standing.aws.s3
    present = list(rules(standing).values())
    present[0]["Expiration"] = {"Days": 30}
    s3.put_bucket_lifecycle_configuration(Bucket=standing.bucket, LifecycleConfiguration={"Rules": present})
    plan = make_plan(standing)
    assert found(plan) == [("bucket.lifecycle", "photo-pipeline-photos.Expiration")]
    assert "deletes objects below photos/" in plan.warnings[0]
    assert apply_plan(standing, plan).after.is_clean


# --- what is not ours

FOREIGN_RULE = {
    "ID": "exports",
    "Status": "Enabled",
    "Filter": {"Prefix": "exports/"},
    "Expiration": {"Days": 7},
}
FOREIGN_STATEMENT = {
    "Sid": "Partner",
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::999999999999:root"},
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::taken-over/exports/*",
}
FOREIGN_CORS = {"ID": "tools", "AllowedOrigins": ["https://tools.example"], "AllowedMethods": ["GET"]}


def test_what_others_have_set_up_in_a_bucket_survives_and_is_no_difference(pretend_aws: PretendAws) -> None:
    world = make_world("taken-over", provision=EVERYTHING | QUIET)
    s3, bucket = world.aws.s3, "taken-over"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [FOREIGN_RULE]})
    s3.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [FOREIGN_STATEMENT]})
    )
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [FOREIGN_CORS]})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "cost", "Value": "42"}]})
    assert applied(world).after.is_clean
    assert rules(world)["exports"] == FOREIGN_RULE
    statements = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert FOREIGN_STATEMENT in statements
    cors = s3.get_bucket_cors(Bucket=bucket)["CORSRules"]
    assert {rule["ID"] for rule in cors} == {"tools", "photo-pipeline-uploads"}
    assert {"Key": "cost", "Value": "42"} in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]


def test_what_is_switched_off_is_removed_and_only_that(pretend_aws: PretendAws) -> None:
    applied(make_world("smaller", provision=EVERYTHING | QUIET))
    world = make_world(
        "smaller", provision={**EVERYTHING, **QUIET, "upload_origins": [], "replication": None}
    )
    world.aws.s3.put_bucket_cors(
        Bucket="smaller",
        CORSConfiguration={
            "CORSRules": [FOREIGN_CORS, *world.aws.s3.get_bucket_cors(Bucket="smaller")["CORSRules"]]
        },
    )
    assert {change.resource for change in applied(world).changes} == {"bucket.cors", "bucket.replication"}
    assert [rule["ID"] for rule in world.aws.s3.get_bucket_cors(Bucket="smaller")["CORSRules"]] == ["tools"]
    with pytest.raises(ClientError, match="ReplicationConfigurationNotFound"):
        world.aws.s3.get_bucket_replication(Bucket="smaller")


def test_an_alarm_that_is_switched_off_is_deleted_and_a_foreign_one_is_not(pretend_aws: PretendAws) -> None:
    world = make_world("quieter", provision=EVERYTHING)
    applied(world)
    other = {"Namespace": "X", "MetricName": "Y", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0}
    world.aws.cloudwatch.put_metric_alarm(
        AlarmName="mine", ComparisonOperator="GreaterThanThreshold", Statistic="Sum", **other
    )
    quieter = make_world(
        "quieter", provision=EVERYTHING | {"alerts": EVERYTHING["alerts"] | {"latency_ms": None}}
    )
    assert found(make_plan(quieter)) == [("alerts.alarms", "photo-pipeline-quieter-latency")]
    applied(quieter)
    names = {each["AlarmName"] for each in world.aws.cloudwatch.describe_alarms()["MetricAlarms"]}
    assert "photo-pipeline-quieter-latency" not in names
    assert {"mine", "photo-pipeline-quieter-cost"} <= names


@pytest.mark.slow
def test_another_installation_whose_name_begins_alike_keeps_its_alarms(pretend_aws: PretendAws) -> None:
    applied(make_world("alike-staging", provision=EVERYTHING))
    world = make_world("alike", provision=EVERYTHING)
    assert applied(world).after.is_clean
    names = {each["AlarmName"] for each in world.aws.cloudwatch.describe_alarms()["MetricAlarms"]}
    for kind in ("latency", "cost", "unusual-access"):
        assert {f"photo-pipeline-alike-{kind}", f"photo-pipeline-alike-staging-{kind}"} <= names


def test_others_settings_of_the_distribution_survive_on_a_cloudfront_stub(standing: World) -> None:
    def extend(config: dict[str, Any]) -> None:
        origin = {
            "Id": "blog",
            "DomainName": "blog.example",
            "CustomOriginConfig": {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"},
        }
        config["Origins"] = {"Quantity": 2, "Items": [*config["Origins"]["Items"], origin]}
        behaviour = {
            "PathPattern": "/blog/*",
            "TargetOriginId": "blog",
            "ViewerProtocolPolicy": "https-only",
            "CachePolicyId": config["DefaultCacheBehavior"]["CachePolicyId"],
        }
        config["CacheBehaviors"] = {"Quantity": 1, "Items": [behaviour]}
        config["WebACLId"] = "acl"

    distribution(extend)(standing)
    assert make_plan(standing).changes == ()
    distribution(lambda config: config.update(Enabled=False))(standing)
    applied(standing)
    answer = standing.aws.cloudfront.get_distribution_config(Id=standing.outputs["distribution.id"])
    config = answer["DistributionConfig"]
    assert config["Enabled"]
    assert config["WebACLId"] == "acl"
    assert [each["Id"] for each in config["Origins"]["Items"]] == ["blog", "photo-pipeline-s3"]
    assert config["CacheBehaviors"]["Items"][0]["PathPattern"] == "/blog/*"


def test_a_lifecycle_rule_of_others_that_would_delete_photos_is_a_warning_and_stays(
    pretend_aws: PretendAws,
) -> None:
    world = make_world("in-danger", provision=QUIET)
    applied(world)
    present = list(rules(world).values())
    for rule in (
        {"ID": "sweep", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 90}},
        {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "originals/ab"}, "Expiration": {"Days": 1}},
        {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}},
        {"ID": "apart", "Status": "Enabled", "Filter": {"Prefix": "photos-old/"}, "Expiration": {"Days": 1}},
    ):
        present.append(rule)
    world.aws.s3.put_bucket_lifecycle_configuration(
        Bucket="in-danger", LifecycleConfiguration={"Rules": present}
    )
    plan = make_plan(world)
    assert plan.changes == ()
    assert not plan.is_clean
    named = {warning.split("'")[1] for warning in plan.warnings}
    assert named == {"sweep", "old"}
    assert {"sweep", "old", "off", "apart"} <= set(rules(world))


def _foreign_logs_bucket(world: World) -> None:
    world.aws.s3.create_bucket(
        Bucket="foreign-logs", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )


def _foreign_topic(world: World) -> None:
    world.aws.sns.create_topic(Name=world.name)


def _foreign_alarm(world: World) -> None:
    world.aws.cloudwatch.put_metric_alarm(
        AlarmName=f"{world.name}-latency",
        ComparisonOperator="GreaterThanThreshold",
        Namespace="X",
        MetricName="Y",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        Statistic="Sum",
    )


def _foreign_access_control(world: World) -> None:
    world.aws.cloudfront.create_origin_access_control(
        OriginAccessControlConfig={
            "Name": world.name,
            "SigningProtocol": "sigv4",
            "SigningBehavior": "never",
            "OriginAccessControlOriginType": "s3",
        }
    )


@pytest.mark.parametrize(
    ("bucket", "occupy"),
    [
        ("foreign", _foreign_logs_bucket),
        ("taken-topic", _foreign_topic),
        ("taken-alarm", _foreign_alarm),
        ("taken-oac", _foreign_access_control),
    ],
)
def test_a_name_that_somebody_else_has_taken_is_refused(
    pretend_aws: PretendAws, bucket: str, occupy: Any
) -> None:
    world = make_world(bucket)
    occupy(world)
    with pytest.raises(GuardRefusedError, match="not create") as refused:
        make_plan(world)
    assert refused.value.fix


# --- lifecycle


@pytest.mark.parametrize("lifecycle", [{}, {"intelligent_tiering": True}, {"cold_class": "STANDARD_IA"}])
def test_no_rule_deletes_originals_or_served_variants(pretend_aws: PretendAws, lifecycle: Any) -> None:
    world = make_world("kept", provision={**QUIET, "lifecycle": lifecycle})
    applied(world)
    for name, rule in rules(world).items():
        expires = "Expiration" in rule
        assert expires == (name in ("photo-pipeline-incoming", "photo-pipeline-documents"))
        classes = {each["StorageClass"] for each in rule.get("Transitions", [])}
        # All of these answer a GET at once; GLACIER and DEEP_ARCHIVE do not.
        assert classes <= {"GLACIER_IR", "STANDARD_IA", "INTELLIGENT_TIERING"}
    assert rules(world)["photo-pipeline-incoming"]["Expiration"] == {"Days": 1}
    assert rules(world)["photo-pipeline-documents"]["Expiration"]["Days"] >= 7 * 365


@pytest.mark.parametrize("prefix", ["photos", "photos/new", "originals", "originals-backups/x"])
@pytest.mark.parametrize("name", ["incoming_prefix", "documents_prefix"])
def test_a_prefix_that_expires_may_not_hold_what_must_stay(name: str, prefix: str) -> None:
    with pytest.raises(ValueError, match="must not contain each other"):
        make_world("any", provision={"lifecycle": {name: prefix}})


# --- the CDN's parts


@pytest.mark.slow
def test_a_domain_waits_for_its_certificate_and_is_used_when_it_is_issued_on_a_cloudfront_stub(
    pretend_aws: PretendAws,
) -> None:
    domain = {"domain": "cdn.shop.example"}
    world = make_world("with-domain", provision={**QUIET, "cdn": domain})
    applied(world)
    (certificate,) = world.aws.acm.list_certificates()["CertificateSummaryList"]
    arn = certificate["CertificateArn"]
    waiting = make_plan(world)
    if waiting.notes:  # moto issues a certificate a minute after it was requested
        assert "put the CNAME record" in waiting.notes[0]
        assert waiting.changes == ()
    named = make_world("with-domain", provision={**QUIET, "cdn": {**domain, "certificate_arn": arn}})
    applied(named)
    assert make_plan(named).changes == ()
    config = named.aws.cloudfront.get_distribution_config(Id=named.outputs["distribution.id"])
    assert config["DistributionConfig"]["Aliases"]["Items"] == ["cdn.shop.example"]
    assert config["DistributionConfig"]["ViewerCertificate"]["MinimumProtocolVersion"] == "TLSv1.2_2021"


@pytest.mark.slow
def test_a_routing_function_is_attached_by_name_on_a_cloudfront_stub(pretend_aws: PretendAws) -> None:
    unknown = make_world("routed", provision={**QUIET, "cdn": {"routing_function": "photo-routing"}})
    with pytest.raises(ConfigurationError, match="no published CloudFront Function"):
        make_plan(unknown)
    unknown.aws.cloudfront.create_function(
        Name="photo-routing",
        FunctionConfig={"Comment": "", "Runtime": "cloudfront-js-2.0"},
        FunctionCode=b"function handler(event) { return event.request; }",
    )
    applied(unknown)
    config = unknown.aws.cloudfront.get_distribution_config(Id=unknown.outputs["distribution.id"])
    (attached,) = config["DistributionConfig"]["DefaultCacheBehavior"]["FunctionAssociations"]["Items"]
    assert attached["EventType"] == "viewer-request"
    assert attached["FunctionARN"].endswith(":function/photo-routing")
    # With no function configured, one that is attached stays.
    assert make_plan(make_world("routed", provision={**QUIET, "cdn": {}})).changes == ()


@pytest.mark.slow
def test_a_distribution_that_the_user_made_is_left_alone_and_may_read_on_a_cloudfront_stub(
    pretend_aws: PretendAws,
) -> None:
    alone = {**QUIET, "cdn": {}}
    theirs = make_world("theirs", provision=alone)
    origin = {
        "Id": "o",
        "DomainName": "theirs.s3.eu-central-1.amazonaws.com",
        "S3OriginConfig": {"OriginAccessIdentity": ""},
    }
    made = theirs.aws.cloudfront.create_distribution_with_tags(
        DistributionConfigWithTags={
            "DistributionConfig": {
                "CallerReference": "theirs",
                "Comment": "shop",
                "Enabled": True,
                "Origins": {"Quantity": 1, "Items": [origin]},
                "DefaultCacheBehavior": {"TargetOriginId": "o", "ViewerProtocolPolicy": "allow-all"},
            },
            "Tags": {"Items": []},
        }
    )["Distribution"]
    world = make_world("theirs", cdn={"distribution_id": made["Id"]}, provision=alone)
    done = applied(world)
    assert "cdn.distribution" not in {change.resource for change in done.changes}
    assert "was not created by photo_pipeline" in done.after.notes[0]
    policy = json.loads(world.aws.s3.get_bucket_policy(Bucket="theirs")["Policy"])["Statement"]
    reads = next(each for each in policy if each["Sid"] == "PhotoPipelineCdnReads")
    assert reads["Condition"] == {"StringEquals": {"AWS:SourceArn": made["ARN"]}}


def test_the_cdn_may_read_only_what_is_served(standing: World) -> None:
    statements = json.loads(standing.aws.s3.get_bucket_policy(Bucket=standing.bucket)["Policy"])["Statement"]
    allowed = [each for each in statements if each["Effect"] == "Allow"]
    assert [each["Resource"] for each in allowed] == ["arn:aws:s3:::my-photos/photos/*"]
    assert [each["Action"] for each in allowed] == ["s3:GetObject"]
    arn = standing.outputs["distribution.arn"]
    assert allowed[0]["Condition"] == {"StringEquals": {"AWS:SourceArn": arn}}


# --- other servers, other troubles


def test_a_change_by_somebody_else_between_reading_and_writing_is_refused_on_a_cloudfront_stub(
    standing: World,
) -> None:
    resource = Distribution()
    with aws_errors(resource.name):
        reading = resource.read(standing)
        desired = resource.desired(standing, reading)
    assert desired is not None
    distribution(lambda config: config.update(WebACLId="theirs"))(standing)
    with pytest.raises(GuardRefusedError, match="somebody else is changing it"), aws_errors(resource.name):
        resource.write(standing, reading, desired)


def test_names_fit_into_what_aws_takes() -> None:
    long = make_world("b" * 63)
    assert len(long.name) <= 64
    assert len(LOGS.name(long)) <= 63
    assert long.name != make_world("b" * 62 + "c").name
    assert make_world("my.photos").name == "photo-pipeline-my-photos"


def test_with_an_s3_compatible_server_only_the_bucket_is_set_up(pretend_aws: PretendAws) -> None:
    store = {"bucket": "own-server", "region": "us-east-1", "endpoint_url": pretend_aws.url}
    world = make_world("own-server", store=store, provision={"upload_origins": ["https://shop.example"]})
    done = applied(world)
    assert {change.resource.split(".")[0] for change in done.changes} == {"bucket"}
    assert done.after.is_clean
    with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
        world.aws.s3.get_bucket_policy(Bucket="own-server")


def test_what_a_server_does_not_know_is_left_out_and_named(pretend_aws: PretendAws) -> None:
    store = {"bucket": "small-server", "region": "us-east-1", "endpoint_url": pretend_aws.url}
    world = make_world("small-server", store=store)
    pretend_aws.unknown |= {"GET versioning", "PUT encryption"}
    try:
        plan = make_plan(world)
        assert plan.unsupported == ("bucket.versioning",)
        done = apply_plan(world, plan)
    finally:
        pretend_aws.unknown.clear()
    assert done.after.unsupported == ("bucket.versioning", "bucket.encryption")
    assert done.after.is_clean
    assert "bucket.lifecycle" in {change.resource for change in done.changes}


def test_on_rclone_which_knows_no_settings_there_is_only_the_bucket(
    pretend_aws: PretendAws, tmp_path: Path
) -> None:
    keys = ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
    server = RcloneServer.start(tmp_path, bucket="other", access_key=keys[0], secret_key=keys[1])
    try:
        store = {"bucket": "on-rclone", "region": "us-east-1", "endpoint_url": server.servers.s3_url}
        world = make_world("on-rclone", store=store)
        done = applied(world)
        assert [change.resource for change in done.changes] == ["bucket"]
        assert done.after.is_clean
        assert "bucket.lifecycle" in done.after.unsupported
        assert (tmp_path / "on-rclone").is_dir()
    finally:
        server.stop()


def test_a_key_of_aws_own_that_the_cdn_cannot_use_is_refused(pretend_aws: PretendAws) -> None:
    store = {"bucket": "kms-photos", "region": "eu-central-1", "encryption": "aws:kms"}
    with pytest.raises(ConfigurationError, match="CloudFront may not use"):
        make_plan(make_world("kms-photos", store=store))


def test_a_kms_key_becomes_the_default_with_a_bucket_key(pretend_aws: PretendAws) -> None:
    key = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    store = {"bucket": "own-key", "region": "eu-central-1", "encryption": None}
    world = make_world("own-key", store=store, provision={**QUIET, "kms_key": key})
    assert applied(world).after.is_clean
    answer = world.aws.s3.get_bucket_encryption(Bucket="own-key")
    (rule,) = answer["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["BucketKeyEnabled"]
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == key


def test_a_bucket_in_another_region_is_refused(pretend_aws: PretendAws) -> None:
    world = make_world("far-away")
    world.aws.s3.create_bucket(
        Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    elsewhere = make_world("far-away", store={"bucket": "far-away", "region": "us-west-2"})
    with pytest.raises(ConfigurationError, match="it is in region 'eu-central-1'"):
        make_plan(elsewhere)


def test_without_credentials_the_message_says_what_to_set(
    pretend_aws: PretendAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match="Set AWS_ACCESS_KEY_ID"):
        make_plan(make_world("nobody"))
