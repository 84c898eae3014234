"""Image sets in the ledger: filled, sealed for good, and gone on with in the next version."""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from sqlalchemy.orm import Session, sessionmaker

from jobs import adding, copying, image_sets, images, sealing
from jobs.adding import NewItem
from jobs.errors import (
    DuplicateCustomIdError,
    EmptySetError,
    ImageInUseError,
    NotFoundError,
    TooManyItemsError,
    UnknownImageError,
)
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
        return adding.add_items(session, TENANT, set_id, items, most).version


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
        (lines,) = manifest(session, version.id, 0, 2)
        assert lines == expected.encode()


def test_a_manifest_is_the_same_json_as_any_other_writer_of_it_makes(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "LINES_AT_ONCE", 2)
    set_id, code = make_set(sessions), 'a "code"'
    (image,) = keep(sessions, ["a"])
    texts = [
        "".join(map(chr, range(1, 0x300))),
        '\u2028\x7f \U0001f600 \\" /\ufffd',
        "'; --",
        ":a %s {b}",
        "",
    ]
    items = [NewItem(image, each, each, each) for each in texts]
    version = add(sessions, set_id, [*items, NewItem(None, error={**BROKEN, "code": code})])
    sha256 = hashlib.sha256(b"a").hexdigest()
    expected = [
        {
            "custom_id": each,
            "error": None,
            "index": index,
            "sha256": sha256,
            "split": each,
            "true_label": each,
        }
        for index, each in enumerate(texts)
    ]
    last = {"custom_id": None, "error": code, "index": 5, "sha256": None, "split": None, "true_label": None}
    written = b"".join(orjson.dumps(line) + b"\n" for line in [*expected, last])
    with sessions() as session:
        assert b"".join(manifest(session, version.id, 0, 6)) == written
    assert seal_now(sessions, set_id).manifest_sha256 == hashlib.sha256(written).hexdigest()


def test_what_is_added_while_a_version_is_hashed_is_in_the_hash(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_id = make_set(sessions)
    (image,) = keep(sessions, ["a"])
    add(sessions, set_id, [NewItem(image, "a")])
    manifest_lines, late = sealing.manifest_lines, iter(["b"])

    def overtaken(*asked: Any) -> bytes:
        # by somebody who does not have to wait for the hash
        for name in late:
            add(sessions, set_id, [NewItem(image, name)])
        return manifest_lines(*asked)

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "manifest_lines", overtaken)
        sealed = seal_now(sessions, set_id)
    assert (sealed.items, next(late, None)) == (2, None)
    with sessions() as session:
        (lines,) = manifest(session, sealed.id, 0, 2)
    assert sealed.manifest_sha256 == hashlib.sha256(lines).hexdigest()


def test_a_large_version_is_copied_in_parts_that_anybody_goes_on_with(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "COPIED_AT_ONCE", 2)
    set_id = make_set(sessions)
    (image,) = keep(sessions, ["a"])
    names = [f"{number}" for number in range(5)]
    add(sessions, set_id, [NewItem(image, name, "ring") for name in names])
    sealed = seal_now(sessions, set_id)
    with sessions.begin() as session:
        # what seals begins no version
        assert copying.copy_some(session, TENANT, set_id, begin=False)
        assert copying.copies_left(session, set_id, begin=True) == 5
        assert not copying.copy_some(session, TENANT, set_id, begin=True)
    with sessions.begin() as session:
        assert copying.copies_left(session, set_id, begin=False) == 3
        assert not copying.copy_some(session, TENANT, set_id, begin=False)
    opened = add(sessions, set_id, [NewItem(image, "5")])
    assert [name for _, name, _ in items_of(sessions, opened.id)] == [*names, "5"]
    assert (opened.items, opened.labelled, opened.image_bytes) == (6, 5, 60)
    with sessions.begin() as session:
        assert copying.copy_some(session, TENANT, set_id, begin=False)
    again = seal_now(sessions, set_id)
    assert (again.number, again.items) == (2, 6)
    assert again.manifest_sha256 != sealed.manifest_sha256


@pytest.mark.parametrize("copied", [2, 3])
def test_a_version_is_there_from_its_first_new_item_on(
    copied: int, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "COPIED_AT_ONCE", copied)
    set_id = make_set(sessions)
    (image,) = keep(sessions, ["a"])
    add(sessions, set_id, [NewItem(image, name) for name in "abc"])
    sealed = seal_now(sessions, set_id)
    with sessions.begin() as session:
        copying.copy_some(session, TENANT, set_id, begin=True)
        begun = session.scalars(image_sets.begun_versions(set_id, limit=1)).one()
    assert begun.items == copied
    with sessions() as session:
        queries = (image_sets.versions_of(set_id, limit=9), image_sets.last_versions([set_id]))
        assert [session.scalars(each).one().id for each in queries] == [sealed.id] * 2
        assert session.scalar(image_sets.version_of(TENANT, begun.id)) is None
        assert session.scalar(image_sets.numbered_version(TENANT, set_id, 2)) is None
        with pytest.raises(DuplicateCustomIdError):
            adding.check_addable(session, TENANT, set_id, ["c"], [None], MOST)
    assert seal_now(sessions, set_id).id == sealed.id
    assert add(sessions, set_id, [NewItem(image, "d")]).id == begun.id
    assert [name for _, name, _ in items_of(sessions, begun.id)] == [*"abcd"]
    assert seal_now(sessions, set_id).id == begun.id


def test_several_true_labels_are_in_the_manifest_and_in_the_next_version(sessions: Sessions) -> None:
    set_id = make_set(sessions)
    image, other = keep(sessions, ["a", "b"])
    add(sessions, set_id, [NewItem(image, "a", true_labels=("ring", "star")), NewItem(other, "b", "ring")])
    sealed = seal_now(sessions, set_id)
    assert sealed.labelled == 2
    add(sessions, set_id, [NewItem(image, "c")])
    for version in (sealed, seal_now(sessions, set_id)):
        with sessions() as session:
            (lines,) = manifest(session, version.id, 0, version.items)
        first, second, *_ = map(orjson.loads, lines.splitlines())
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
