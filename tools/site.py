"""Hooks of mkdocs: the README is the site's first page, and links work in the repository as well as on the site."""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
#: Pages of the repository's root, and what they are on the site.
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.md",
}
#: Pages that need the width of a column beside them.
HIDE = {
    "explanation/comparison.md": ["toc"],
    "reference/errors.md": ["toc"],
}
_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)")
_SOURCE = re.compile(r'(?<=src=")(?!https?:)([^"]+)')
_DOCS = "docs/"
_LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^>]*>""")
_LOG = logging.getLogger("mkdocs.hooks.site")  # its warnings end a strict build


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages of the repository's root."""
    for name, page in ROOT_PAGES.items():
        if (path := ROOT / name).exists():
            text = path.read_text("utf-8")
            text = text if path.suffix else f"# License\n\n{text}"
            files.append(File.generated(config, page, content=rewritten(text, page)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Give a page its width, and lead links to the repository's root to the pages made of it."""
    page.meta["hide"] = HIDE.get(page.file.src_uri, [])
    return markdown if page.file.src_uri in ROOT_PAGES.values() else rewritten(markdown, page.file.src_uri)


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Warn of what a reader's browser would load from elsewhere."""
    for found in _LOADED.findall(output):
        if 'rel="canonical"' not in found:
            _LOG.warning("%s loads from another host: %s", page.file.src_uri, found)
    return output


def rewritten(markdown: str, page: str) -> str:
    """Return a page of the site with links that are right there: in the repository it is elsewhere."""
    sources = {on_site: name for name, on_site in ROOT_PAGES.items()}
    folder = posixpath.dirname(sources.get(page, _DOCS + page))

    def follow(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        on_site = ROOT_PAGES.get(target) or target.removeprefix(_DOCS)
        return posixpath.relpath(on_site, posixpath.dirname(page) or ".")

    return _SOURCE.sub(follow, _LINK.sub(follow, markdown))
