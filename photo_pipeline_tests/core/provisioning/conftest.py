"""One pretend AWS for a module, and an environment that leads there and nowhere else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from photo_pipeline_tests.pretend_aws import PretendAws

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAPRETEND",
    "AWS_SECRET_ACCESS_KEY": "only-for-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def pretended_aws() -> Iterator[PretendAws]:
    """The servers, and an environment by which boto3 finds them alone."""
    with PretendAws() as aws, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": aws.url}.items():
            patch.setenv(name, value)
        yield aws


@pytest.fixture(scope="module")
def pretend_aws() -> Iterator[PretendAws]:
    """The servers; boto3 finds them by AWS_ENDPOINT_URL."""
    with pretended_aws() as aws:
        yield aws
