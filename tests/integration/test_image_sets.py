"""Image sets in the ledger: filled, sealed for good, and gone on with in the next version."""

import hashlib
import uuid
from collections.abc import Sequence

import orjson
import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobs import image_sets, images
from jobs.errors import (
    DuplicateCustomIdError,
    EmptySetError,
    ImageInUseError,
    NotFoundError,
    TooManyItemsError,
    UnknownImageError,
)
from jobs.image_sets import NewItem
from jobs.images import Content
from jobs.sealing import manifest, seal
from models.image_set import ImageSetVersion

Sessions = sessionmaker[Session]
TENANT = "tests"
BROKEN = {"code": "image-truncated", "message": "It ends early.", "retryable": False}
MOST = 100


def make_set(sessions: Sessions, tenant: str = TENANT) -> uuid.UUID:
    with sessions.begin() as session:
        return image_sets.create_set(session, tenant, "shapes").id


def keep(sessions: Sessions, names: Sequence[str], tenant: str = TENANT) -> list[uuid.UUID]:
    contents = [Content(hashlib.sha256(name.encode()).hexdigest(), 10, "image/png") for name in names]
    with sessions.begin() as session:
        kept = images.keep(session, tenant, contents)
        return [kept[content.sha256].image.id for content in contents]


def add(sessions: Sessions, set_id: uuid.UUID, items: Sequence[NewItem], most: int = MOST) -> ImageSetVersion:
    with sessions.begin() as session:
        return image_sets.add_items(session, TENANT, set_id, items, most).version


def seal_now(sessions: Sessions, set_id: uuid.UUID) -> ImageSetVersion:
    with sessions.begin() as session:
        return seal(session, TENANT, set_id)


def items_of(sessions: Sessions, version_id: uuid.UUID) -> list[tuple[int, str | None, str | None]]:
    with sessions() as session:
        rows = session.scalars(image_sets.items_page(version_id, after=-1, limit=MOST)).all()
        return [(row.index, row.custom_id, row.true_label) for row in rows]


def test_items_have_dense_indexes_and_are_counted(sessions: Sessions) -> None:
    set_id = make_set(sessions)
    first, second = keep(sessions, ["a", "b"])
    add(sessions, set_id, [NewItem(first, "a.png", "ring"), NewItem(None, "b.png", error=BROKEN)])
    version = add(sessions, set_id, [NewItem(second, None, "star", "test")])
    assert items_of(sessions, version.id) == [(0, "a.png", "ring"), (1, "b.png", None), (2, None, "star")]
    assert (version.items, version.failed, version.labelled, version.image_bytes) == (3, 1, 2, 20)


def test_the_hash_of_a_version_is_that_of_its_manifest(sessions: Sessions) -> None:
    set_id = make_set(sessions)
    (image,) = keep(sessions, ["a"])
    add(sessions, set_id, [NewItem(image, "a.png", "ring"), NewItem(None, "b.png", error=BROKEN)])
    version = seal_now(sessions, set_id)
    sha256 = hashlib.sha256(b"a").hexdigest()
    expected = (
        f'{{"custom_id":"a.png","error":null,"index":0,"sha256":"{sha256}","split":null,"true_label":"ring"}}\n'
        '{"custom_id":"b.png","error":"image-truncated","index":1,"sha256":null,"split":null,"true_label":null}\n'
    )
    assert version.manifest_sha256 == hashlib.sha256(expected.encode()).hexdigest()
    with sessions() as session:
        assert [orjson.loads(line)["index"] for line in manifest(session, version.id)] == [0, 1]


def test_several_true_labels_are_in_the_manifest_and_in_the_next_version(sessions: Sessions) -> None:
    set_id = make_set(sessions)
    image, other = keep(sessions, ["a", "b"])
    add(sessions, set_id, [NewItem(image, "a", true_labels=("ring", "star")), NewItem(other, "b", "ring")])
    sealed = seal_now(sessions, set_id)
    assert sealed.labelled == 2
    add(sessions, set_id, [NewItem(image, "c")])
    for version in (sealed, seal_now(sessions, set_id)):
        with sessions() as session:
            first, second, *_ = map(orjson.loads, manifest(session, version.id))
        assert (first["true_label"], first["true_labels"]) == (None, ["ring", "star"])
        assert second["true_label"] == "ring"
        assert "true_labels" not in second


def test_what_is_added_after_sealing_goes_to_the_next_version(sessions: Sessions) -> None:
    set_id = make_set(sessions)
    first, second = keep(sessions, ["a", "b"])
    add(sessions, set_id, [NewItem(first, "a")])
    sealed = seal_now(sessions, set_id)
    opened = add(sessions, set_id, [NewItem(second, "b")])
    assert (opened.number, opened.items, opened.image_bytes) == (2, 2, 20)
    assert items_of(sessions, sealed.id) == [(0, "a", None)]
    assert items_of(sessions, opened.id) == [(0, "a", None), (1, "b", None)]
    # sealed again, nothing new comes of it
    assert seal_now(sessions, set_id).id == seal_now(sessions, set_id).id == opened.id


def test_sets_of_the_same_items_have_the_same_hash(sessions: Sessions) -> None:
    (image,) = keep(sessions, ["a"])
    hashes = set()
    for _ in range(2):
        set_id = make_set(sessions)
        add(sessions, set_id, [NewItem(image, "a")])
        hashes.add(seal_now(sessions, set_id).manifest_sha256)
    assert len(hashes) == 1


def test_a_custom_id_names_one_item(sessions: Sessions) -> None:
    set_id = make_set(sessions)
    first, second = keep(sessions, ["a", "b"])
    add(sessions, set_id, [NewItem(first, "a")])
    with pytest.raises(DuplicateCustomIdError) as found:
        add(sessions, set_id, [NewItem(second, "new"), NewItem(second, "a"), NewItem(first, "new")])
    assert found.value.pointers == ["/items/1/custom_id", "/items/2/custom_id"]
    # nothing of a request that is refused is kept
    assert items_of(sessions, seal_now(sessions, set_id).id) == [(0, "a", None)]


def test_pictures_of_others_and_unknown_ones_are_refused_alike(sessions: Sessions) -> None:
    set_id = make_set(sessions)
    (mine,) = keep(sessions, ["a"])
    (others,) = keep(sessions, ["a"], tenant="others")
    with pytest.raises(UnknownImageError) as found:
        add(sessions, set_id, [NewItem(mine), NewItem(others), NewItem(uuid.uuid4())])
    assert found.value.pointers == ["/items/1/image_id", "/items/2/image_id"]


def test_a_set_holds_no_more_than_it_may(sessions: Sessions) -> None:
    set_id = make_set(sessions)
    (image,) = keep(sessions, ["a"])
    add(sessions, set_id, [NewItem(image)] * 3, most=4)
    with pytest.raises(TooManyItemsError, match="3 items, these are 2, and a set takes 4"):
        add(sessions, set_id, [NewItem(image)] * 2, most=4)


def test_a_set_without_a_picture_cannot_be_sealed(sessions: Sessions) -> None:
    set_id = make_set(sessions)
    with pytest.raises(EmptySetError):
        seal_now(sessions, set_id)
    add(sessions, set_id, [NewItem(None, "b.png", error=BROKEN)])
    with pytest.raises(EmptySetError):
        seal_now(sessions, set_id)


def test_a_picture_of_a_set_cannot_be_deleted(sessions: Sessions) -> None:
    set_id = make_set(sessions)
    (image,) = keep(sessions, ["a"])
    add(sessions, set_id, [NewItem(image)])
    with sessions() as session, pytest.raises(ImageInUseError):
        images.delete_image(session, TENANT, image)


def test_nobody_finds_a_set_of_others_or_one_that_was_deleted(sessions: Sessions) -> None:
    theirs, mine = make_set(sessions, tenant="others"), make_set(sessions)
    with sessions.begin() as session:
        image_sets.delete_set(session, TENANT, mine)
    for set_id in (theirs, mine, uuid.uuid4()):
        with pytest.raises(NotFoundError):
            add(sessions, set_id, [NewItem(None, error=BROKEN)])
        with pytest.raises(NotFoundError):
            seal_now(sessions, set_id)
