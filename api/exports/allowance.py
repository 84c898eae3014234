"""How many exports are rendered at a time: in this process, for one tenant, and for one key."""

import uuid
from collections import Counter

from api.errors import ExportsBusyError, TooManyExportsError


class Allowance:
    """What may be rendered, and who renders; belongs to one event loop.

    A tenant has half of what the process has, however many keys it makes.
    """

    def __init__(self, most: int, most_of_key: int) -> None:
        self._most = most
        self._most_of_tenant = max(1, most // 2)
        self._most_of_key = most_of_key
        self._taken: Counter[tuple[str, uuid.UUID]] = Counter()

    def __len__(self) -> int:
        """How many are rendered."""
        return self._taken.total()

    def take(self, tenant: str, key_id: uuid.UUID) -> "Taken":
        """Count one more of the tenant's key until it is given back.

        Raises:
            TooManyExportsError: the key, or the tenant with all of its keys, has as many as it may.
            ExportsBusyError: the process has.
        """
        who = (tenant, key_id)
        if self._taken[who] >= self._most_of_key:
            raise TooManyExportsError(
                f"This key fetches {self._most_of_key} files of results already, as many as it may at a time."
            )
        if self._of(tenant) >= self._most_of_tenant:
            raise TooManyExportsError(
                f"The keys of this tenant fetch {self._most_of_tenant} files of results already, as many as"
                " they may at a time."
            )
        if len(self) >= self._most:
            raise ExportsBusyError
        self._taken[who] += 1
        return Taken(self._taken, who)

    def _of(self, tenant: str) -> int:
        return sum(count for (owner, _), count in self._taken.items() if owner == tenant)


class Taken:
    """One that was counted."""

    def __init__(self, taken: Counter[tuple[str, uuid.UUID]], who: tuple[str, uuid.UUID]) -> None:
        self._taken = taken
        self._who: tuple[str, uuid.UUID] | None = who

    def give_back(self) -> None:
        """Count it no more; to be said as often as one likes."""
        who, self._who = self._who, None
        if who is None:
            return
        self._taken[who] -= 1
        if not self._taken[who]:
            del self._taken[who]
