"""How far an analysis of a folder is: the ids of what was made for it, in a file of its own folder."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from cli.console import console
from lensqueue_client import Client, NotFoundError

STEPS: Final = ("set", "version", "job", "summary")
"""What is made, each of what is before it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What was made for the arguments whose hash is `asked`; `replaces`: the file was that of others."""

    out: Path
    model: str
    seed: int
    asked: str
    replaces: bool

    @classmethod
    def of(cls, out: Path, model: str, seed: int, said: Any) -> "Progress":
        """That of the same arguments; of others, none yet."""
        out.mkdir(parents=True, exist_ok=True)
        asked = hashlib.sha256(orjson.dumps(said)).hexdigest()
        return cls(out, model, seed, asked, replaces=_read(out).get("asked", asked) != asked)

    def once(self, what: str, make: Callable[[], str]) -> str:
        """The id of something that is made once."""
        made = self.made()
        if what not in made:
            made[what] = make()
            # what was made meanwhile for its sake is kept too
            self._write({**self.made(), **made})
        return made[what]

    def forget(self, first: str) -> None:
        """Forget a step, and what was made of it."""
        kept = STEPS[: STEPS.index(first)]
        self._write({what: made for what, made in self.made().items() if what in kept})

    def made(self) -> dict[str, str]:
        """The ids of what was made, by step."""
        told = _read(self.out)
        return dict(told["made"]) if told.get("asked") == self.asked else {}

    def _write(self, made: dict[str, str]) -> None:
        file = _file(self.out)
        draft = file.with_suffix(".draft")
        draft.write_bytes(orjson.dumps({"asked": self.asked, "made": made}))
        draft.replace(file)


def forget_lost(progress: Progress, client: Client) -> None:
    """Forget what the service does not know any more, with what was made of it: it is made again."""
    looks: dict[str, Callable[[str], object]] = {
        "set": client.image_set,
        "version": client.version,
        "job": client.job,
        "summary": client.job,
    }
    made = progress.made()
    for what in STEPS:
        try:
            if what in made:
                looks[what](made[what])
        except NotFoundError:
            progress.forget(what)
            console.print(
                f"The {what} that was made for {progress.out} is not there any more, as when the state folder"
                " was removed: it is made again",
                soft_wrap=True,
            )
            return


def _file(out: Path) -> Path:
    return out / ".progress.json"


def _read(out: Path) -> dict[str, Any]:
    try:
        return dict(orjson.loads(_file(out).read_bytes()))
    except (OSError, orjson.JSONDecodeError):
        return {}
