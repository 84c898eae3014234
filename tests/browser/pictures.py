"""The pictures of the documentation, made of screenshots: `python -m tests.browser.pictures FOLDER`.

Each page in light and dark as WebP in docs/images/dashboard, and a page of the documentation that shows them.
"""

import sys
from pathlib import Path
from typing import Final

from PIL import Image

ROOT: Final = Path(__file__).resolve().parents[2]
IMAGES: Final = ROOT / "docs" / "images" / "dashboard"
PAGE: Final = ROOT / "docs" / "how-to" / "dashboard-pages.md"
MAX_WIDTH: Final = 1_000
SCHEMES: Final = ("light", "dark")
TITLES: Final = {
    "overview": "Overview",
    "jobs": "Jobs",
    "jobs-filtered": "Jobs that a filter finds",
    "act": "Acting on all that a filter finds",
    "new-job": "A new job",
    "job": "A job",
    "job-failures": "What failed of a job",
    "lens": "A logit lens",
    "embedding": "An embedding",
    "sets": "Image sets",
    "set": "An image set",
    "workers": "Workers",
    "queues": "Queues",
    "keys": "Keys",
    "webhooks": "Webhook endpoints",
    "webhook": "A webhook endpoint",
    "accounts": "Accounts",
    "audit": "Audit",
    "account": "Your account",
    "sign-in": "Signing in",
}


def main(folder: Path) -> None:
    """Make the pictures, and the page from where its head ends."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    head = PAGE.read_text(encoding="utf-8").partition("\n## ")[0].rstrip("\n")
    parts = [head]
    for name, title in TITLES.items():
        for scheme in SCHEMES:
            with Image.open(folder / f"{name}-{scheme}.png") as shot:
                shot.thumbnail((MAX_WIDTH, 10 * MAX_WIDTH))
                shot.convert("RGB").save(IMAGES / f"{name}-{scheme}.webp", quality=80, method=6)
        shown = [f"![{title}, {scheme}](../images/dashboard/{name}-{scheme}.webp)" for scheme in SCHEMES]
        parts.append(f"## {title}\n\n{chr(10).join(shown)}")
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
