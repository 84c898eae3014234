"""Actions on many jobs by both clients: counted, done, awaited, and refused where the count differs."""

import uuid
from datetime import timedelta

import pytest

from lensqueue_client import Client, ConflictError
from tests.ledger import MODEL


def submit(client: Client, tags: dict[str, str], count: int = 3) -> list[str]:
    return [client.submit_embedding(texts="a ring", tags=tags).id for _ in range(count)]


def test_all_jobs_of_a_tag_are_tried_again_or_deleted(client: Client) -> None:
    tags = {"mark": uuid.uuid4().hex}
    ids = submit(client, tags)
    for job in ids:
        assert client.wait(job).complete
    assert client.count_jobs("delete", tags=tags, state="succeeded", type=["embedding"], model=MODEL) == 3
    again = client.wait_for_action(client.act_on_jobs("retry", 3, tags=tags, reason="to see"))
    assert (again.ended, again.done, again.skipped, again.reason) == (True, 0, 3, "to see"), "none had failed"
    deleted = client.wait_for_action(client.act_on_jobs("delete", 3, tags=tags).id, timeout=60)
    assert (deleted.action, deleted.state, deleted.matched, deleted.done) == ("delete", "done", 3, 3)
    assert list(client.jobs(tag=f"mark:{tags['mark']}")) == []
    assert client.action(deleted) == deleted
    newest = [action.id for action, _ in zip(client.actions(page_size=1), range(2), strict=False)]
    assert newest == [deleted.id, again.id]


def test_an_action_on_another_number_of_jobs_than_was_counted_is_refused(client: Client) -> None:
    tags = {"mark": uuid.uuid4().hex}
    (job,) = submit(client, tags, count=1)
    created = client.job(job).created_at
    assert created is not None
    assert client.count_jobs("cancel", tags=tags, created_after=created) == 0
    assert client.count_jobs("cancel", tags=tags, created_after=created - timedelta(seconds=1)) == 1
    with pytest.raises(ConflictError) as caught:
        client.act_on_jobs("cancel", 2, tags=tags)
    assert caught.value.code == "count-differs"


def test_the_same_key_is_the_same_action(client: Client) -> None:
    tags = {"mark": uuid.uuid4().hex}
    submit(client, tags)
    key = str(uuid.uuid4())
    first, second = (client.act_on_jobs("cancel", 3, tags=tags, idempotency_key=key) for _ in range(2))
    assert first.id == second.id
    assert client.wait_for_action(first).matched == 3
