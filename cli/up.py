"""`lensqueue up`: the whole service on this machine, in the foreground, on embedded Postgres and Valkey."""

import http.client
import itertools
import os
import shlex
import shutil
import signal
import socket
import time
import uuid
from pathlib import Path
from types import FrameType
from typing import Annotated

import httpx
import typer
from rich.markup import escape

from cli.console import console, fail, read_settings
from cli.database import DEFAULT_STATE
from cli.processes import api_argv, worker_argv, worker_env
from embedded.errors import EmbeddedError
from embedded.process import Service
from embedded.stack import Stack
from engine.catalog import DEMO_MODEL
from engine.errors import EngineError
from jobs.blobs import BlobStore
from jobs.keys import KEY, create_key, hash_key
from jobs.settings import ServiceSettings
from models import schema
from models.queue import ANALYSIS
from models.session import sync_sessions
from models.types import Scope

HOST = "127.0.0.1"
API_GRACE_SECONDS = 15.0
WATCH_SECONDS = 0.1
LOOK_TICKS = 5
CALM_LOOK_TICKS = 20
ONLINE = "online"
WORKER_GRACE_SECONDS = 40.0  # a worker finishes the unit it holds


class _StopRequestedError(BaseException):
    """Ctrl-C or SIGTERM."""


def up(
    state: Annotated[Path, typer.Option(help="Folder for everything that is kept.")] = Path(".lensqueue"),
    port: Annotated[
        int,
        typer.Option(
            help="Port of the API on localhost. Commands and clients of the folder that you are in find it by"
            " .lensqueue/url, and curl by `URL=$(cat .lensqueue/url)`.",
            min=1,
            max=65_535,
        ),
    ] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Model to serve; give it again for another. The first is that of jobs that name none."
            f" Without it: {DEMO_MODEL}."
        ),
    ] = None,
) -> None:
    """Run Postgres, Valkey, the API, a worker per model and one for image sets until Ctrl-C.

    Restarts what dies.
    """
    models = list(dict.fromkeys(model or [DEMO_MODEL]))
    check_models(models)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _request_stop)
    try:
        _run(state, port, models)
    except _StopRequestedError:
        console.print("Stopped.")
    except EmbeddedError as error:
        fail(str(error))


def _run(state: Path, port: int, models: list[str]) -> None:
    stack = Stack(state)
    try:
        stack.claim()
        # only now: what holds the port of a folder that runs already is that one
        _check_port(port)
        stack.start()
        _serve(stack, port, models)
    finally:
        # from here on the stack is being stopped: a second Ctrl-C must not leave half of it behind
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stack.stop()


def _serve(stack: Stack, port: int, models: list[str]) -> None:
    folders = stack.folders
    temporary = _empty(folders.blobs.with_name("tmp"))
    env = {
        **os.environ,
        # what a killed process leaves behind stays in here, and goes at the next start
        "TMPDIR": str(temporary),
        "LENSQUEUE_DATABASE_URL": stack.database_url,
        "LENSQUEUE_BROKER_URL": stack.broker_url,
        "LENSQUEUE_BLOBS": str(folders.blobs),
        "LENSQUEUE_DEFAULT_MODEL": models[0],
    }
    schema.upgrade(stack.database_url)
    BlobStore(folders.blobs).create()
    key = _write_key(folders.state / "api-key", stack.database_url)
    (folders.state / "url").write_text(f"http://{HOST}:{port}\n", encoding="utf-8")
    stack.supervisor.start(
        Service(
            name="api",
            argv=api_argv(HOST, port),
            env=env,
            log=folders.logs / "api.log",
            ready=lambda _pid: _answers(port, "/readyz"),
            ready_timeout_s=60,
            stop_grace_s=API_GRACE_SECONDS,
            restart=True,
        )
    )
    workers: dict[str, str] = {}
    for name in (*models, ANALYSIS):
        # one id for all its lives: a worker that fails again and again is one row, not hundreds
        worker_id = uuid.uuid4()
        workers[f"wrk_{worker_id.hex}"] = name
        stack.supervisor.start(
            Service(
                name=f"worker {name}",
                argv=worker_argv(),
                env={**env, **worker_env(name), "LENSQUEUE_WORKER_ID": str(worker_id)},
                log=folders.logs / f"worker-{name.replace('/', '-')}.log",
                stop_grace_s=WORKER_GRACE_SECONDS,
                restart=True,
            )
        )
    _greet(stack, port, key, models)
    _watch(stack, port, key, workers)


def _empty(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    return folder


def _watch(stack: Stack, port: int, key: str, workers: dict[str, str]) -> None:
    """Restart what dies until told to stop; say of each worker when it is online, or why it is not."""
    said: dict[str, str] = {}
    for tick in itertools.count():
        stack.supervisor.watch_once()
        calm = all(said.get(wire_id) == ONLINE for wire_id in workers)
        if tick % (CALM_LOOK_TICKS if calm else LOOK_TICKS) == 0:
            for wire_id, news in _news(port, key).items():
                if wire_id in workers and said.get(wire_id) != news:
                    said[wire_id] = news
                    console.print(f"  {workers[wire_id]}: {news}", soft_wrap=True)
        time.sleep(WATCH_SECONDS)


def _news(port: int, key: str) -> dict[str, str]:
    """What there is to say of each worker, by its id."""
    try:
        answer = httpx.get(
            f"http://{HOST}:{port}/v1/workers", headers={"Authorization": f"Bearer {key}"}, timeout=2
        )
        items = answer.raise_for_status().json()["items"]
    except httpx.HTTPError:
        return {}  # the API is being restarted
    told = {item["id"]: item for item in items if item["state"] in {"online", "failed"}}
    return {
        wire_id: ONLINE if item["state"] == "online" else f"cannot load: {item['error']['message']}"
        for wire_id, item in told.items()
    }


def _write_key(path: Path, database_url: str) -> str:
    """The key of this state folder: the one that lies there if it is still good, else a new one."""
    with sync_sessions(database_url).begin() as session:
        if path.exists():
            key = path.read_text(encoding="utf-8").strip()
            if session.scalar(KEY, {"sha256": hash_key(key)}) is not None:
                return key
        key = create_key(session, name="lensqueue up", scopes=Scope).key
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
    return key


def _greet(stack: Stack, port: int, key: str, models: list[str]) -> None:
    folders = stack.folders
    console.print(
        f"\n  [bold]http://{HOST}:{port}[/bold]        the API; its documentation is at /docs", soft_wrap=True
    )
    console.print(f"  [bold]{key}[/bold]  the API key, also in {folders.state / 'api-key'}", soft_wrap=True)
    console.print(
        f"  [bold]http://localhost:{port}/admin/[/bold]  the dashboard; for an account:"
        f" lensqueue admin create --email you@example.org{_state_option(folders.state)}",
        soft_wrap=True,
    )
    console.print(f"  Logs are in {folders.logs}. Ctrl-C stops everything.\n", soft_wrap=True)
    for name in models:
        console.print(f"  {name}: loading{_role(name, models)}", soft_wrap=True)
    console.print(f"  {ANALYSIS}: starting; it fills and sums up image sets", soft_wrap=True)


def _state_option(state: Path) -> str:
    """What a command beside this one must say to find the folder."""
    return "" if state.resolve() == DEFAULT_STATE.resolve() else f" --state {escape(shlex.quote(str(state)))}"


def _role(name: str, models: list[str]) -> str:
    return "; the model of jobs that name none" if len(models) > 1 and name == models[0] else ""


def check_models(models: list[str]) -> None:
    settings = read_settings(ServiceSettings)
    for name in models:
        try:
            settings.catalog().find(name)
        except EngineError as error:
            fail(str(error))
        folder = settings.model_paths.get(name)
        if folder is not None and not folder.is_dir():
            fail(f"LENSQUEUE_MODEL_PATHS maps {name} to {folder}, which is not a folder")


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            fail(f"port {port} cannot be used ({error.strerror}): choose another with --port")


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _request_stop(number: int, frame: FrameType | None) -> None:
    raise _StopRequestedError
