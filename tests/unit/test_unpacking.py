"""Sources cut into chunks: each is small, and reading goes on behind any of them."""

import hashlib
import io

import pytest

from jobs import unpacking
from jobs.ingesting import Phase, Progress, SourceForm
from jobs.unpacking import Reading, chunks_of
from tests.packed import zip_of
from tests.scenes import tiny_png


def test_lines_that_name_one_file_are_no_chunk_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "CHUNK_ITEMS", 4)
    names = ["a.png"] * 10 + ["b.png", "lost.png"] + ["a.png"] * 5
    manifest = "file,custom_id\n" + "".join(f"{name},{number}\n" for number, name in enumerate(names))
    archive = zip_of({name: tiny_png(place) for place, name in enumerate(("other.png", "a.png", "b.png"))})
    reading = Reading(
        SourceForm.MANIFEST,
        io.BytesIO(manifest.encode()),
        keep=lambda data: hashlib.sha256(data).hexdigest(),
        step=lambda: None,
        beside=io.BytesIO(archive),
    )
    chunks = list(chunks_of(reading, Progress(Phase.LINES)))
    assert max(len(chunk.found) for chunk in chunks) == 4
    found = [(one.custom_id, one.picture) for chunk in chunks for one in chunk.found]
    numbers = [*range(10), *range(12, 17), 10, 11]
    assert [custom_id for custom_id, _ in found] == [str(number) for number in numbers]
    assert len({str(picture) for _, picture in found}) == 3
    done = 0
    for chunk in chunks[:-1]:
        done += len(chunk.found)
        rest = list(chunks_of(reading, chunk.after))
        assert [one.custom_id for each in rest for one in each.found] == [name for name, _ in found[done:]]
        assert rest[-1].after == chunks[-1].after
