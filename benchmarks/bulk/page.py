"""How long a report takes to open in a browser: headless Chromium, from nothing, cold and then warm."""

import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
TRIES: Final = 5
AROUND: Final = """<!doctype html><title>around</title><body>
<iframe width="1280" height="900" src="{url}"></iframe>
<script>document.querySelector("iframe").addEventListener("load", () => {{
  requestAnimationFrame(() => requestAnimationFrame(
    () => document.body.setAttribute("data-loaded-ms", performance.now().toFixed(1))));
}})</script>
"""
"""The page in a frame, and what is written once it was loaded and drawn: it runs no script itself."""


def measure_page(page: Path) -> dict[str, Any]:
    """Milliseconds until the page was loaded and drawn, by a browser that has just started, of some tries."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return {"skipped": f"none of {', '.join(BROWSERS)} is installed"}
    with tempfile.TemporaryDirectory() as folder:
        around = Path(folder) / "around.html"
        around.write_text(AROUND.format(url=page.resolve().as_uri()), encoding="utf-8")
        tries = [_open(browser, around, Path(folder) / f"profile-{number}") for number in range(TRIES)]
    loaded = sorted(each["loaded_ms"] for each in tries)
    return {
        "page_mb": round(page.stat().st_size / 1e6, 2),
        "browser": subprocess.run(
            [browser, "--version"], check=True, capture_output=True, text=True
        ).stdout.strip(),
        "loaded_ms": {"median": loaded[len(loaded) // 2], "max": loaded[-1]},
        "with_start_of_the_browser_s": round(max(each["whole_s"] for each in tries), 2),
    }


def _open(browser: str, around: Path, profile: Path) -> dict[str, float]:
    argv = [
        *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"),
        *(f"--user-data-dir={profile}", "--timeout=60000", "--virtual-time-budget=0"),
        *("--dump-dom", around.as_uri()),
    ]
    started = time.perf_counter()
    shown = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r'data-loaded-ms="([\d.]+)"', shown)
    if found is None:
        raise RuntimeError("the page was not loaded within a minute")
    return {"loaded_ms": float(found[1]), "whole_s": time.perf_counter() - started}
