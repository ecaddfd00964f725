"""`photo-pipeline metrics`: the metrics of this moment, for Prometheus or CloudWatch."""

import sys
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, AsJson
from photo_pipeline.cli.project import open_project
from photo_pipeline.core.metrics import StateCollector, metrics_text
from photo_pipeline.core.metrics_emf import emf_lines
from photo_pipeline.terminal import Terminal


def metrics(
    emf: Annotated[
        bool, typer.Option("--emf", help="One JSON line per set of labels, as CloudWatch's agent takes them.")
    ] = False,
    json_: AsJson = False,
) -> int:
    """Print the metrics of this moment, for Prometheus or CloudWatch.

    Example: photo-pipeline metrics > /var/lib/node_exporter/photo_pipeline.prom
    """
    with open_project() as project:
        if json_:
            families = StateCollector(project.database, project.config).collect()
            samples = [
                {"name": each.name, "labels": each.labels, "value": each.value}
                for family in families
                for each in family.samples
            ]
            Terminal(as_json=True).result({"metrics": samples})
        elif emf:
            sys.stdout.writelines(f"{line}\n" for line in emf_lines(project.database, project.config))
        else:
            sys.stdout.write(metrics_text(project.database, project.config))
    return DONE
