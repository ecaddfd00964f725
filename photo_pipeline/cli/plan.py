"""`photo-pipeline plan`: what a migration would do and cost, without doing any of it."""

from collections.abc import Callable
from contextlib import closing
from typing import Annotated

import typer

from photo_pipeline.cli.command import DONE, AsJson
from photo_pipeline.cli.project import open_project
from photo_pipeline.core.cost.fit import Fit
from photo_pipeline.core.migration.plan import Plan, make_plan
from photo_pipeline.core.migration.sampling import Estimate
from photo_pipeline.core.project import open_scratch, worker_count
from photo_pipeline.terminal import Terminal, human_bytes

_LONGEST_CELL = 180
# Characters shown before the first difference.
_CONTEXT = 30


def plan(
    sample: Annotated[int, typer.Option(min=2, help="Photos to encode for the forecast.")] = 50,
    rows: Annotated[int, typer.Option(min=0, help="Rows to show as they would become.")] = 3,
    seed: Annotated[int, typer.Option(help="The same seed draws the same photos.")] = 1,
    json_: AsJson = False,
) -> int:
    """Show what `migrate` would do and cost. Writes nothing: no table, no state, no object.

    Example: photo-pipeline plan --sample 100
    """
    terminal = Terminal(as_json=json_)
    with (
        open_project() as project,
        closing(open_scratch(project.config)) as database,
        terminal.progress("plan") as progress,
    ):
        made = make_plan(
            database,
            project.config,
            project.workers,
            processes=worker_count(project.config),
            sample=sample,
            rows_shown=rows,
            seed=seed,
            progress=progress,
        )
    terminal.inventory(made.inventory)
    _show_work(terminal, made)
    _show_rows(terminal, made)
    terminal.say(f"\nNothing was written. It took {made.plan_seconds:.1f} s. Next: photo-pipeline migrate")
    terminal.result({"plan": made})
    return DONE


def _show_work(terminal: Terminal, made: Plan) -> None:
    terminal.heading("What would move (exact)")
    terminal.table(
        ("what", "count"),
        [
            ("batches", made.batches),
            ("photo references", made.photos),
            ("rows to rewrite", made.rows),
            ("different pictures", made.contents),
            ("objects to upload = PUT requests", made.put_requests),
            ("objects proven in the store already", made.objects_already_proven),
        ],
    )
    drawn, population = sum(made.sample.encoded.values()), sum(made.sample.photos.values())
    terminal.heading(
        f"What it would take (from {drawn:,} of {population:,} pictures, seed {made.sample.seed})"
    )
    terminal.table(("what", "forecast", "95 % interval", "standard error"), _forecasts(made))
    _show_notes(terminal, made)


def _forecasts(made: Plan) -> list[tuple[str, str, str, str]]:
    everything = made.sample.encoded == made.sample.photos

    def line(name: str, estimate: Estimate, show: Callable[[float], str]) -> tuple[str, str, str, str]:
        if everything:
            return name, show(estimate.value), "every picture was encoded", "none"
        low = show(max(0.0, estimate.low))
        return name, show(estimate.value), f"{low} to {show(estimate.high)}", show(estimate.standard_error)

    return [
        line("bytes of variants", made.variant_bytes, human_bytes),
        line("bytes to upload, with originals", made.upload_bytes, human_bytes),
        line("PUT requests less quarantined", made.expected_puts, lambda n: f"{n:,.0f}"),
        line("requests, once", made.cost.requests_usd, _dollars),
        line("storage, a month", made.cost.storage_usd_per_month, _dollars),
        line("encoding time", made.time.encode_s, _duration),
    ]


def _show_notes(terminal: Terminal, made: Plan) -> None:
    cost, spent = made.cost, made.time
    terminal.say(
        f"Transfer: {_duration(spent.transfer_s)}, if a request takes "
        f"{spent.assumed_request_s * 1000:.0f} ms and the uplink carries "
        f"{spent.assumed_uplink_bits_s / 1e6:.0f} Mbit/s (assumed, not measured)."
    )
    terminal.say(f"Prices: {cost.region} list prices of {cost.prices_as_of}, {cost.prices_source}.")
    _show_fit(terminal, cost.fit)
    share = made.sample.quarantined_share_at_most
    terminal.say(
        f"Quarantine: {len(made.sample.failures):,} of the sample cannot be processed; "
        f"at most {share:.1%} of all (95 %)."
    )
    for path, reason in made.sample.failures.items():
        terminal.say(f"  {path}: {reason}")


def _show_fit(terminal: Terminal, fit: Fit) -> None:
    """Say what the objects per photo mean for each plan, before anyone is surprised."""
    terminal.say(f"Each picture becomes {fit.objects_per_photo:.1f} objects on average.")
    for each in fit.plans:
        takes = f"takes {each.months:,} months of it" if each.months else f"never fits: {each.why_never}"
        terminal.say(
            f"The {each.title} ({each.who}; read {each.as_of}) has {each.puts_per_month:,} PUTs a month: "
            f"that is {each.photos_per_month:,} photos a month, and {each.photos_per_month_guarded:,} up to "
            f"where the cost guard stops. This migration {takes}."
        )
    if fit.first_month_share is not None:
        terminal.say(
            f"All in one month, it uses {fit.first_month_share:.0%} of your limits ({fit.configured})."
        )
    for suggestion in fit.suggestions:
        terminal.say(f"  - {suggestion}")


def _show_rows(terminal: Terminal, made: Plan) -> None:
    for row in made.rows_shown:
        terminal.heading(f"{row.source} {row.row_key}")
        if row.refusal:
            terminal.say(f"  WOULD BE REFUSED: {row.refusal}")
        for change in row.changes:
            before, after = _excerpts(change.before, change.after)
            terminal.say(f"  {change.column}\n    - {before}\n    + {after}")


def _excerpts(before: str, after: str) -> tuple[str, str]:
    """Return both from shortly before the first difference; --json has them whole.

    A data: URI or a whole document would fill the screen.
    """
    same = next((n for n, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), 0)
    start = max(0, same - _CONTEXT)
    return _cut(before, start), _cut(after, start)


def _cut(text: str, start: int) -> str:
    if len(text) <= _LONGEST_CELL:
        return text
    end = start + _LONGEST_CELL
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _dollars(amount: float) -> str:
    return f"${amount:,.4f}" if amount >= 0.0001 or not amount else "below $0.0001"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
