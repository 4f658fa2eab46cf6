"""A Sphinx extension for the head of a page: a description for search engines, no idle MathJax."""

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
    if doctree is None:
        return
    if text := description(doctree):
        context["metatags"] += f'<meta name="description" content="{escape(text)}" />\n'
    if not any(doctree.findall(lambda node: isinstance(node, nodes.math | nodes.math_block))):
        # Sphinx loads MathJax, a megabyte, where a page further down the contents has a formula.
        context["script_files"][:] = [
            script for script in context["script_files"] if "mathjax" not in str(script).lower()
        ]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("html-page-context", describe, priority=900)  # after MathJax has come
    return {"parallel_read_safe": True, "parallel_write_safe": True}
