"""The doctor on `rclone serve s3`, which checks nothing and knows no versions and no Block Public Access."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from photo_pipeline.core.doctor.examine import examine
from photo_pipeline.core.doctor.finding import Status
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY
from photo_pipeline_tests.rclone_server import RcloneServer
from photo_pipeline_tests.sites import Site


@pytest.fixture
def rclone(tmp_path: Path) -> Iterator[RcloneServer]:
    server = RcloneServer.start(
        tmp_path / "rclone", bucket="second", access_key=ACCESS_KEY, secret_key=SECRET_KEY
    )
    yield server
    server.stop()


@pytest.fixture
def servers(rclone: RcloneServer) -> RunningServers:
    """Takes the place of the embedded servers in `make_site`."""
    return rclone.servers


def test_what_the_server_lacks_is_said_and_only_what_matters_is_a_problem(
    healthy: Site, rclone: RcloneServer
) -> None:
    seen = {each.check.name: each for each in examine()}
    assert [name for name, each in seen.items() if each.status in (Status.PROBLEM, Status.DOWN)] == [
        "versioning"
    ]
    assert "back the bucket up yourself" in seen["versioning"].findings[0].fix
    assert seen["Block Public Access"].status is Status.SKIPPED
    how = seen["verification"].findings[0].detail
    assert how.startswith("cheap: one HEAD an object just sent, by its MD5")
    assert rclone.stored() == {}
