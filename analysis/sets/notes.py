"""What a reader of a summary should know, gathered while it is computed."""

from analysis.sets.schema import Warned


class Notes:
    """Warnings in the order in which they came up, each code once."""

    def __init__(self) -> None:
        self._said: dict[str, Warned] = {}

    def say(self, code: str, message: str) -> None:
        """Keep the warning, unless its code has one already."""
        self._said.setdefault(code, Warned(code=code, message=message))

    @property
    def said(self) -> list[Warned]:
        """All of them."""
        return list(self._said.values())
