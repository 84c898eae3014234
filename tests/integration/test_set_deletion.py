"""Image sets that were deleted: unknown at once, their rows removed in slices."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from api.settings import ApiSettings
from jobs import retention
from tests.faults import change, do
from tests.integration.test_bad_requests import assert_problem
from tests.ledger import scalar
from tests.sets import (
    HERE,
    OTHER,
    add,
    items_of,
    make,
    operations,
    seal,
    send,
    small,
    upload,
)

Sessions = sessionmaker[Session]


def forget(sessions: Sessions) -> list[int]:
    """Do the duty until it finds nothing: how much it did, each time."""
    slices = []
    while removed := do(sessions, retention.forget_sets):
        slices.append(removed)
    return slices


def test_a_deleted_set_is_unknown_at_once_and_lets_its_pictures_go_later(
    api: TestClient, picture: bytes, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 2)
    gone, kept = make(api), make(api)
    send(api, gone, ("a.jpg", picture), ("b.jpg", picture), ("c.jpg", OTHER))
    sealed = seal(api, gone)["id"]
    send(api, gone, ("d.jpg", OTHER))
    send(api, kept, ("a.jpg", OTHER))
    of_both, of_gone = items_of(api, sealed)[2]["image_id"], items_of(api, sealed)[0]["image_id"]
    assert_problem(api.delete(f"/v1/images/{of_gone}"), 409, "image-in-use")
    deleted = api.delete(f"{HERE}/{gone}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method, path, body in operations(gone, sealed):
        assert_problem(api.request(method, path, **body), 404, "not-found")
    assert [each["id"] for each in api.get(HERE).json()["items"]] == [kept]
    forget(sessions)
    assert scalar(sessions, "SELECT count(*) FROM image_sets") == 1
    assert scalar(sessions, "SELECT count(*) FROM image_set_versions") == 1
    assert scalar(sessions, "SELECT count(*) FROM image_set_items") == 1
    assert api.delete(f"/v1/images/{of_gone}").status_code == 204
    assert_problem(api.delete(f"/v1/images/{of_both}"), 409, "image-in-use")
    assert seal(api, kept)["items"] == 1


def test_rows_of_a_deleted_set_go_in_slices_and_not_under_a_job_that_runs(
    settings: ApiSettings, key: str, sessions: Sessions, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 2)
    with small(settings, key) as api:
        set_id, image_id = make(api), upload(api, picture)
        add(api, set_id, *[{"image_id": image_id}] * 5)
        seal(api, set_id)
        api.post("/v1/jobs", json={"type": "embedding", "input": {"texts": ["a"]}})
    # no service runs any more, whose duty would be at it too
    change(sessions, "UPDATE jobs SET version_id = (SELECT id FROM image_set_versions)")
    change(sessions, "UPDATE image_sets SET deleted_at = now()")
    assert forget(sessions) == []
    assert scalar(sessions, "SELECT count(*) FROM image_set_items") == 5
    change(sessions, "UPDATE jobs SET state = 'cancelled', ended_at = now(), dropped = total")
    assert forget(sessions) == [2, 2, 1, 1, 1]
    assert scalar(sessions, "SELECT count(*) FROM image_sets") == 0
    assert scalar(sessions, "SELECT count(*) FROM jobs") == 1
