"""Turns: tenants are served by rotation, and none holds more than its share of what may go on at a time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from api.errors import BusyError
from api.turns import Turns


class Place:
    """Where those who have a turn stay until they are let go."""

    def __init__(self, at_once: int, share: int | None = None, wait_seconds: float | None = None) -> None:
        self.turns = Turns(at_once, share, wait_seconds)
        self.inside: list[str] = []
        self._leave: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def enter(self, *names: str) -> None:
        """Have each ask for a turn of the tenant that its name begins with."""
        for name in names:
            self._leave[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._stay(name))
        await settled()

    async def let_go(self, *names: str) -> None:
        for name in names:
            self._leave[name].set()
        await settled()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
        await settled()

    async def _stay(self, name: str) -> None:
        async with self.turns.one(name[0]):
            self.inside.append(name)
            try:
                await self._leave[name].wait()
            finally:
                self.inside.remove(name)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(steps: Coroutine[Any, Any, None]) -> None:
    asyncio.run(steps)


def test_one_tenant_has_half_of_the_turns_and_its_own_in_order() -> None:
    async def steps() -> None:
        place = Place(4)
        await place.enter("a1", "a2", "a3", "a4")
        assert place.inside == ["a1", "a2"]
        await place.let_go("a2")
        assert place.inside == ["a1", "a3"]
        await place.let_go("a1", "a3", "a4")
        assert place.inside == []

    run(steps())


def test_tenants_that_wait_are_served_in_turn_however_much_each_waits_for() -> None:
    async def steps() -> None:
        place = Place(2)
        await place.enter("a1", "a2", "a3", "a4", "b1", "b2", "c1")
        assert place.inside == ["a1", "b1"]
        await place.let_go("a1")
        # a has waited again for longer than c has
        assert place.inside == ["b1", "a2"]
        await place.let_go("b1", "a2")
        assert place.inside == ["b2", "c1"]
        await place.let_go("b2", "c1")
        assert place.inside == ["a3"]
        await place.let_go("a3", "a4")
        assert place.inside == []

    run(steps())


def test_a_single_turn_goes_round() -> None:
    async def steps() -> None:
        place = Place(1)
        await place.enter("a1", "a2", "a3", "b1")
        for name in ("a1", "a2", "b1", "a3"):
            assert place.inside == [name]
            await place.let_go(name)

    run(steps())


def test_who_goes_away_leaves_no_turn_taken() -> None:
    async def steps() -> None:
        place = Place(1)
        await place.enter("a1", "a2", "b1", "b2")
        # one that waits, then the one that has it; the next is called, and goes before it came
        await place.cancel("b1")
        await place.let_go("a1")
        await place.cancel("a2", "b2")
        await place.enter("c1")
        assert place.inside == ["c1"]
        await place.let_go("c1")

    run(steps())


def test_a_share_may_be_less_than_half() -> None:
    async def steps() -> None:
        place = Place(6, share=2)
        await place.enter("a1", "a2", "a3", "b1", "b2", "b3", "c1")
        assert place.inside == ["a1", "a2", "b1", "b2", "c1"]
        await place.let_go("a1", "a2", "a3", "b1", "b2", "b3", "c1")
        assert place.inside == []

    run(steps())


def test_who_waits_for_too_long_is_told_and_leaves_no_turn_taken() -> None:
    async def steps() -> None:
        place = Place(1, wait_seconds=0.01)
        await place.enter("a1")
        with pytest.raises(BusyError):
            async with place.turns.one("b"):
                raise AssertionError("there was no turn")
        await place.let_go("a1")
        # what the block takes does not count
        async with place.turns.one("b"):
            await asyncio.sleep(0.03)
        await place.enter("c1")
        assert place.inside == ["c1"]
        await place.let_go("c1")

    run(steps())
