"""API keys from the command line: for who runs the service, on its database."""

import re
import uuid
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.connection import JsonOption
from cli.console import fail, notes
from cli.database import StateOption, opened
from cli.ending import print_json
from cli.listing import print_rows
from jobs.keys import DEFAULT_SCOPES, DEFAULT_TENANT, all_keys, create_key, revoke_key
from models.api_key import ApiKey
from models.types import Scope

MAX_TEXT = 200
MAX_DAYS = 36_600
MAX_REQUESTS_PER_MINUTE = 10_000_000
ID = re.compile(r"key_([0-9a-f]{32})")

app = typer.Typer(help="API keys.", no_args_is_help=True)


def _check_text(value: str | None) -> str | None:
    if value is None:
        return None
    if not 1 <= len(value) <= MAX_TEXT:
        raise typer.BadParameter(f"it has 1 to {MAX_TEXT} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("it is no UTF-8") from None
    return value


@app.callback()
def keys() -> None:
    """API keys: made here, shown once, kept as hashes."""


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for.", callback=_check_text)],
    tenant: Annotated[str, typer.Option(help="Whose jobs it sees.", callback=_check_text)] = DEFAULT_TENANT,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may be used for; give it again for more. Without it: submit and read."),
    ] = None,
    requests_per_minute: Annotated[
        int | None,
        typer.Option(
            help="Its own rate limit, instead of the service's.", min=1, max=MAX_REQUESTS_PER_MINUTE
        ),
    ] = None,
    expires_in_days: Annotated[
        int | None, typer.Option(help="It ends by itself then; without it, never.", min=1, max=MAX_DAYS)
    ] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it: the only time that it can be seen."""
    with opened(state) as session:
        made = create_key(
            session,
            name=name,
            tenant=tenant,
            scopes=scope or DEFAULT_SCOPES,
            requests_per_minute=requests_per_minute,
            expires_in=None if expires_in_days is None else timedelta(days=expires_in_days),
        )
    if as_json:
        print_json({**_facts(made.row), "key": made.key})
        return
    # alone on stdout: KEY=$(lensqueue keys create ...) holds it
    typer.echo(made.key)
    what = f"{_wire_id(made.row.id)} of tenant {escape(tenant)} may {', '.join(made.row.scopes)}"
    notes.print(f"{what}. It is not shown again.", soft_wrap=True)


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Of this tenant only.", callback=_check_text)] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all keys, newest first, with those that were revoked or expired."""
    with opened(state) as session:
        rows = session.execute(all_keys(tenant)).all()
    if as_json:
        print_json({"items": [_facts(row) for row, _ in rows]})
        return
    heads = ("id", "begins with", "name", "tenant", "scopes", "a minute", "state", "last used")
    told = [
        (
            _wire_id(row.id),
            escape(row.hint),
            escape(row.name),
            escape(row.tenant),
            " ".join(row.scopes),
            str(row.requests_per_minute or ""),
            "[green]good[/]" if usable else "[red]revoked[/]" if row.revoked_at else "[yellow]expired[/]",
            "" if row.last_used_at is None else f"{row.last_used_at:%Y-%m-%d %H:%M}",
        )
        for row, usable in rows
    ]
    print_rows(heads, told)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Its id, as `keys list` shows it: key_...")],
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refuse a key from now on, for good; revoking it again is no error."""
    parsed = ID.fullmatch(key_id)
    if parsed is None:
        raise typer.BadParameter("an id is key_ and 32 digits, as `keys list` shows it", param_hint="KEY_ID")
    with opened(state) as session:
        row = session.get(ApiKey, uuid.UUID(parsed[1]))
        if row is None:
            fail(f"there is no key {key_id}")
        # the last one too: whoever has this command can make another
        revoke_key(session, row.tenant, row.id, leave_an_admin=False)
        session.refresh(row)
    if as_json:
        print_json(_facts(row))
    else:
        notes.print(f"{key_id} ({escape(row.name)}) is revoked.", soft_wrap=True)


def _facts(row: ApiKey) -> dict[str, Any]:
    return {
        "id": _wire_id(row.id),
        "name": row.name,
        "tenant": row.tenant,
        "hint": row.hint,
        "scopes": row.scopes,
        "requests_per_minute": row.requests_per_minute,
        **{
            name: _time(getattr(row, name))
            for name in ("created_at", "last_used_at", "expires_at", "revoked_at")
        },
    }


def _wire_id(value: uuid.UUID) -> str:
    return f"key_{value.hex}"


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
