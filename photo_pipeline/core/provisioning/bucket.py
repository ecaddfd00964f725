"""A bucket and its settings that have one value each: access, ownership, encryption, versioning, tags.

The main bucket is the one that the configuration names; it may have been there before. The bucket for its
access logs is made by us, or it is the user's own business.
"""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from photo_pipeline.core.aws_errors import error_code
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError
from photo_pipeline.core.provisioning.aws import found, is_unsupported
from photo_pipeline.core.provisioning.difference import Document
from photo_pipeline.core.provisioning.resource import Reading, World, is_ours, shortened, tag_map


@dataclass(frozen=True)
class BucketKind:
    """Which bucket: what plans call it, and what its name adds to the configured one."""

    label: str
    suffix: str

    def name(self, world: World) -> str:
        """Return the bucket's name."""
        return self.of(world.bucket)

    def of(self, bucket: str) -> str:
        """Return the name that goes with the configured one."""
        # A bucket's name has at most 63 characters.
        return shortened(bucket, most=63 - len(self.suffix)) + self.suffix


MAIN = BucketKind("bucket", "")
LOGS = BucketKind("logs_bucket", "-logs")


@dataclass(frozen=True)
class Bucket:
    """The bucket itself. It is never deleted, and its region cannot be changed."""

    kind: BucketKind

    @property
    def name(self) -> str:
        """What plans call it."""
        return self.kind.label

    def read(self, world: World) -> Reading:
        """Return whether it is there, and where."""
        name = self.kind.name(world)
        head = self._head(world, name)
        if head is None:
            return Reading(None)
        region = head.get("BucketRegion") or head["ResponseMetadata"]["HTTPHeaders"].get(
            "x-amz-bucket-region"
        )
        if region not in (None, world.config.store.region) and world.aws.is_amazon:
            raise ConfigurationError(
                f"bucket {name!r}",
                cause=f"it is in region {region!r}, not {world.config.store.region!r}",
                fix="set store.region to the bucket's region",
            )
        self._require_ours(world, name)
        return Reading({"name": name})

    def _head(self, world: World, name: str) -> Any:
        try:
            return found(lambda: world.aws.s3.head_bucket(Bucket=name), "404")
        except ClientError as error:
            if error_code(error) != "403":
                raise
            raise ConfigurationError(
                f"bucket {name!r}",
                cause="it belongs to another account, or these credentials may not look at it (HTTP 403)",
                fix="take another store.bucket, or the policy of `provision policies --role provisioner`",
            ) from error

    def _require_ours(self, world: World, name: str) -> None:
        """Check that a bucket whose name we chose is not somebody else's; the main one's is the user's."""
        if self.kind is MAIN:
            return
        if is_ours(bucket_tags(world, name)):
            return
        raise GuardRefusedError(
            f"bucket {name!r}",
            cause="it was not created by photo_pipeline (it lacks the tag managed-by)",
            fix="name it as provision.access_logs.bucket to send the logs there as it is, or tag it "
            "managed-by=photo_pipeline to have it managed",
        )

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return its name."""
        return {"name": self.kind.name(world)}

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Create it, without ACLs from the first moment."""
        region = world.config.store.region
        place = {} if region == "us-east-1" or not world.aws.is_amazon else {"LocationConstraint": region}
        configuration = {"CreateBucketConfiguration": place} if place else {}
        name = desired["name"]
        world.aws.s3.create_bucket(Bucket=name, ObjectOwnership="BucketOwnerEnforced", **configuration)
        # At once: what is not tagged is not recognised as ours if we are interrupted here.
        try:
            world.aws.s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": world.tag_list})
        except ClientError as error:
            if not is_unsupported(error):
                raise


def bucket_tags(world: World, name: str) -> dict[str, str]:
    """Return the bucket's tags; none where there is no bucket."""
    answer = found(lambda: world.aws.s3.get_bucket_tagging(Bucket=name), "NoSuchTagSet")
    return tag_map(answer["TagSet"]) if answer else {}


@dataclass(frozen=True)
class Tags:
    """The bucket's tags; those of others stay."""

    kind: BucketKind

    @property
    def name(self) -> str:
        """What plans call it."""
        return f"{self.kind.label}.tags"

    def read(self, world: World) -> Reading:
        """Return all its tags."""
        tags: Document = dict(bucket_tags(world, self.kind.name(world)))
        return Reading(tags or None, raw=tags)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return ours."""
        return {**world.tags}

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Set ours beside the others."""
        tags = [{"Key": key, "Value": value} for key, value in {**reading.raw, **desired}.items()]
        world.aws.s3.put_bucket_tagging(Bucket=self.kind.name(world), Tagging={"TagSet": tags})


@dataclass(frozen=True)
class PublicAccess:
    """Block Public Access, all four switches: only the CDN is public."""

    kind: BucketKind

    @property
    def name(self) -> str:
        """What plans call it."""
        return f"{self.kind.label}.public_access"

    def read(self, world: World) -> Reading:
        """Return the four switches."""
        answer = found(
            lambda: world.aws.s3.get_public_access_block(Bucket=self.kind.name(world)),
            "NoSuchPublicAccessBlockConfiguration",
        )
        return Reading(answer and dict(answer["PublicAccessBlockConfiguration"]))

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return all four on."""
        switches = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        return dict.fromkeys(switches, True)

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Switch them on."""
        world.aws.s3.put_public_access_block(
            Bucket=self.kind.name(world), PublicAccessBlockConfiguration=desired
        )


@dataclass(frozen=True)
class Ownership:
    """Object ownership: the bucket's owner owns every object, and ACLs are off."""

    kind: BucketKind

    @property
    def name(self) -> str:
        """What plans call it."""
        return f"{self.kind.label}.ownership"

    def read(self, world: World) -> Reading:
        """Return the setting."""
        answer = found(
            lambda: world.aws.s3.get_bucket_ownership_controls(Bucket=self.kind.name(world)),
            "OwnershipControlsNotFoundError",
        )
        return Reading(answer and dict(answer["OwnershipControls"]["Rules"][0]))

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return the setting."""
        return {"ObjectOwnership": "BucketOwnerEnforced"}

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Set it."""
        world.aws.s3.put_bucket_ownership_controls(
            Bucket=self.kind.name(world), OwnershipControls={"Rules": [desired]}
        )


@dataclass(frozen=True)
class Encryption:
    """Default encryption: SSE-S3, or the user's KMS key with a bucket key (fewer, cheaper KMS requests)."""

    kind: BucketKind

    @property
    def name(self) -> str:
        """What plans call it."""
        return f"{self.kind.label}.encryption"

    def read(self, world: World) -> Reading:
        """Return the default rule."""
        answer = found(
            lambda: world.aws.s3.get_bucket_encryption(Bucket=self.kind.name(world)),
            "ServerSideEncryptionConfigurationNotFoundError",
        )
        if answer is None:
            return Reading(None)
        rule = answer["ServerSideEncryptionConfiguration"]["Rules"][0]
        return Reading(
            {**rule["ApplyServerSideEncryptionByDefault"], "BucketKeyEnabled": rule.get("BucketKeyEnabled")},
            raw=rule,
        )

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return the default rule.

        Raises:
            ConfigurationError: objects would be encrypted with a key that the CDN cannot use.
        """
        key = world.config.provision.kms_key
        if self.kind is MAIN and world.config.store.encryption == "aws:kms" and world.aws.is_amazon:
            raise ConfigurationError(
                "store.encryption",
                cause="uploads that name aws:kms and no key get AWS's own key, which CloudFront may not use",
                fix="set store.encryption to null, and provision.kms_key to your own key",
            )
        # S3 delivers access logs only into buckets whose default is SSE-S3.
        if key is None or self.kind is LOGS:
            return {"SSEAlgorithm": "AES256"}
        return {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key, "BucketKeyEnabled": True}

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Set the default rule."""
        default = {name: value for name, value in desired.items() if name != "BucketKeyEnabled"}
        rule = {
            "ApplyServerSideEncryptionByDefault": default,
            "BucketKeyEnabled": desired.get("BucketKeyEnabled", False),
        }
        world.aws.s3.put_bucket_encryption(
            Bucket=self.kind.name(world), ServerSideEncryptionConfiguration={"Rules": [rule]}
        )


@dataclass(frozen=True)
class Versioning:
    """Versions of objects are kept, so that a deletion by mistake can be undone."""

    kind: BucketKind

    @property
    def name(self) -> str:
        """What plans call it."""
        return f"{self.kind.label}.versioning"

    def read(self, world: World) -> Reading:
        """Return the state."""
        answer = found(lambda: world.aws.s3.get_bucket_versioning(Bucket=self.kind.name(world)))
        return Reading({"Status": answer["Status"]} if answer and answer.get("Status") else None)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return the state."""
        return {"Status": "Enabled"}

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Switch it on."""
        world.aws.s3.put_bucket_versioning(Bucket=self.kind.name(world), VersioningConfiguration=desired)
