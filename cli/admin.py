"""Accounts of the dashboard from the command line: for who runs the service, on its database."""

import getpass
import sys
from typing import Annotated

import typer
from rich.markup import escape
from sqlalchemy.orm import Session

from cli.connection import JsonOption
from cli.console import fail, notes
from cli.database import StateOption, opened
from cli.ending import print_json
from cli.listing import print_rows
from jobs import accounts, audit
from jobs.accounts import NewAccount
from jobs.audit import Actor
from jobs.errors import DomainError
from models.account import Account
from models.types import Role

SHOWN = 1_000

app = typer.Typer(help="Accounts of the dashboard.", no_args_is_help=True)

EmailOption = Annotated[str, typer.Option(help="What they sign in with; nothing is sent there.")]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from stdin instead of asking for it.")
]


def _check_tenant(value: str | None) -> str | None:
    # an empty variable of a shell must not make an account of all tenants
    if value is not None and not value.strip():
        raise typer.BadParameter("name a tenant, or leave the option out for all of them")
    return value


@app.callback()
def admin() -> None:
    """Accounts of the dashboard, which is at /admin of the API."""


@app.command()
def create(
    email: EmailOption,
    role: Annotated[Role, typer.Option(help="What they may do: look, act, or manage.")] = Role.ADMIN,
    tenant: Annotated[
        str | None,
        typer.Option(help="Whose jobs they see; unless given, those of all tenants.", callback=_check_tenant),
    ] = None,
    password_stdin: StdinOption = False,
    state: StateOption = None,
) -> None:
    """Make an account; the first one is made so."""
    try:
        hashed = accounts.hash_password(_read_password(password_stdin))
        with opened(state) as session:
            account = accounts.create_account(session, NewAccount(email, hashed, role, tenant))
            _note(session, "account.created", account)
    except DomainError as error:
        fail(str(error))
    where = "all tenants" if tenant is None else f"tenant {escape(tenant)}"
    notes.print(
        f"{escape(account.email)} is {role} of {where}: sign in at /admin of the API.", soft_wrap=True
    )


@app.command("list")
def list_accounts(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Show the accounts, newest first."""
    with opened(state) as session:
        rows = session.scalars(accounts.accounts_page(None, before=None, limit=SHOWN)).all()
    if as_json:
        print_json(
            {
                "items": [
                    {
                        "email": row.email,
                        "role": row.role,
                        "tenant": row.tenant,
                        "created_at": row.created_at.isoformat(),
                        "signed_in_at": row.signed_in_at and row.signed_in_at.isoformat(),
                        "disabled_at": row.disabled_at and row.disabled_at.isoformat(),
                    }
                    for row in rows
                ]
            }
        )
        return
    told = [
        (
            escape(row.email),
            row.role,
            escape(row.tenant or "all"),
            "[red]disabled[/]" if row.disabled_at else "[green]good[/]",
            "" if row.signed_in_at is None else f"{row.signed_in_at:%Y-%m-%d %H:%M}",
        )
        for row in rows
    ]
    print_rows(("email", "role", "tenant", "state", "signed in"), told)


@app.command()
def password(email: EmailOption, password_stdin: StdinOption = False, state: StateOption = None) -> None:
    """Give an account another password, and sign it out everywhere."""
    try:
        hashed = accounts.hash_password(_read_password(password_stdin))
        with opened(state) as session:
            account = _find(session, email)
            accounts.change_password(session, account.id, hashed)
            _note(session, "account.password_changed", account)
    except DomainError as error:
        fail(str(error))
    notes.print(f"{escape(account.email)} has another password.", soft_wrap=True)


@app.command()
def disable(email: EmailOption, state: StateOption = None) -> None:
    """Let an account sign in no more, and sign it out everywhere."""
    try:
        with opened(state) as session:
            account = _find(session, email)
            accounts.disable(session, account)
            _note(session, "account.disabled", account)
    except DomainError as error:
        fail(str(error))
    notes.print(f"{escape(account.email)} is disabled.", soft_wrap=True)


@app.command()
def enable(email: EmailOption, state: StateOption = None) -> None:
    """Let an account sign in again."""
    with opened(state) as session:
        account = _find(session, email)
        accounts.enable(session, account)
        _note(session, "account.enabled", account)
    notes.print(f"{escape(account.email)} can sign in again.", soft_wrap=True)


def _find(session: Session, email: str) -> Account:
    account = session.scalar(accounts.account_named(email))
    if account is None:
        fail(f"there is no account {email}: `lensqueue admin list` shows those there are")
    return account


def _note(session: Session, verb: str, account: Account) -> None:
    audit.note(
        session, Actor(f"{getpass.getuser()} (command line)"), verb, account.email, tenant=account.tenant
    )


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    # it asks twice on a terminal, and is not shown
    value: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return value
