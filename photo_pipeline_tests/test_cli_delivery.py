"""The commands around the CDN, end to end on a migrated site; CloudFront's API is a stub over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from photo_pipeline.cli import app
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.delivery.routing_function.publish import function_code
from photo_pipeline_tests.cloudfront_stub import CloudFrontStub
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.sites import Site

SMALL = {"default": {name: {"fit": "inside", "width": 48, "height": 48} for name in ("full", "thumb")}}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudFrontStub]:
    with CloudFrontStub() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFRONT", running.url)
        yield running


@pytest.fixture
def site(make_site: MakeSite, stub: CloudFrontStub) -> Site:
    site = make_site(photos=1, variants=SMALL)
    site.configure(cdn=site.settings["cdn"] | {"distribution_id": "E1"})
    site.migrate()
    return site


def run(*arguments: str | Path, text: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(
        app, [str(each) for each in arguments], input=text, prog_name="photo-pipeline"
    )
    return result.exit_code, result.stdout


def document(*arguments: str | Path, text: str | None = None) -> tuple[int, Any]:
    code, shown = run(*arguments, "--json", text=text)
    return code, json.loads(shown)


def test_invalidate_shows_its_plan_sends_it_and_counts_it(site: Site, stub: CloudFrontStub) -> None:
    ((immutable,), *_) = site.execute("SELECT key FROM pp_object WHERE variant = 'full' ORDER BY key")
    code, shown = run("invalidate", "/avatars/7 a.jpg", "/avatars/7 a.jpg", "--dry-run")
    assert (code, stub.invalidations) == (0, [])
    assert "/avatars/7%20a.jpg\n" in shown
    assert "2 asked for, 1 of them repeated" in shown
    assert "Free ones left: 1,000. This costs $0.00." in shown
    code, told = document("invalidate", "--from-file", "-", text=f"avatars/*\n{immutable}\n")
    assert (code, told["done"]["completed"], told["plan"]["paths"]) == (1, True, ["/avatars/*"])
    assert "its name is made of its content" in told["plan"]["refused"][0]["reason"]
    assert [each.paths for each in stub.invalidations] == [["/avatars/*"]]
    assert document("invalidate", "/b.jpg")[1]["bill"]["used"] == 1
    # Nothing is left of it: refused by a guard. Forced, and awaited in vain: somebody else's work to finish.
    assert run("invalidate", immutable)[0] == 3
    stub.questions = 10**6
    code, told = document("invalidate", immutable, "--force", "--wait", "0.05")
    assert (code, told["done"]["completed"], told["plan"]["paths"]) == (4, False, [f"/{immutable}"])


def test_invalidate_makes_a_wildcard_of_what_the_bucket_holds(site: Site, stub: CloudFrontStub) -> None:
    keys = [row[0] for row in site.execute("SELECT key FROM pp_object WHERE recipe <> ''")]
    folder = keys[0].rpartition("/")[0]
    code, told = document("invalidate", "--force", "--dry-run", *keys)
    assert (code, told["plan"]["collapsed"]) == (0, len(keys))
    assert len(told["plan"]["paths"]) == 1
    assert f"/{folder}/".startswith(told["plan"]["paths"][0].rstrip("*"))
    _, told = document("invalidate", "--force", "--dry-run", *keys[1:])
    assert (told["plan"]["collapsed"], len(told["plan"]["paths"])) == (0, len(keys) - 1)


def test_mistakes_in_use_are_exit_code_2(make_site: MakeSite) -> None:
    site = make_site(photos=0)
    assert run("invalidate", "/a.jpg")[0] == 2  # nothing was migrated yet
    with site.project() as project:
        ensure_schema(project.database)
    assert run("invalidate")[0] == 2
    assert run("invalidate", "--from-file", site.home / "none.txt")[0] == 2
    assert run("warm", "--format", "gif")[0] == 2
    assert run("warm", "--batch", "batch-999999")[0] == 2
    assert run("invalidate", "/a.jpg")[0] == 2  # no distribution is named


def test_warm_and_routing_say_what_they_did(site: Site, stub: CloudFrontStub) -> None:
    code, told = document("warm", "--variant", "thumb")
    assert (code, told["urls"], told["failed"]) == (0, 3, 0)
    code, told = document("routing", "publish", "--name", "auto")
    assert (code, told["outcome"], told["attach"][0][0]) == (0, "created", "viewer-request")
    code, shown = run("routing", "publish", "--name", "auto")
    assert (code, "Nothing was changed." in shown) == (0, True)
    assert run("routing", "show")[1].strip() == function_code().decode().strip()
