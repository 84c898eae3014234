"""Adding to image sets in many requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lensqueue_client import set_calls
from lensqueue_client.flows import UPLOAD_BYTES, UPLOAD_PICTURES, Flow, Retries, once, upload, wait
from lensqueue_client.folders import look_through
from lensqueue_client.pictures import LazyFile, Part, ToldFile, parts_of, readable, size_of
from lensqueue_client.sets import Added, FolderAdded, Found, ImageSet, ImageSetVersion, NewItem

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lensqueue_client.calls import Call
    from lensqueue_client.jobs import Job
    from lensqueue_client.pictures import Picture

PAGE_ITEMS: Final = 1_000
QUERIES: Final = frozenset({"text", "template", "image_id", "like_index"})
"""What of a search its job stands for."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A picture to be sent or named, and what is said of it."""

    part: Part
    said: dict[str, Any]


def add(
    image_set: ImageSet | str, items: Iterable[NewItem | Picture], retries: Retries
) -> Flow[Added | None]:
    """Add items in their order, some at a time; None where there are none."""
    whole: Added | None = None
    for batch in _batches(map(_entry, items)):
        added = yield from once(_call(image_set, batch), retries)
        whole = added if whole is None else _joined(whole, added)
    return whole


def add_folder(
    image_set: ImageSet | str,
    folder: str | os.PathLike[str],
    retries: Retries,
    on_progress: Callable[[FolderAdded], object] | None,
    *,
    labels_from_folders: bool,
) -> Flow[FolderAdded]:
    """Add the pictures of a folder that the set does not have, by their names from the folder on."""
    found, others = look_through(folder)
    seen = (yield from once(set_calls.get_set(image_set), retries)).last_version
    there = (yield from _names(seen, retries)) if seen.items else set()
    missing = [each for each in found if each.name not in there]
    done = FolderAdded(len(found), there=len(found) - len(missing), passed_over=others)
    if on_progress:
        on_progress(done)
    entries = (
        _Entry(
            Part(each.name, LazyFile(each.path)),
            {"custom_id": each.name, "true_label": each.folder if labels_from_folders else None},
        )
        for each in missing
    )
    for batch in _batches(entries):
        added = yield from once(_call(image_set, batch), retries)
        done = replace(done, added=done.added + added.items, failed=done.failed + added.failed)
        if on_progress:
            on_progress(done)
    return done


def ingest(
    image_set: ImageSet | str,
    files: Mapping[str, str | os.PathLike[str] | None],
    options: Mapping[str, Any],
    retries: Retries,
    on_progress: Callable[[int, int], object] | None,
    key: str | None,
) -> Flow[Job]:
    """Send the files that are given, and have them added; the progress told is that of the first.

    Raises:
        OSError: one cannot be read.
        ValueError: none is given.
    """
    parts: dict[str, Part] = {}
    for name, given in files.items():
        if given is not None:
            path = Path(given)
            told = on_progress if on_progress and not parts else None
            parts[name] = Part(readable(path.name), ToldFile(path, told) if told else LazyFile(path))
    if not parts:
        raise ValueError("give an archive, a manifest, or both")
    return (yield from once(set_calls.ingest(image_set, parts, options, key), retries))


def search(
    version: ImageSetVersion | str,
    wanted: Mapping[str, Any],
    image: Picture | None,
    retries: Retries,
    timeout_s: float | None,
    read_timeout_s: float | None,
) -> Flow[Found]:
    """What is found, once what is looked for was embedded: a picture is uploaded first.

    Raises:
        WaitTimeoutError: it was not, in the time given.
    """
    asked = {name: value for name, value in wanted.items() if value is not None}
    if image is not None:
        (part,) = parts_of([image])
        asked["image_id"] = part.image_id or (yield from upload([part], retries))[0]
    found = yield from once(set_calls.search(version, asked), retries)
    if isinstance(found, Found):
        return found
    job = yield from wait(found, timeout_s, None, read_timeout_s)
    again = {name: value for name, value in asked.items() if name not in QUERIES}
    found = yield from once(set_calls.search(version, {**again, "query_job": job.id}), retries)
    assert isinstance(found, Found), "its job is done"
    return found


def _names(version: ImageSetVersion, retries: Retries) -> Flow[set[str]]:
    """The custom_ids of a version's items."""
    names: set[str] = set()
    token: str | None = None
    while True:
        page = yield from once(set_calls.list_set_items(version, PAGE_ITEMS, token), retries)
        names |= {item.custom_id for item in page.items if item.custom_id is not None}
        if (token := page.token) is None:
            return names


def _entry(item: NewItem | Picture) -> _Entry:
    new = item if isinstance(item, NewItem) else NewItem(item)
    (part,) = parts_of([new.picture])
    said = {
        "custom_id": part.name if new.custom_id is None else new.custom_id,
        "true_label": new.true_label,
        "split": new.split,
        **({"true_labels": list(new.true_labels)} if new.true_labels else {}),
    }
    return _Entry(part, said)


def _call(image_set: ImageSet | str, batch: list[_Entry]) -> Call[Added]:
    if batch[0].part.image_id is not None:
        named = [{"image_id": entry.part.image_id, **entry.said} for entry in batch]
        return set_calls.add_named(image_set, named)
    return set_calls.add_files(image_set, [entry.part for entry in batch], [entry.said for entry in batch])


def _joined(before: Added, after: Added) -> Added:
    return replace(
        after, first=before.first, items=before.items + after.items, failed=before.failed + after.failed
    )


def _batches(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """Some at a time, in order: those that are sent apart from those that are named."""
    batch: list[_Entry] = []
    batch_bytes = 0
    for entry in entries:
        is_named = entry.part.image_id is not None
        entry_bytes = 0 if is_named else size_of(entry.part)
        is_other = bool(batch) and is_named is not (batch[0].part.image_id is not None)
        if batch and (is_other or len(batch) == UPLOAD_PICTURES or batch_bytes + entry_bytes > UPLOAD_BYTES):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(entry)
        batch_bytes += entry_bytes
    if batch:
        yield batch
