"""Reads the objects in an answer to ListObjectsV2, in a quarter of the time that botocore takes.

Its parser asks its description of the service about every value: 60 us an object, most of a listing's time.
All other parts of the answer, other answers and whatever is wrong with one stay botocore's.
"""

from typing import Any
from xml.etree import ElementTree

from photo_pipeline.core.aws_session import timestamp

_ROOT = "ListBucketResult"


def read_quickly(client: Any) -> None:
    """Let that boto3 S3 client read its listings' objects here: key, size, time, ETag, storage class."""
    client.meta.events.register("before-parse.s3.ListObjectsV2", _take_objects)


def _take_objects(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        # The same parser as botocore's.
        root = ElementTree.fromstring(response_dict["body"])
        space = root.tag.removesuffix(_ROOT)
        entries = root.findall(f"{space}Contents")
        objects = [_object(entry, space) for entry in entries]
    except (ElementTree.ParseError, KeyError, ValueError):
        return  # botocore says what is wrong with it.
    if not objects:
        return
    for entry in entries:
        root.remove(entry)
    response_dict["body"] = ElementTree.tostring(root)
    customized_response_dict["Contents"] = objects


def _object(entry: ElementTree.Element, space: str) -> dict[str, Any]:
    values = {child.tag.removeprefix(space): child.text or "" for child in entry}
    found = {
        "Key": values["Key"],
        "Size": int(values["Size"]),
        "LastModified": timestamp(values["LastModified"]),
        "ETag": values.get("ETag", ""),
    }
    if "StorageClass" in values:
        found["StorageClass"] = values["StorageClass"]
    return found
