"""What a resource type is: how it is read, what it should be, how it is changed. The engine is `plan`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.provisioning.aws import Aws
from photo_pipeline.core.provisioning.difference import UNKNOWN, Document, exactly, pruned

MANAGED_BY = "photo_pipeline"
# Of an origin access control, the shortest limit of all.
_LONGEST_NAME = 64
RULE_PREFIX = "photo-pipeline-"
"""Rules and configurations inside a bucket whose id begins so are ours; all others are left alone."""


@dataclass(frozen=True)
class Reading:
    """What is there.

    Attributes:
        actual: The part that we answer for, in the shape of what is wanted; None: there is no such resource.
        raw: The whole answer, for the change to keep what is not ours.
        outputs: What other resources need to know of it (ids, ARNs).
        warnings: What a person should know, and may have to mend, as sentences. They are findings.
        notes: What is as it should be for now, and yet worth a line.
    """

    actual: Document | None
    raw: Any = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class World:
    """The configuration, the way to AWS, and what has been learned of resources so far."""

    def __init__(self, config: PipelineConfig, aws: Aws) -> None:
        self.config = config
        self.aws = aws
        self.outputs: dict[str, str] = {}

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.config.store.bucket

    @property
    def name(self) -> str:
        """What things outside the bucket are called that are made for it."""
        return shortened(f"photo-pipeline-{self.bucket.replace('.', '-')}", most=_LONGEST_NAME)

    @property
    def tags(self) -> dict[str, str]:
        """The tags of everything that is created."""
        return {**self.config.provision.tags, "managed-by": MANAGED_BY}

    @property
    def tag_list(self) -> list[dict[str, str]]:
        """The tags as most of AWS's calls want them."""
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    def known(self, output: str) -> str:
        """Return another resource's id or ARN, or `UNKNOWN` while that is yet to be created."""
        return self.outputs.get(output, UNKNOWN)


def shortened(name: str, *, most: int) -> str:
    """Return the name, or where it has more than `most` characters, its beginning and a digest of all."""
    if len(name) <= most:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: most - len(digest) - 1]}-{digest}"


class ResourceType(Protocol):
    """One kind of thing that is set up; one instance in the registry."""

    @property
    def name(self) -> str:
        """What plans call it, as in `bucket.versioning`."""

    def read(self, world: World) -> Reading:
        """Return what is there."""

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return what should be; None: it is not managed with this configuration."""

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Make it so. What is there and not ours stays."""


def is_ours(tags: Mapping[str, str]) -> bool:
    """Return whether a resource with these tags was created by us."""
    return tags.get("managed-by") == MANAGED_BY


def tag_map(tags: list[Mapping[str, str]]) -> dict[str, str]:
    """Return tags as AWS lists them as a dict."""
    return {each["Key"]: each.get("Value", "") for each in tags}


def by_id(items: list[Document], key: str) -> dict[str, Document]:
    """Return those items whose id is ours, by it."""
    return {item[key]: item for item in items if str(item.get(key, "")).startswith(RULE_PREFIX)}


def wanted_items(ours: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> Document:
    """Return the wanted items, to be so exactly, and None for each of ours that is not wanted any more."""
    present = ours or {}
    return {name: exactly(present.get(name), wanted.get(name)) for name in {**present, **wanted}}


def with_items(items: list[Document], desired: Mapping[str, Any], key: str) -> list[Document]:
    """Return the items that are not ours, as they are, and then the wanted ones."""
    foreign = [item for item in items if item.get(key) not in desired]
    return [*foreign, *(pruned(item) for item in desired.values() if item is not None)]
