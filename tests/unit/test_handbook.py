"""The documentation: its reference says what the code says, and its pages are shown without a network."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from api.settings import ApiSettings
from handbook import __main__ as handbook
from handbook import item_errors, modules, settings
from handbook.docstrings import of_fields
from handbook.links import borrowed
from handbook.rooms import ROOMS, SUBJECTS
from models.tables import metadata

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_is_what_the_code_says() -> None:
    assert handbook.main(["--check"]) == 0, "run make reference"


def test_what_is_not_written_down_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handbook, "FOLDER", tmp_path)
    assert handbook.main(["--check"]) == 1
    assert handbook.main([]) == 0
    assert handbook.main(["--check"]) == 0


def test_every_setting_and_every_table_is_on_its_page() -> None:
    def family(root: type[BaseSettings]) -> Iterator[type[BaseSettings]]:
        for child in root.__subclasses__():
            yield child
            yield from family(child)

    ours = {each for each in family(BaseSettings) if each.__module__.endswith(".settings")}
    assert ours == {owner for owners in settings.READERS.values() for owner in owners}
    pages = handbook.pages()
    for owner in ours:
        assert all(f"`LENSQUEUE_{name.upper()}`" in pages["settings.md"] for name in owner.model_fields)
    assert all(f"\n## {name}\n" in pages["tables.md"] for name in metadata.tables)


def test_every_code_that_is_written_down_for_an_item_is_on_the_page_of_errors() -> None:
    """By their looks, and so also those that are made in a way that the page's maker does not know."""
    sources = [path.read_text() for room in ("worker", "jobs") for path in (ROOT / room).rglob("*.py")]
    written = {
        code
        for source in sources
        for code in re.findall(r'(?:\w*[eE]rror|Refused|Unfetched)\(\s*"([a-z]+(?:-[a-z]+)+)"', source)
        + re.findall(r'"code": "([a-z-]+)",\s*"message": .*\s*"retryable"', source)
    }
    assert {"result-not-finite", "weights-differ", "member-link", "worker-lost"} <= written
    page = handbook.pages()["errors.md"]
    assert [code for code in sorted(written) if f"| `{code}` |" not in page] == []


def test_a_code_that_is_new_comes_to_the_page_with_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker").mkdir()
    source = tmp_path / "worker" / "new.py"
    monkeypatch.setattr(item_errors, "ROOT", tmp_path)
    source.write_text(
        "MOST: Final = 3\n"
        'item_error("too-new", f"{quoted(name)} came {MOST} times, by {way}.", retryable=True)'
    )
    assert item_errors.said_in("worker") == {"too-new": "NAME came 3 times, by …."}
    source.write_text('item_error(NAMED, "a sentence", retryable=True)')
    with pytest.raises(AssertionError, match="no code that can be read"):
        item_errors.said_in("worker")


def test_a_setting_without_a_description_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Undescribed(ApiSettings):
        """Settings of nobody."""

        described: int = 1
        """It says so."""
        undescribed: int = 2

    assert of_fields(Undescribed) == {"described": "It says so."}
    monkeypatch.setitem(settings.READERS, "Nobody", (Undescribed,))
    with pytest.raises(AssertionError, match=r"Undescribed\.undescribed has no docstring"):
        settings.page()


def test_a_module_that_no_subject_names_and_a_room_without_a_sentence_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(SUBJECTS, "jobs", {"Submitting": "submit"})
        with pytest.raises(AssertionError, match=r"says of jobs/ otherwise: .*'leases'"):
            modules.page()
    monkeypatch.delitem(ROOMS, "pictures")
    with pytest.raises(AssertionError, match=r"knows other rooms: {'pictures'}"):
        modules.page()


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<img alt="" src=//cdn.example/a.png>',
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<link href="https://fonts.example" rel=preconnect>',
        '<pre class="mermaid"><code>',
    ],
)
def test_what_a_page_would_fetch_from_elsewhere_is_found(html: str) -> None:
    assert borrowed(html)


def test_links_that_people_follow_are_fetched_by_nobody() -> None:
    assert not borrowed(
        '<a href="https://keda.sh">KEDA</a> <link rel="canonical" href="https://docs.example/">'
        '<script src="assets/a.js"></script> <link rel="stylesheet" href="../assets/a.css">'
    )


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_pages_outside_of_the_site_link_to_what_is_there(page: str) -> None:
    # MkDocs holds the links of all others
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
