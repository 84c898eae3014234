"""Pictures that are named by a URL: before they are fetched, and where they could not be."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Remote:
    """A picture that is still to be fetched."""

    url: str


@dataclass(frozen=True, slots=True)
class Unfetched:
    """A picture that could not be fetched, and why: its item fails with this, and the others go on."""

    url: str
    code: str
    message: str

    @property
    def error(self) -> dict[str, Any]:
        """As the error of its item: a retry takes items as they are, so that the job is to be sent again."""
        return {"code": self.code, "message": self.message, "retryable": False}
