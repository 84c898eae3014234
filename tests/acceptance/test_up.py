"""`lensqueue up` and `lensqueue demo`, as a person runs them."""

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from cli.collection import choose
from cli.demo import look
from lensqueue_client import Client
from tests.acceptance.conftest import free_port
from tests.acceptance.standing import ROOT, Up, lensqueue, run
from tests.commands import run_here
from tests.ledger import MODEL


def assert_gone(processes: list[psutil.Process], seconds: float = 5) -> None:
    gone, alive = psutil.wait_procs(processes, timeout=seconds)
    left = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert not left, left
    assert len(gone) + len(alive) == len(processes) > 3


@pytest.fixture(scope="module")
def up(state_folder: Path) -> Iterator[Up]:
    folder = state_folder / "with a space"
    folder.mkdir(mode=0o711)
    running = Up(folder / "state")
    running.wait_until_ready()
    yield running
    running.stop()


def test_it_prints_the_address_and_the_key_and_keeps_the_key_to_its_user(up: Up) -> None:
    key = (up.state / "api-key").read_text().strip()
    printed = up.output.read_text()
    assert f"http://127.0.0.1:{up.port}" in printed
    assert key in printed
    assert f"http://localhost:{up.port}/admin/" in printed
    assert f"lensqueue admin create --email you@example.org --state '{up.state}'" in printed
    assert stat.S_IMODE((up.state / "api-key").stat().st_mode) == 0o600
    answer = httpx.get(f"http://127.0.0.1:{up.port}/v1/workers", headers={"Authorization": f"Bearer {key}"})
    assert answer.is_success


@pytest.mark.parametrize("same_port", [False, True])
def test_a_second_start_on_the_same_folder_is_refused(up: Up, *, same_port: bool) -> None:
    port = up.port if same_port else free_port()
    refused = run("up", "--state", str(up.state), "--port", str(port))
    assert refused.returncode == 1
    assert str(up.process.pid) in refused.stderr


def test_a_port_in_use_is_refused(up: Up, tmp_path: Path) -> None:
    refused = run("up", "--state", str(tmp_path / "other"), "--port", str(up.port))
    assert refused.returncode == 1
    assert "--port" in refused.stderr
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("model", "said"),
    [("nobody/knows", "Unknown model"), ("google/siglip-base-patch32-224", "does not exist on the hub")],
)
def test_a_model_that_cannot_be_served_is_refused(tmp_path: Path, model: str, said: str) -> None:
    refused = run_here("up", "--state", str(tmp_path / "state"), "--port", "1", "--model", model)
    assert refused.returncode == 1
    assert said in refused.stderr


def test_another_worker_finds_the_service_of_the_folder_it_is_started_in(up: Up, tmp_path: Path) -> None:
    key = (up.state / "api-key").read_text().strip()
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{up.port}", headers={"Authorization": f"Bearer {key}"}, timeout=30
    )

    def online() -> int:
        told = client.get("/v1/workers").raise_for_status().json()["items"]
        return sum(worker["state"] == "online" for worker in told)

    (tmp_path / ".lensqueue").symlink_to(up.state)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'client' / 'src'}"}
    other = subprocess.Popen([*lensqueue("worker"), "--model", MODEL], cwd=tmp_path, env=env)
    try:
        until = time.monotonic() + 90
        while online() < 2:
            assert other.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        other.terminate()
        other.wait(timeout=60)


def test_a_worker_without_a_service_says_where_it_looks_and_what_to_do(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("LENSQUEUE_")}
    env["PYTHONPATH"] = f"{ROOT}:{ROOT / 'client' / 'src'}"
    worker = [*lensqueue("worker"), "--model", MODEL]
    with subprocess.Popen(worker, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        waiting.kill()  # it waits for a database
    assert "start `lensqueue up`" in said
    assert "LENSQUEUE_DATABASE_URL" in said
    named = run("worker", "--model", MODEL, "--state", str(tmp_path))
    assert (named.returncode, f"nothing runs on {tmp_path}" in named.stderr) == (1, True)


@pytest.mark.slow_chaos
def test_what_dies_is_restarted_and_jobs_survive_a_stop(up: Up) -> None:
    key = (up.state / "api-key").read_text().strip()
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{up.port}", headers={"Authorization": f"Bearer {key}"}, timeout=30
    )
    job = client.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a ring"]}}).json()
    (api,) = [child for child in psutil.Process(up.process.pid).children() if "uvicorn" in child.cmdline()]
    api.send_signal(signal.SIGKILL)
    api.wait()
    up.wait_until_ready()
    descendants = up.descendants()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(timeout=60) == 0
    assert_gone(descendants)
    again = Up(up.state)
    again.wait_until_ready()
    assert (up.state / "api-key").read_text().strip() == key
    kept = httpx.get(
        f"http://127.0.0.1:{again.port}{job['links']['self']}",
        # it may have waited through the stop, and run only now
        headers={"Authorization": f"Bearer {key}", "Prefer": "wait=30"},
        timeout=60,
    )
    assert kept.json()["state"] == "succeeded"
    descendants = again.descendants()
    again.process.kill()
    again.process.wait()
    assert_gone(descendants)
    assert list(again.temporary.iterdir()) == [], "only the state folder may be written to"


def test_the_demo_shows_a_lens_of_every_sample_and_leaves_nothing_running(state_folder: Path) -> None:
    state = state_folder / "demo"
    done = run("demo", "--state", str(state), env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((state / "demo" / "results.json").read_text())
    assert written["job"]["state"] == "succeeded"
    assert len(written["items"]) == 24
    right = [item["top"]["label"] in written["objects"][item["custom_id"]] for item in written["items"]]
    assert sum(right) >= 22
    assert "settle layer" in done.stdout
    assert written["items"][0]["top"]["label"] in done.stdout
    overlays = sorted((state / "demo" / "overlays").iterdir())
    assert len(overlays) == 24
    for path in (*overlays, state / "demo" / "lens.png"):
        with Image.open(path) as drawn:
            drawn.load()
            assert drawn.format == "PNG"
    report = (state / "demo" / "report.html").read_text()
    assert all(item["custom_id"] in report for item in written["items"])
    left = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(state) in " ".join(process.info["cmdline"] or [])
    ]
    assert left == []
    shutil.rmtree(state)


def test_the_demo_looks_at_pictures_of_ones_own_and_tells_those_it_cannot_read(
    sync_client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "my pictures"
    pictures.mkdir()
    scene = (ROOT / "demo" / "samples" / "images" / "scene-00000.jpg").read_bytes()
    (pictures / "b [bold].jpg").write_bytes(scene)
    (pictures / "a.jpg").write_bytes(scene[:2_000])
    (pictures / os.fsdecode(b"c\xff.jpg")).write_bytes(scene)
    (pictures / "notes.txt").write_text("no picture")
    labels = tmp_path / "labels.txt"
    labels.write_text("cyan ring\n\nan [/]arrow\n")
    made = tmp_path / "made"
    look(sync_client, MODEL, choose(MODEL, pictures, f"@{labels}"), made, theirs=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "passed over: notes.txt" in said
    assert "knows coloured shapes and nothing else" in said
    written = json.loads((made / "results.json").read_text())
    assert [(item["custom_id"], item["state"]) for item in written["items"]] == [
        ("b [bold].jpg", "succeeded"),
        ("c\\xff.jpg", "succeeded"),
        ("a.jpg", "failed"),
    ]
    assert "image-truncated" in (made / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--images", "demo/samples/images"), "say what may be in your pictures"),
        (("--images", "demo", "--labels", "a cat"), "holds no pictures"),
        (("--images", "nowhere", "--labels", "a cat"), "is not a folder"),
        (("--labels", "@nowhere.txt"), "No such file"),
        (("--labels", " , "), "names no label"),
        (("--model", "google/siglip-base-patch32-224"), "does not exist on the hub"),
    ],
)
def test_a_demo_that_cannot_be_run_says_so_before_anything_starts(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = run_here("demo", "--state", str(tmp_path / "state"), *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "state").exists()
