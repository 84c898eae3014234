"""Where the service is and which key is used: as given, of the environment, or of `lensqueue up` here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from lensqueue_client.errors import ConfigurationError

DEFAULT_URL: Final = "http://localhost:8000"
KEY_FILE: Final = Path(".lensqueue/api-key")
URL_FILE: Final = Path(".lensqueue/url")


@dataclass(frozen=True, slots=True)
class Configuration:
    """An address and a key."""

    url: str
    key: str = field(repr=False)

    def headers(self) -> dict[str, str]:
        """What every request says."""
        return {"Authorization": f"Bearer {self.key}", "User-Agent": "lensqueue-client"}


def configure(url: str | None = None, key: str | None = None) -> Configuration:
    """What is given, else LENSQUEUE_URL and LENSQUEUE_API_KEY, else what `lensqueue up` left in this folder.

    Raises:
        ConfigurationError: there is no key, or the address is none.
    """
    # paths begin with the version, which people copy with the address
    url = address(url).rstrip("/").removesuffix("/v1")
    key = key or os.environ.get("LENSQUEUE_API_KEY") or _kept(KEY_FILE)
    if not key:
        raise ConfigurationError(
            f"no API key: give one, set LENSQUEUE_API_KEY, or run where {KEY_FILE} lies", code="no-key"
        )
    # the header would be refused with a message that shows the key
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError("the API key holds characters that no key has", code="no-key")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigurationError(f"{url!r} is no http address like {DEFAULT_URL}", code="no-url")
    return Configuration(url, key)


def address(url: str | None = None) -> str:
    """What is given, else LENSQUEUE_URL, else that of `lensqueue up` in this folder, else localhost."""
    # the address and the key of a folder go together: its key is not for whoever else listens on port 8000
    return url or os.environ.get("LENSQUEUE_URL") or _kept(URL_FILE) or DEFAULT_URL


def _kept(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        return None
