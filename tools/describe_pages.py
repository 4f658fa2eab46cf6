"""A Sphinx extension: every page says in its head what it is about, for search engines."""

from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

LENGTH = 160  # letters that search engines show


def description(doctree: nodes.document) -> str:
    """Return the first paragraph of a page, cut at a word. A formula in it is left out."""
    for paragraph in doctree.findall(nodes.paragraph):
        words = [
            node.astext()
            for node in paragraph.findall(nodes.Text)
            if not isinstance(node.parent, nodes.math)
        ]
        text = " ".join("".join(words).split())
        if len(text) > LENGTH:
            text = text[:LENGTH].rsplit(" ", 1)[0] + " …"
        if text:
            return text
    return ""


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Called by Sphinx for each page."""
    if doctree is not None and (text := description(doctree)):
        context["metatags"] += f'<meta name="description" content="{escape(text)}" />\n'


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
