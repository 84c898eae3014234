"""A hook of MkDocs: links to files of the repository, and a site that asks nothing of anybody else.

Pages link to code, as `../../jobs/submit.py`. A site has no such file, and which host shows the repository is
not known here: what is linked is copied into the site, as text, and the link leads there.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK: Final = re.compile(r"(?<=\]\()(\.\./[^)\s#]+)(?=[)#])")
COPIES: Final = "source"
BORROWED: Final = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc(?:set)?=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|class=["']?mermaid\b""",
    re.IGNORECASE,
)
"""What a browser would fetch from elsewhere; the theme also fetches the renderer of Mermaid's diagrams."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what pages link to outside of `docs/`."""
    root = Path(config.docs_dir).parent
    linked = {
        copied
        for file in list(files.documentation_pages())
        for copied in map(_within(file, config), LINK.findall(file.content_string))
        if copied
    }
    for path in sorted(linked):
        files.append(File.generated(config, f"{COPIES}/{path}.txt", abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Lead those links to the copies."""
    within, up = _within(page.file, config), "../" * page.file.src_uri.count("/")

    def led(match: re.Match[str]) -> str:
        path = within(match[1])
        return f"{up}{COPIES}/{path}.txt" if path else match[1]

    return LINK.sub(led, markdown)


def on_post_page(output: str, *, page: Page, **_: Any) -> str:
    """Refuse a page that a browser without a network would show otherwise."""
    if found := borrowed(output):
        raise PluginError(f"{page.file.src_uri} fetches from elsewhere: {', '.join(found)}")
    return output


def borrowed(html: str) -> list[str]:
    """What this page has a browser fetch from other hosts."""
    return BORROWED.findall(html)


def _within(file: File, config: MkDocsConfig) -> Any:
    docs = Path(config.docs_dir)
    folder = (docs / file.src_uri).parent

    def path_of(link: str) -> str | None:
        """Where a link leads, from the repository's root; nothing where that is a page, or is not there."""
        target = Path(os.path.normpath(folder / link))
        outside = target.is_relative_to(docs.parent) and not target.is_relative_to(docs)
        return target.relative_to(docs.parent).as_posix() if outside and target.is_file() else None

    return path_of
