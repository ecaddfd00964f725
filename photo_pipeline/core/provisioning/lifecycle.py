"""Lifecycle rules: what becomes of objects as they age.

No rule of ours deletes a current original or served variant: theirs only move objects to a cheaper class,
drop versions that were deleted or replaced, and uploads that were never completed. Rules of others stay; one
of them that would delete photos is a warning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.provisioning.aws import found
from photo_pipeline.core.provisioning.bucket import LOGS, MAIN, BucketKind
from photo_pipeline.core.provisioning.difference import Document
from photo_pipeline.core.provisioning.resource import (
    RULE_PREFIX,
    Reading,
    World,
    by_id,
    wanted_items,
    with_items,
)

# S3's own default: objects below 128 KB stay where they are. The colder classes bill at least 128 KB an
# object, so that a variant of 100 KB would save little, and cost $0.02 per 1,000 moves and $0.03 per GB read.
_SMALL_STAY = "all_storage_classes_128K"


@dataclass(frozen=True)
class Lifecycle:
    """The bucket's lifecycle rules, ours by their ids."""

    kind: BucketKind

    @property
    def name(self) -> str:
        """What plans call it."""
        return f"{self.kind.label}.lifecycle"

    def read(self, world: World) -> Reading:
        """Return our rules; the raw reading is the whole answer."""
        answer = found(
            lambda: world.aws.s3.get_bucket_lifecycle_configuration(Bucket=self.kind.name(world)),
            "NoSuchLifecycleConfiguration",
        )
        if answer is None:
            return Reading(None)
        rules = answer["Rules"]
        warnings = tuple(_dangers(rules, world.config)) if self.kind is MAIN else ()
        return Reading(by_id(rules, "ID") or None, raw=answer, warnings=warnings)

    def desired(self, world: World, reading: Reading) -> Document | None:
        """Return our rules by id."""
        rules = _log_rules(world.config) if self.kind is LOGS else photo_rules(world.config)
        return wanted_items(reading.actual, {rule["ID"]: rule for rule in rules})

    def write(self, world: World, reading: Reading, desired: Document) -> None:
        """Set our rules, behind those of others."""
        present = reading.raw or {}
        world.aws.s3.put_bucket_lifecycle_configuration(
            Bucket=self.kind.name(world),
            LifecycleConfiguration={"Rules": with_items(present.get("Rules", []), desired, "ID")},
            TransitionDefaultMinimumObjectSize=present.get("TransitionDefaultMinimumObjectSize", _SMALL_STAY),
        )


def photo_rules(config: PipelineConfig) -> list[Document]:
    """Return the rules of the main bucket."""
    settings, store = config.provision.lifecycle, config.store
    colder: Document = {"Days": settings.cold_after_days, "StorageClass": settings.cold_class}
    if settings.intelligent_tiering:
        colder = {"Days": 0, "StorageClass": "INTELLIGENT_TIERING"}
    kept = {"Transitions": [colder]}
    return [
        _rule(config, "photos", store.prefix, kept),
        _rule(config, "originals", store.originals_prefix, kept),
        _rule(config, "backups", store.backups_prefix, {}),
        _rule(config, "incoming", settings.incoming_prefix, {"Expiration": {"Days": settings.incoming_days}}),
        _rule(
            config, "documents", settings.documents_prefix, {"Expiration": {"Days": settings.documents_days}}
        ),
    ]


def _rule(config: PipelineConfig, name: str, prefix: str, actions: Document) -> Document:
    settings = config.provision.lifecycle
    # A temporary upload has nothing that anybody would want back.
    noncurrent_days = 1 if name == "incoming" else settings.noncurrent_days
    return {
        "ID": f"{RULE_PREFIX}{name}",
        "Status": "Enabled",
        "Filter": {"Prefix": f"{prefix}/"},
        **actions,
        "NoncurrentVersionExpiration": {"NoncurrentDays": noncurrent_days},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": settings.abort_multipart_days},
    }


def _log_rules(config: PipelineConfig) -> list[Document]:
    days = config.provision.access_logs.keep_days
    return [
        {
            "ID": f"{RULE_PREFIX}logs",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "Expiration": {"Days": days},
        }
    ]


def _dangers(rules: list[Document], config: PipelineConfig) -> Iterator[str]:
    """Yield a sentence for each enabled rule that deletes what must stay, whoever made it."""
    store = config.store
    for rule in rules:
        expiration = rule.get("Expiration", {})
        when = expiration.get("Days") or expiration.get("Date")
        if rule.get("Status") != "Enabled" or not when:
            continue
        prefix = _prefix_of(rule)
        for kept in (store.prefix, store.originals_prefix, store.backups_prefix):
            # Tags and sizes narrow a rule, but nothing says which photos are outside.
            if f"{kept}/".startswith(prefix) or prefix.startswith(f"{kept}/"):
                yield _danger(rule, kept, when)


def _danger(rule: Document, prefix: str, when: Any) -> str:
    name = str(rule.get("ID", "(without an id)"))
    moment = f"{when} days after they were stored" if isinstance(when, int) else f"on {when}"
    is_ours = name.startswith(RULE_PREFIX)
    fix = "`provision apply` mends it" if is_ours else "remove it or narrow its prefix"
    return f"the lifecycle rule {name!r} deletes objects below {prefix}/ {moment}; {fix}"


def _prefix_of(rule: Document) -> str:
    chosen = rule.get("Filter") or {}
    found_prefix = chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or ""
    return str(found_prefix)
