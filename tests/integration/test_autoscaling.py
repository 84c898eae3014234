"""What the autoscaler asks the ledger, on a real one: items of a model that wait or run."""

import yaml
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobs import queues
from jobs.leases import Appetite
from tests.ledger import claim, complete, submit_texts
from tests.rendered import KUBERNETES, OVERLAYS, render

MANIFEST = KUBERNETES / "workers" / "siglip-base-patch16-224" / "worker.yaml"
MODEL = "google/siglip-base-patch16-224"
OTHER = "google/siglip-base-patch16-256"


def trigger() -> dict[str, str]:
    (scaler,) = [each for each in yaml.safe_load_all(MANIFEST.read_text()) if each["kind"] == "ScaledObject"]
    metadata: dict[str, str] = scaler["spec"]["triggers"][0]["metadata"]
    return metadata


def asked(sessions: sessionmaker[Session]) -> float:
    with sessions() as session:
        # as KEDA reads it
        return float(session.scalar(text(trigger()["query"])))


def test_an_empty_ledger_needs_no_worker(sessions: sessionmaker[Session]) -> None:
    assert asked(sessions) == 0


def test_work_counts_from_its_submit_to_its_end_and_no_other_models(sessions: sessionmaker[Session]) -> None:
    submit_texts(sessions, 5, model=MODEL)
    submit_texts(sessions, 7, model=OTHER)
    assert asked(sessions) == 5
    held = claim(sessions, model=MODEL, appetite=Appetite(items=3))
    assert held is not None
    assert len(held.units) == 3
    # the broker's queue would show less: these are in hand
    assert asked(sessions) == 5
    complete(sessions, held)
    assert asked(sessions) == 2


def test_of_a_paused_queue_only_what_runs_counts(sessions: sessionmaker[Session]) -> None:
    submit_texts(sessions, 5, model=MODEL)
    assert claim(sessions, model=MODEL, appetite=Appetite(items=2)) is not None
    with sessions.begin() as session:
        queues.pause(session, MODEL)
    assert asked(sessions) == 2


def test_the_ledger_is_read_as_far_as_it_could_ask_for_more_workers() -> None:
    limit = int(trigger()["query"].split("LIMIT ")[1].split()[0])
    for overlay in OVERLAYS:
        for scaler in (each for each in render(overlay) if each["kind"] == "ScaledObject"):
            target = float(scaler["spec"]["triggers"][0]["metadata"]["targetQueryValue"])
            assert 0 < target * scaler["spec"]["maxReplicaCount"] < limit
