"""The running API held against its document by tools that others made. On demand: `make test-contract`."""

import re
from pathlib import Path

import pytest

from tests.contract.conftest import HERE, NODE_TOOLS, PYTHON_TOOLS, run
from tests.ledger import MODEL

pytestmark = [pytest.mark.contract, pytest.mark.timeout(2_400)]

EXAMPLES = 25
"""Of each operation and phase."""
STATEFUL_SECONDS = 120


def test_spectral_finds_nothing(document: Path) -> None:
    run(
        NODE_TOOLS / "spectral",
        "lint",
        "--ruleset",
        HERE / "spectral.yaml",
        "--fail-severity",
        "hint",
        document,
    )


def test_redocly_finds_nothing(document: Path) -> None:
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    run(
        NODE_TOOLS / "redocly",
        "lint",
        "--config",
        HERE / "redocly.yaml",
        "--max-problems",
        "1000",
        document,
        env=quiet,
    )


def test_a_generated_client_runs_a_whole_job(
    document: Path, address: str, keys: tuple[str, str], tmp_path: Path
) -> None:
    generated = tmp_path / "generated"
    run(
        PYTHON_TOOLS / "openapi-python-client",
        "generate",
        "--path",
        document,
        "--config",
        HERE / "generator.yaml",
        "--output-path",
        generated,
        "--fail-on-warning",
    )
    package = generated / "lensqueue_generated"
    assert re.search(r"\bdef sync_detailed\(", (package / "api" / "jobs" / "submit_job.py").read_text())
    env = {"PYTHONPATH": str(generated), "LENSQUEUE_URL": address, "LENSQUEUE_KEY": keys[0]}
    run(PYTHON_TOOLS / "python", HERE / "whole_job.py", MODEL, env=env)


@pytest.mark.parametrize(
    "bounds",
    [
        ("--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES),
        # along links by time: by examples alone, few walks come far
        ("--phases", "stateful", "--max-time", STATEFUL_SECONDS),
    ],
    ids=["each-operation", "along-links"],
)
def test_schemathesis_finds_nothing(
    document: Path, address: str, keys: tuple[str, str], job_with_maps: str, bounds: tuple[object, ...]
) -> None:
    mine, others = keys
    env = {
        "LENSQUEUE_KEY": mine,
        "LENSQUEUE_OTHER_KEY": others,
        "LENSQUEUE_URL": address,
        "LENSQUEUE_JOB_ID": job_with_maps,
        "SCHEMATHESIS_HOOKS": "hooks",
        "PYTHONPATH": str(HERE),
    }
    run(
        PYTHON_TOOLS / "schemathesis",
        "--no-color",
        "--config-file",
        HERE / "schemathesis.toml",
        "run",
        document,
        "--url",
        address,
        *bounds,
        env=env,
    )
