"""What requests hold of bodies together: bounded, given back, and never so that nobody can send anything."""

import pytest

from api.errors import UploadsBusyError
from api.spool import SMALL_BYTES, Hold, Spool

LARGE = 10 * SMALL_BYTES


def hold_for(spool: Spool, tenant: str) -> Hold:
    hold = Hold(spool)
    hold.belong_to(tenant)
    return hold


def test_a_large_body_waits_until_others_have_given_back_what_they_hold() -> None:
    spool = Spool(2 * LARGE)
    first, second, third = (hold_for(spool, tenant) for tenant in "abc")
    first.grow_to(LARGE)
    second.grow_to(LARGE)
    with pytest.raises(UploadsBusyError):
        third.grow_to(LARGE)
    assert spool.held_bytes == 2 * LARGE
    third.grow_to(SMALL_BYTES)
    third.release()
    first.release()
    first.release()
    assert spool.held_bytes == LARGE
    third = hold_for(spool, "c")
    third.grow_to(LARGE)
    second.release()
    third.release()
    assert (spool.held_bytes, len(spool.by_tenant)) == (0, 0)


def test_one_tenant_holds_half_of_it() -> None:
    spool = Spool(4 * LARGE)
    for _ in range(2):
        hold_for(spool, "a").grow_to(LARGE)
    with pytest.raises(UploadsBusyError):
        hold_for(spool, "a").grow_to(LARGE)
    hold_for(spool, "a").grow_to(SMALL_BYTES)
    hold_for(spool, "b").grow_to(LARGE)
    # a body that is alone of its tenant may have what is left
    with pytest.raises(UploadsBusyError):
        hold_for(spool, "c").grow_to(LARGE)
    hold_for(spool, "c").grow_to(LARGE - SMALL_BYTES)


def test_what_is_not_declared_counts_as_it_comes() -> None:
    spool = Spool(LARGE)
    other, hold = hold_for(spool, "a"), hold_for(spool, "b")
    other.grow_to(SMALL_BYTES)
    for part in range(1, 10):
        hold.grow_to(part * SMALL_BYTES)
    with pytest.raises(UploadsBusyError):
        hold.grow_to(10 * SMALL_BYTES)
    hold.release()
    assert spool.held_bytes == SMALL_BYTES
    # its request may go on reading what it does not keep
    hold.grow_to(LARGE)
    assert spool.held_bytes == SMALL_BYTES


def test_alone_a_request_may_send_whatever_one_may() -> None:
    spool = Spool(SMALL_BYTES)
    Hold(spool).grow_to(LARGE)
    assert spool.held_bytes == LARGE


def test_what_is_held_cannot_be_given_to_another_tenant() -> None:
    spool = Spool(LARGE)
    hold = hold_for(spool, "a")
    hold.grow_to(SMALL_BYTES)
    with pytest.raises(RuntimeError):
        hold.belong_to("b")
    with pytest.raises(AttributeError):
        hold.tenant = "b"  # type: ignore[misc]  # what must not be possible
    hold.release()
    assert (spool.held_bytes, len(spool.by_tenant)) == (0, 0)
