"""`photo-pipeline routing`: the function by which CloudFront chooses the format of `.auto` URLs."""

from dataclasses import asdict
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, AsJson, CommandGroup
from photo_pipeline.core.delivery.cloudfront import open_cloudfront
from photo_pipeline.core.delivery.routing_function.publish import (
    DEFAULT_NAME,
    RUNTIME,
    function_code,
    publish_function,
)
from photo_pipeline.terminal import Terminal

Name = Annotated[str, typer.Option("--name", help="The function's name in the AWS account.")]


def publish(name: Name = DEFAULT_NAME, json_: AsJson = False) -> int:
    """Create or update the CloudFront function, let CloudFront test it, and publish it.

    Does nothing when the same code is live.

    Example: photo-pipeline routing publish
    """
    terminal = Terminal(as_json=json_)
    done = publish_function(open_cloudfront(), name=name)
    if done.outcome == "unchanged":
        terminal.say(f"{done.name} is live already, with the same code. Nothing was changed.")
    else:
        terminal.say(f"{done.name} was {done.outcome}; CloudFront passed {done.cases_tested} test requests.")
    terminal.say(f"Attach it to the cache behaviour of your photos: {done.arn}")
    terminal.table(("event", "why"), done.attach)
    terminal.result(asdict(done))
    return DONE


def show(json_: AsJson = False) -> int:
    """Print the function's JavaScript, for those who publish it with tools of their own.

    Example: photo-pipeline routing show > auto_format.js
    """
    terminal = Terminal(as_json=json_)
    code = function_code().decode()
    terminal.say(code.rstrip())
    terminal.result({"runtime": RUNTIME, "code": code})
    return DONE


ROUTING = CommandGroup(
    "routing",
    "The CloudFront function that chooses the format of .auto URLs."
    "\n\nExample: photo-pipeline routing publish",
    (publish, show),
)
