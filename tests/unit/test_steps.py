"""What a pass that failed leaves behind."""

import gc
import weakref
from collections.abc import Iterator, Sequence

from engine.arguments import memory_errors
from engine.errors import OutOfMemoryError
from worker.pace import Room
from worker.steps import run_in_steps


class Tensors:
    """Something large in a frame."""


def test_a_failed_item_keeps_nothing_of_its_pass() -> None:
    held: list[weakref.ref[Tensors]] = []

    def run(_: Sequence[str]) -> None:
        tensors = Tensors()
        held.append(weakref.ref(tensors))
        with memory_errors():
            raise MemoryError

    room = Room(items=8, memory_bytes=1_000)
    steps = run_in_steps(["picture"], run, room=room, item_bytes=10, step=lambda: None)
    gc.collect()
    ((item, error),) = steps.failed
    assert (item, type(error)) == ("picture", OutOfMemoryError)
    assert [each() for each in held] == [None]


def test_a_pass_that_found_no_room_is_gone_before_half_of_it_is_tried() -> None:
    """Not when memory is collected: a GPU would be as full as before."""
    held: list[weakref.ref[Tensors]] = []
    alive: list[int] = []

    def read() -> Iterator[Tensors]:
        tensors = Tensors()
        held.append(weakref.ref(tensors))
        yield tensors
        with memory_errors():
            raise MemoryError

    def run(part: Sequence[str]) -> int:
        alive.append(sum(each() is not None for each in held))
        if len(part) == 1:
            return 1
        with memory_errors():
            return len(list(read()))

    gc.collect()
    gc.disable()
    try:
        steps = run_in_steps(
            ["picture"] * 4, run, room=Room(items=4, memory_bytes=1_000), item_bytes=10, step=lambda: None
        )
    finally:
        gc.enable()
    assert alive == [0] * 7
    assert len(steps.done) == 4
