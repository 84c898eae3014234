"""`lensqueue doctor`: is everything there that the service needs, and what to do where it is not."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.markup import escape

from cli.connection import Connection, JsonOption
from cli.console import console
from cli.ending import FAILED, print_json
from cli.machine_checks import Finding, Level, check_machine
from engine.catalog import DEMO_MODEL, Catalog
from jobs.settings import ServiceSettings

STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


def doctor(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"A model that is to be served; repeat for more. Without it: {DEMO_MODEL}."),
    ] = None,
    state: Annotated[Path, typer.Option(help="The folder of `lensqueue up`.")] = Path(".lensqueue"),
    as_json: JsonOption = False,
) -> None:
    """Check this machine and the service, and say what to do; ends with 1 when something must be mended."""
    connection = context.find_object(Connection) or Connection()
    findings = []
    for finding in look(connection, model or [DEMO_MODEL], state):
        findings.append(finding)
        if not as_json:
            _show(finding)
    failed = any(finding.level is Level.FAIL for finding in findings)
    if not as_json:
        console.print(_summary(findings), soft_wrap=True)
    else:
        print_json({"healthy": not failed, "findings": [asdict(finding) for finding in findings]})
    raise typer.Exit(FAILED if failed else 0)


def look(connection: Connection, models: Sequence[str], state: Path) -> Iterator[Finding]:
    """Everything that can be looked at from here."""
    # here, not above: no other command needs the broker's client, and every one would wait for it
    from cli.service_checks import check_api, check_parts, locate  # noqa: PLC0415

    try:
        settings = ServiceSettings()
    except (SettingsError, ValidationError) as error:
        said = str(error).splitlines()[0]
        yield Finding("settings", Level.FAIL, said, "correct the environment's LENSQUEUE_ variables")
        yield from check_machine(models, Catalog())
        return
    yield from check_machine(models, settings.catalog())
    settings, found = locate(settings, state)
    if found:
        yield from check_parts(settings)
    else:
        found_none = f"not looked at: nothing runs on {state}, and LENSQUEUE_DATABASE_URL is not set"
        remedy = "`make up` starts them here; of a service elsewhere, run the doctor there"
        yield Finding("database, broker, blobs", Level.WARN, found_none, remedy)
    yield from check_api(connection, models)


def _summary(findings: Sequence[Finding]) -> str:
    levels = [finding.level for finding in findings]
    failed, warned = levels.count(Level.FAIL), levels.count(Level.WARN)
    if failed:
        return f"\n{failed} to be mended before the service works (fail), {warned} to know of (warn)."
    return f"\nNothing has to be mended; {warned} to know of (warn)." if warned else "\nAll is well."


def _show(finding: Finding) -> None:
    label = f"[{STYLES[finding.level]}]{finding.level:<4}[/]"
    console.print(f"{label}  {escape(finding.check)}: {escape(finding.found)}", soft_wrap=True)
    if finding.remedy and finding.level is not Level.OK:
        console.print(f"      -> {escape(finding.remedy)}", soft_wrap=True)
