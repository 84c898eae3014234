"""The list of what is in an installation names what is pinned, neither more nor less."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)


def normal(name: str) -> str:
    """As PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_sbom_names_every_pinned_package_and_its_version() -> None:
    pinned = {
        (normal(name), version) for name, version in PINNED.findall((ROOT / "constraints.txt").read_text())
    }
    document = json.loads((ROOT / "docs" / "reference" / "sbom.cdx.json").read_text())
    named = {(normal(each["name"]), each["version"]) for each in document["components"]}
    assert len(pinned) > 100
    assert named == pinned, "run make sbom"


def test_the_sbom_is_the_same_whoever_makes_it() -> None:
    text = (ROOT / "docs" / "reference" / "sbom.cdx.json").read_text()
    document = json.loads(text)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == "lensqueue"
    # neither when it was made, nor where
    assert "timestamp" not in document["metadata"]
    assert "serialNumber" not in document
    assert not re.search(r'"url": "(?!https://)', text)
    assert not any("externalReferences" in each for each in document["components"])
