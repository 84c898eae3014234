"""A file that is sent while it is written."""

from collections.abc import Iterator


class Sink:
    """What is written to it is taken away piece by piece; nobody can go back in it."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._end = 0

    def write(self, data: bytes | memoryview) -> int:
        """Hold the bytes until they are taken."""
        piece = bytes(data)
        self._pieces.append(piece)
        self._end += len(piece)
        return len(piece)

    def tell(self) -> int:
        """How much was written so far."""
        return self._end

    def flush(self) -> None:
        """Do nothing: what was written can be taken at once."""

    def close(self) -> None:
        """Do nothing: the last bytes are taken after it."""

    def take(self) -> Iterator[bytes]:
        """What was written since the last time, if anything."""
        if self._pieces:
            yield b"".join(self._pieces)
            self._pieces.clear()
