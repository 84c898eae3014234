"""How many exports are rendered at a time, in this process and for one key."""

import uuid
from collections import Counter

from api.errors import ExportsBusyError, TooManyExportsError


class Allowance:
    """What may be rendered, and who renders; belongs to one event loop."""

    def __init__(self, most: int, most_of_key: int) -> None:
        self._most = most
        self._most_of_key = most_of_key
        self._by_key: Counter[uuid.UUID] = Counter()

    def __len__(self) -> int:
        """How many are rendered."""
        return self._by_key.total()

    def take(self, key_id: uuid.UUID) -> "Taken":
        """Count one more of the key until it is given back.

        Raises:
            TooManyExportsError: the key has as many as it may.
            ExportsBusyError: the process has.
        """
        if self._by_key[key_id] >= self._most_of_key:
            raise TooManyExportsError(
                f"This key fetches {self._most_of_key} files of results already, as many as it may at a time."
            )
        if len(self) >= self._most:
            raise ExportsBusyError
        self._by_key[key_id] += 1
        return Taken(self._by_key, key_id)


class Taken:
    """One that was counted."""

    def __init__(self, by_key: Counter[uuid.UUID], key_id: uuid.UUID) -> None:
        self._by_key = by_key
        self._key_id: uuid.UUID | None = key_id

    def give_back(self) -> None:
        """Count it no more; to be said as often as one likes."""
        key_id, self._key_id = self._key_id, None
        if key_id is None:
            return
        self._by_key[key_id] -= 1
        if not self._by_key[key_id]:
            del self._by_key[key_id]
