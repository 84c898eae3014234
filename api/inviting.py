"""Inviting the workers of a queue that goes on."""

from typing import Final

from api.deps import Services
from jobs import queries

INVITED: Final = 16


async def invite_waiting(services: Services, model: str) -> None:
    """Tell the workers of a model what waits for it; the duties would too, but a second later."""
    async with services.sessions() as session:
        waiting = (await session.execute(queries.waiting_models(limit=INVITED))).all()
    for waited_for, job_id, units in waiting:
        if waited_for == model:
            for _ in range(units):
                services.inviter.invite(model, job_id)
