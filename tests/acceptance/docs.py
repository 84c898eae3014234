"""Running the blocks of a page: its bash in one shell, its Python in one interpreter, top to bottom."""

import json
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from tests.pages import Block

BLOCK_SECONDS: Final = 240.0
MARK: Final = "\x1eend of block\x1e"
REFUSED: Final = re.compile("urn:lensqueue:problem:(?!already-ended)")
"""An answer by which curl ends well, and the page does not; what a page cancels may have ended meanwhile."""
PYTHON: Final = f"""
import json, sys, traceback
page = {{"__name__": "__main__"}}
for line in sys.stdin:
    try:
        exec(compile(*json.loads(line), "exec"), page)
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    print({MARK!r}, flush=True)
"""


@dataclass
class Reader:
    """A shell or an interpreter that is told a page's blocks, one after the other."""

    language: str
    cwd: Path
    env: dict[str, str]

    def __enter__(self) -> Self:
        shell = ["/bin/bash", "-eu", "-s"]
        self._errors = (self.cwd / f"errors-of-{self.language}").open("w+")
        self._process = subprocess.Popen(
            shell if self.language == "bash" else [sys.executable, "-c", PYTHON],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=self.cwd,
            env=self.env,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._errors.close()

    def run(self, block: Block, page: str) -> str:
        """What the block prints; fails, with what it said, when it does."""
        self._tell(block, f"{page}:{block.line}")
        # a block that never ends is killed, and so ends
        limit = threading.Timer(BLOCK_SECONDS, self._process.kill)
        limit.start()
        try:
            printed, ended = self._listen()
        finally:
            limit.cancel()
        where = f"{page}, the block at line {block.line}"
        assert ended, f"{where} failed:\n{printed}\n{self._complaints()}"
        assert not REFUSED.search(printed), f"{where} was refused:\n{printed}"
        return printed

    def _tell(self, block: Block, where: str) -> None:
        stdin: IO[str] | None = self._process.stdin
        assert stdin is not None
        if self.language == "bash":
            # what a command reads is nothing, and not the blocks that follow
            stdin.write(f"{{\n{block.text}\n}} < /dev/null\nprintf '%s\\n' '{MARK}'\n")
        else:
            stdin.write(json.dumps([block.text, where]) + "\n")
        stdin.flush()

    def _listen(self) -> tuple[str, bool]:
        assert self._process.stdout is not None
        printed: list[str] = []
        for line in self._process.stdout:
            if line.endswith(f"{MARK}\n"):
                return "".join(printed) + line.removesuffix(f"{MARK}\n"), True
            printed.append(line)
        return "".join(printed), False

    def _complaints(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-4_000:]
