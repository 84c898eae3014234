"""How long a report takes to open in a browser: headless Chromium, with a fresh profile at each try."""

import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
TRIES: Final = 5
AROUND: Final = """<!doctype html><title>around</title><body>
<iframe width="1280" height="900" src="{url}" onload="
  document.body.setAttribute('data-loaded-ms', performance.now().toFixed(1))"></iframe>
"""
"""The page in a frame, since it lets no script run itself, and when the frame was loaded."""


def measure_page(page: Path) -> dict[str, Any]:
    """Milliseconds until the page was loaded, and seconds from the browser's start until it was drawn."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return {"skipped": f"none of {', '.join(BROWSERS)} is installed"}
    with tempfile.TemporaryDirectory() as folder:
        around, picture = Path(folder) / "around.html", Path(folder) / "drawn.png"
        around.write_text(AROUND.format(url=page.resolve().as_uri()), encoding="utf-8")
        loaded, drawn = [], []
        for number in range(TRIES):
            profile = Path(folder) / f"profile-{number}"
            shown = _run(browser, profile, "--dump-dom", around.as_uri())
            loaded.append(_loaded_ms(shown))
            started = time.perf_counter()
            _run(browser, profile, f"--screenshot={picture}", page.resolve().as_uri())
            drawn.append(time.perf_counter() - started)
            picture.unlink()
    return {
        "page_mb": round(page.stat().st_size / 1e6, 2),
        "browser": subprocess.run(
            [browser, "--version"], check=True, capture_output=True, text=True
        ).stdout.strip(),
        "tries": TRIES,
        "loaded_ms": {"median": round(statistics.median(loaded), 1), "max": round(max(loaded), 1)},
        "started_and_drawn_s": {"median": round(statistics.median(drawn), 2), "max": round(max(drawn), 2)},
    }


def _run(browser: str, profile: Path, *what: str) -> str:
    argv = [
        *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"),
        *(f"--user-data-dir={profile}", *what),
    ]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout


def _loaded_ms(shown: str) -> float:
    found = re.search(r'data-loaded-ms="([\d.]+)"', shown)
    if found is None:
        raise RuntimeError("the browser did not wait for the page")
    return float(found[1])
