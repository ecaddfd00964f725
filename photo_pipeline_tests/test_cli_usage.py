"""The command line explains itself: examples that work as printed, errors as JSON, completion by bash."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from photo_pipeline.cli import app
from photo_pipeline.cli.lazy import load
from photo_pipeline.cli.manual import SEE_ALSO, examples_of
from photo_pipeline.cli.program import COMMANDS
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import standing_site
from photo_pipeline_tests.sites import Site
from photo_pipeline_tests.sockets import listening_socket
from photo_pipeline_tests.terminals import PROGRAM


def every_command() -> dict[str, str]:
    """Every command that does something, as it is typed, with its help."""
    found = {}
    for listed in COMMANDS:
        loaded = load(listed)
        members = getattr(loaded, "commands", None)
        if members:
            found |= {f"{listed.name} {name}": each.help for name, each in members.items()}
        else:
            found[listed.name] = loaded.help
    return found


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="photo-pipeline")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, servers: RunningServers) -> Iterator[Site]:
    """A migrated site, with the folder and the environment of the engineer who works on it."""
    with standing_site(tmp_path_factory.mktemp("usage"), servers, photos=2) as made:
        work = made.home / "work"
        (work / "myapp/templatetags").mkdir(parents=True)
        (work / "src/components").mkdir(parents=True)
        made.migrate()
        with chdir(work):
            yield made


# --- examples

EXAMPLES = [(command, example) for command, text in every_command().items() for example in examples_of(text)]
CANNOT_RUN_HERE = {
    "demo": "takes a minute, and has tests of its own",
    "serve": "runs until Ctrl-C; test_serve.py",
    "status --watch": "runs until Ctrl-C; test_cli_terminal.py",
    "provision": "asks AWS; core/provisioning has the tests",
    "routing publish": "asks CloudFront; test_cli_delivery.py",
    "sign": "needs the key pair of a CDN; test_cli_delivery.py",
    "warm --variant thumb --format avif": "the test site makes JPEG and WebP only",
    "cost override": "needs limits that are nearly used up; core/cost has the tests",
    "orphans undo": "needs a deletion before; core/cleanup has the tests",
    "orphans delete": "marks must have aged; core/cleanup has the tests",
    "rebuild": "needs lost state tables; core/migration has the tests",
    "metrics >": "writes to a folder of Prometheus",
    "delete": "names an item that the test site lacks; core/cleanup has the tests",
}
FINDINGS = {"doctor": "the test's CDN has no HTTPS"}


def test_every_command_has_an_example() -> None:
    assert {command for command, _ in EXAMPLES} == set(every_command())


@pytest.mark.parametrize(("command", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_an_example_works_as_it_is_printed(site: Site, command: str, example: str) -> None:
    """In the order of the help, which is the order of a migration; `abort` comes back by `resume`."""
    for part in example.split(" && "):
        words = shlex.split(part.partition(" > ")[0])
        assert words[0] == "photo-pipeline"
        assert " ".join(words[1:]).startswith(command) or " && " in example
        typed = part.removeprefix("photo-pipeline ")
        if any(typed.startswith(start) for start in CANNOT_RUN_HERE):
            assert_parses(words[1:])
            continue
        result = invoke(*words[1:])
        allowed = {0, 1} if command in FINDINGS else {0}
        assert result.exit_code in allowed, result.output
    if command in ("pause", "abort"):
        assert invoke("resume").exit_code == 0
    if command in ("abort", "rollback"):
        assert invoke("migrate", "--batch", "batch-000001").exit_code == 0


def assert_parses(words: list[str]) -> None:
    """The command line takes the words; nothing is run."""
    by_name = {listed.name: listed for listed in COMMANDS}
    command = load(by_name[words[0]])
    rest = words[1:]
    if getattr(command, "commands", None):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context("photo-pipeline", rest)


# --- JSON


@pytest.mark.parametrize("command", every_command())
def test_with_json_a_usage_error_is_one_document(command: str) -> None:
    result = invoke(*command.split(), "--json", "--nonsense")
    assert result.exit_code == 2
    error = json.loads(result.stdout)
    assert (error["thing"], error["exit_code"]) == (f"photo-pipeline {command}", 2)
    assert "--nonsense" in error["cause"]
    assert error["fix"] == f"see photo-pipeline {command} --help"
    (line,) = result.stderr.splitlines()
    assert line.startswith("photo-pipeline: ")


WITHOUT_A_CONFIGURATION = {"demo", "init", "routing publish", "routing show", "helpers list", "helpers copy"}
ASK_FIRST = {
    "rollback": ["--all"],
    "sign": ["photos/a.jpg"],
    "invalidate": ["/a.jpg"],
    "orphans undo": ["--all"],
}


@pytest.mark.parametrize("command", sorted(set(every_command()) - WITHOUT_A_CONFIGURATION))
def test_without_a_configuration_each_command_says_so_as_json_and_names_init(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("PHOTO_PIPELINE_CONFIG", "/nowhere/photo_pipeline.yaml")
    result = invoke(*command.split(), *ASK_FIRST.get(command, []), "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == (1 if command == "doctor" else 2)
    if command == "doctor":  # which lists it among its findings
        document = next(each for each in document["checks"] if each["status"] == "problem")
    assert "photo-pipeline init" in document["fix"]


READS_ONLY = (
    *("status", "plan", "cost", "report", "validate", "rehearse", "audit show", "audit verify", "cleanup"),
    *("alerts list", "metrics", "helpers list", "routing show", "mapping suggest", "orphans scan"),
    *("init --list", "doctor", "demo --stop --home demo"),
)


@pytest.mark.parametrize("command", READS_ONLY)
def test_with_json_the_result_is_one_document_and_nothing_else(site: Site, command: str) -> None:
    result = invoke(*command.split(), "--json")
    assert result.exit_code in (0, 1)
    assert isinstance(json.loads(result.stdout), dict)
    assert result.stderr == ""


def test_json_before_the_command_is_answered_with_where_it_belongs() -> None:
    result = invoke("--json", "status")
    assert (result.exit_code, json.loads(result.stdout)["fix"]) == (2, "put --json after the command")


# --- what to do next


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("statsu",), 2, "Did you mean 'status'?"),
        (("audit", "verfy"), 2, "Did you mean 'verify'?"),
        (("rollback", "--batch", "batch-00001"), 2, "Did you mean 'batch-000001'?"),
        (("validate", "--batch", "x"), 2, "The only one is batch-000001"),
        (("init", "--preset", "larvel"), 2, "laravel"),
    ],
)
def test_a_mistake_is_answered_with_what_was_meant(
    site: Site, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, words in result.output) == (code, True), result.output


def test_what_a_pause_refuses_names_resume(site: Site) -> None:
    assert invoke("pause", "--reason", "lunch").exit_code == 0
    try:
        refused = invoke("migrate", "--json")
        assert refused.exit_code == 3
        assert "photo-pipeline resume" in json.loads(refused.stdout)["fix"]
    finally:
        invoke("resume")


def test_every_see_also_names_commands_that_exist() -> None:
    names = {listed.name for listed in COMMANDS}
    assert set(SEE_ALSO) == names
    assert {other for others in SEE_ALSO.values() for other in others} <= names


# --- completion


def completed(line: str, **environment: str) -> list[str]:
    """What bash offers after the line, by the program's own script and bash's machinery."""
    script = f"""
    PATH={PROGRAM.parent}:$PATH
    source <(photo-pipeline --show-completion bash)
    COMP_WORDS=({line}{" ''" if line.endswith(" ") else ""})
    COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
    complete -p photo-pipeline > /dev/null || exit 9
    _photo_pipeline_completion photo-pipeline
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"} | environment
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_the_batches_of_the_project(site: Site) -> None:
    assert completed("photo-pipeline rollback --batch b") == ["batch-000001"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("photo-pipeline stat", ["status"]),
        ("photo-pipeline audit ", ["verify", "show"]),
        ("photo-pipeline migrate --ret", ["--retry-failed"]),
        ("photo-pipeline init --preset lar", ["laravel_media_library"]),
        ("photo-pipeline helpers copy dj", ["django"]),
    ],
)
def test_bash_completes_commands_options_and_names(site: Site, line: str, offered: list[str]) -> None:
    assert completed(line) == offered


@pytest.mark.slow
def test_completion_finds_nothing_and_says_nothing_where_the_database_does_not_answer(site: Site) -> None:
    with listening_socket() as black_hole:
        url = f"postgresql://shop@127.0.0.1:{black_hole.getsockname()[1]}/shop"
        assert completed("photo-pipeline rollback --batch b", APP_DATABASE_URL=url) == []
    assert completed("photo-pipeline rollback --batch b", PHOTO_PIPELINE_CONFIG="/nowhere.yaml") == []


@pytest.mark.parametrize(("shell", "word"), [("zsh", "compdef"), ("fish", "complete --command")])
def test_other_shells_get_their_script(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shell: str, word: str
) -> None:
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    shown = invoke("--show-completion")
    assert shown.exit_code == 0
    assert word in shown.output
    assert "photo-pipeline" in shown.output
