"""The documentation as a site: `make docs`.

The pages are Markdown as GitHub shows it, and stay so: nothing in them is written for the site. What they link to
outside of this folder (examples, the chart, other sources) leads to the repository; README and its neighbours are read
there, too. The navigation is what index.md lists: a group for each of its headings. Every link is checked, anchors
included: what leads nowhere is a warning, and a warning fails the build.
"""

import os.path
import re
from pathlib import Path

from sphinx.application import Sphinx

_DOCS = Path(__file__).parent
_ROOT = _DOCS.parent
_REPOSITORY = "https://github.com/sundog-dev/sundog"
_LISTS = {"index", "migration/README", "runbooks/README"}
"""Pages whose links to other pages are the navigation."""
_LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(#[^)\s]*)?(?=\))")

project = "Sundog"
copyright = "The Sundog authors"  # noqa: A001 Sphinx reads it by this name
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["Thumbs.db"]
html_theme = "furo"
html_title = "Sundog"
html_theme_options = {"source_repository": f"{_REPOSITORY}/", "source_branch": "main", "source_directory": "docs/"}
html_show_sphinx = False
html_copy_source = False
# Anchors as GitHub makes them from headings of these levels.
myst_heading_anchors = 4
nitpicky = True
# The lexer knows no such languages; none is guessed.
highlight_language = "none"


def _to_the_repository(_app: Sphinx, document: str, content: list[str]) -> None:
    """Turn each link that leaves this folder into one to the repository, where there is such a file."""
    folder = (_DOCS / document).parent

    def lead(link: re.Match[str]) -> str:
        path, anchor = link[1], link[2] or ""
        target = Path(os.path.normpath(folder / path))
        if target.is_relative_to(_DOCS) and not target.is_dir():
            return link[0]
        if not target.is_relative_to(_ROOT) or not target.exists():
            return link[0]  # MyST says that it leads nowhere
        kind = "tree" if target.is_dir() else "blob"
        return f"{_REPOSITORY}/{kind}/main/{target.relative_to(_ROOT).as_posix()}{anchor}"

    content[0] = _LINK.sub(lead, content[0])


def _add_navigation(_app: Sphinx, document: str, content: list[str]) -> None:
    """Let Sphinx know of the pages that a list names; on the page itself nothing changes."""
    if document not in _LISTS:
        return
    for group in re.split(r"^## ", content[0], flags=re.MULTILINE):
        caption, _, text = group.partition("\n")
        named = re.findall(r"^[-|] .*?\]\(([\w/-]+)\.md\)", text, re.MULTILINE)
        pages = [page for page in named if (_DOCS / document).parent.joinpath(f"{page}.md").exists()]
        if pages:
            options = f":hidden:\n:caption: {caption}" if document == "index" else ":hidden:"
            entries = "\n".join(pages)
            content[0] += f"\n\n```{{toctree}}\n{options}\n\n{entries}\n```\n"


def setup(app: Sphinx) -> None:
    """Have each page read with its links turned."""
    app.connect("source-read", _to_the_repository)
    app.connect("source-read", _add_navigation)
