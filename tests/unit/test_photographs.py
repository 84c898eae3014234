"""The four photographs: each can be read, is small, and has its terms beside it."""

from pathlib import Path

import pytest

from pictures.decode import decode

FOLDER = Path(__file__).resolve().parents[2] / "demo" / "photographs"
PHOTOGRAPHS = sorted(FOLDER.glob("*.jpg"))


def test_there_are_four() -> None:
    assert [path.stem for path in PHOTOGRAPHS] == ["astronaut", "cat", "coffee", "photographer"]


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_a_photograph_is_small_plain_and_has_its_terms_and_true_label(path: Path) -> None:
    picture = decode(path.read_bytes())
    assert picture.mode == "RGB"
    assert max(picture.size) <= 640
    assert not {"exif", "icc_profile"}.intersection(picture.info)
    (row,) = (
        line for line in (FOLDER / "README.md").read_text("utf-8").splitlines() if f"`{path.name}`" in line
    )
    _, _, label, _, author, terms, _ = (cell.strip() for cell in row.split("|"))
    assert label in read_labels()
    assert author
    assert "CC0" in terms or "public domain" in terms


def test_twelve_labels_compete() -> None:
    labels = read_labels()
    assert len(labels) == len(set(labels)) == 12
    assert all(label.split()[0] in ("a", "an") for label in labels)


def read_labels() -> list[str]:
    return (FOLDER / "labels.txt").read_text("utf-8").splitlines()
