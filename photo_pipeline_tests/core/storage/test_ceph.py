"""The storage library on a third server, Ceph RGW; skipped where it is not unpacked (docs/s3-servers.md).

The tests are those of the other two servers, with this one in their place.
"""

from collections.abc import Iterator

import boto3
import pytest

from photo_pipeline.core.storage.deletion import delete_object, keeps_versions, undelete
from photo_pipeline.core.storage.probe import StoreProbe
from photo_pipeline_tests.ceph_server import ROOT_VARIABLE, CephServer, ceph_root
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY, embedded_credentials
from photo_pipeline_tests.core.storage.test_copying import (
    test_a_copy_has_the_bytes_and_the_facts_and_leaves_the_source,
    test_a_move_leaves_one_object_and_can_be_repeated_after_half_of_it,
    test_other_bytes_under_the_target_are_left,
)
from photo_pipeline_tests.core.storage.test_files import (
    five_mib_parts,
    large,
    local,
    test_a_file_goes_up_and_comes_down_the_same,
    test_a_large_file_goes_up_in_parts_that_prove_the_whole,
    test_a_part_that_always_fails_leaves_neither_object_nor_parts,
    test_damage_on_the_way_down_is_read_again_and_what_stays_wrong_is_not_kept,
    test_the_same_file_again_is_adopted_and_another_one_refused,
)
from photo_pipeline_tests.core.storage.test_keys import (
    test_an_object_beside_a_folder_of_its_name_is_another_one,
    test_any_of_many_accepted_keys_means_the_same_object,
    test_keys_that_look_alike_are_as_many_objects,
)
from photo_pipeline_tests.core.storage.test_links import (
    test_a_link_for_one_object_opens_no_other,
    test_a_presigned_put_stores_the_bytes_that_it_names,
    test_anybody_with_the_link_reads_the_object_under_its_name,
)
from photo_pipeline_tests.core.storage.test_statistics import test_each_object_counts_once_under_its_kind
from photo_pipeline_tests.core.storage.two_servers import Served, served_by

pytestmark = pytest.mark.slow

__all__ = [
    "five_mib_parts",
    "large",
    "local",
    "test_a_copy_has_the_bytes_and_the_facts_and_leaves_the_source",
    "test_a_file_goes_up_and_comes_down_the_same",
    "test_a_large_file_goes_up_in_parts_that_prove_the_whole",
    "test_a_link_for_one_object_opens_no_other",
    "test_a_move_leaves_one_object_and_can_be_repeated_after_half_of_it",
    "test_a_part_that_always_fails_leaves_neither_object_nor_parts",
    "test_a_presigned_put_stores_the_bytes_that_it_names",
    "test_an_object_beside_a_folder_of_its_name_is_another_one",
    "test_any_of_many_accepted_keys_means_the_same_object",
    "test_anybody_with_the_link_reads_the_object_under_its_name",
    "test_damage_on_the_way_down_is_read_again_and_what_stays_wrong_is_not_kept",
    "test_each_object_counts_once_under_its_kind",
    "test_keys_that_look_alike_are_as_many_objects",
    "test_other_bytes_under_the_target_are_left",
    "test_the_same_file_again_is_adopted_and_another_one_refused",
]


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = ceph_root()
    if root is None:
        pytest.skip(f"Ceph is not unpacked: ${ROOT_VARIABLE} names no folder with usr/bin/radosgw")
    folder = tmp_path_factory.mktemp("ceph")
    server = CephServer.start(root, folder, bucket="third", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    try:
        with pytest.MonkeyPatch.context() as environment:
            embedded_credentials(environment)
            s3 = boto3.client("s3", endpoint_url=server.servers.s3_url, region_name=server.servers.region)
            s3.create_bucket(Bucket="third")
            yield served_by("ceph", server.servers)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def served(ceph: Served) -> Served:
    return ceph


@pytest.fixture(scope="module")
def embedded(ceph: Served) -> Served:
    """In the place of the strict server."""
    return ceph


def test_the_probe_finds_out_what_ceph_checks(ceph: Served) -> None:
    assert ceph.probe == StoreProbe(
        rejects_wrong_checksum=False,
        reports_checksum=False,
        honours_if_none_match=True,
        reports_md5=True,
        honours_if_match=False,
    )
    assert ceph.probe.verification == "etag"


def test_a_deleted_version_comes_back(ceph: Served) -> None:
    assert not keeps_versions(ceph.store)
    ceph.store.s3.put_bucket_versioning(
        Bucket=ceph.store.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    assert keeps_versions(ceph.store)
    key = ceph.key()
    ceph.store.put_new(key, b"ours", content_type="x/x")
    deleted = delete_object(ceph.store, ceph.store.head(key))
    assert (deleted.outcome, ceph.store.head(key)) == ("deleted", None)
    assert undelete(ceph.store, deleted)
    assert ceph.store.read(key) == b"ours"
    ceph.store.s3.put_bucket_versioning(
        Bucket=ceph.store.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
