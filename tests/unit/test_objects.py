"""Objects of work units in the blob store."""

import uuid
from dataclasses import replace

import pytest

from jobs.blobs import BlobStore
from jobs.errors import BlobMissingError, BlobStoreMissingError
from jobs.objects import PIECE_BYTES, ObjectName, Span, put_object, read_span, stream_span

NAME = ObjectName("tenant", job_id=uuid.UUID(int=1), token=uuid.UUID(int=7))


def test_each_part_comes_back_alone(blobs: BlobStore) -> None:
    parts = [b"first", b"", b"third"]
    spans = put_object(blobs, NAME, parts)
    assert [read_span(blobs, NAME, span) for span in spans] == parts


def test_an_object_of_one_tenant_is_nothing_to_another(blobs: BlobStore) -> None:
    (span,) = put_object(blobs, NAME, [b"maps"])
    with pytest.raises(BlobMissingError):
        read_span(blobs, replace(NAME, tenant="another"), span)


def test_a_part_beyond_the_end_is_missing_not_short(blobs: BlobStore) -> None:
    put_object(blobs, NAME, [b"maps"])
    with pytest.raises(BlobMissingError):
        read_span(blobs, NAME, Span(2, 3))


def test_a_large_part_comes_in_pieces_and_never_short(blobs: BlobStore) -> None:
    large = bytes(range(256)) * (PIECE_BYTES // 100)
    _, span, _ = put_object(blobs, NAME, (part for part in (b"first", large, b"third")))
    pieces = list(stream_span(blobs, NAME, span))
    assert b"".join(pieces) == large
    assert max(map(len, pieces)) == PIECE_BYTES
    with pytest.raises(BlobMissingError):
        stream_span(blobs, NAME, Span(span.offset, span.length + 6))
    with pytest.raises(BlobMissingError):
        stream_span(blobs, replace(NAME, tenant="another"), span)


def test_a_late_worker_overwrites_nothing(blobs: BlobStore) -> None:
    (span,) = put_object(blobs, NAME, [b"good"])
    put_object(blobs, replace(NAME, token=uuid.UUID(int=8)), [b"late"])
    assert read_span(blobs, NAME, span) == b"good"


def test_a_store_that_is_not_mounted_is_not_made_anew(blobs: BlobStore) -> None:
    blobs.folder.rename(blobs.folder.with_name("elsewhere"))
    with pytest.raises(BlobStoreMissingError):
        put_object(blobs, NAME, [b"maps"])
    assert not blobs.folder.exists()


def test_where_another_folder_is_mounted_nothing_is_written_and_nothing_counts_as_missing(
    blobs: BlobStore,
) -> None:
    (span,) = put_object(blobs, NAME, [b"maps"])
    mounted = blobs.folder.with_name("elsewhere")
    blobs.folder.rename(mounted)
    blobs.folder.mkdir()
    for use in (
        lambda: put_object(blobs, NAME, [b"maps"]),
        lambda: read_span(blobs, NAME, span),
        lambda: blobs.put("tests", b"picture"),
        lambda: blobs.get("tests", 64 * "0"),
    ):
        with pytest.raises(BlobStoreMissingError):
            use()
    assert list(blobs.folder.iterdir()) == []
    blobs.folder.rmdir()
    mounted.rename(blobs.folder)
    assert read_span(blobs, NAME, span) == b"maps"
