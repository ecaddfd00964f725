"""AWS sessions from the standard environment, quick to open again."""

from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import Any

import boto3
import botocore.session
from botocore.loaders import Loader, create_loader
from botocore.utils import parse_timestamp


def aws_session(region: str | None = None) -> boto3.Session:
    """Return a session with the credentials that the environment has at this moment.

    Sessions of one process share what botocore has read of its service descriptions: reading S3's anew took
    0.1 s of each client (boto3 1.44, measured), and an asset, a check and a probe each open their own.

    Args:
        region: The region; None: the environment's.

    Raises:
        botocore.exceptions.ProfileNotFound: AWS_PROFILE names none.
    """
    inner = botocore.session.Session()
    loader = _descriptions()
    inner.register_component("data_loader", loader)
    inner.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    session = boto3.Session(region_name=region, botocore_session=inner)
    # boto3 has just added its folder once more.
    loader.search_paths[:] = dict.fromkeys(loader.search_paths)
    return session


@cache
def _descriptions() -> Loader:
    return create_loader()


def _timestamp(value: Any) -> Any:
    """Return the instant as botocore does, which guesses each one's format: most of a listing's time."""
    if isinstance(value, str) and value.endswith("Z"):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    return parse_timestamp(value)
