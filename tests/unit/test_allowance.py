"""Exports that are counted: each once, until it ends, also where its client went away."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.errors import ExportsBusyError, TooManyExportsError
from api.exports.allowance import Allowance
from api.exports.answers import RenderedResponse
from api.exports.exporter import Rendering

A, B, C, D, E = (uuid.UUID(int=number) for number in range(5))


def test_a_key_and_a_tenant_have_their_shares_and_all_together_no_more_than_there_is() -> None:
    allowance = Allowance(most=6, most_of_key=2)
    first, _, _ = allowance.take("red", A), allowance.take("red", A), allowance.take("red", B)
    with pytest.raises(TooManyExportsError, match="This key"):
        allowance.take("red", A)
    with pytest.raises(TooManyExportsError, match="this tenant"):
        allowance.take("red", B)
    for key_id in (C, C, D):
        allowance.take("blue", key_id)
    with pytest.raises(ExportsBusyError):
        allowance.take("green", E)
    first.give_back()
    first.give_back()
    assert len(allowance) == 5
    allowance.take("green", E)


def test_an_export_whose_client_went_away_is_counted_no_more() -> None:
    allowance = Allowance(most=1, most_of_key=1)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a piece"

    async def stay() -> Any:
        await asyncio.Event().wait()

    async def send(_: Any) -> None:
        assert len(allowance) == 1
        raise ConnectionError

    response = RenderedResponse(Rendering(pieces(), allowance.take("red", A)), "text/plain", {})
    scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
    with pytest.raises(ConnectionError):
        asyncio.run(response(scope, stay, send))
    assert len(allowance) == 0
