"""Every page of the book in a real browser, at the width of a desktop and of two phones.

The book is built from the committed chapters, without running them (conftest.py). Nothing is
downloaded: the browser is the Chromium of the system, and a request to any other host is refused
and reported.
"""

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from playwright.sync_api import Browser, Route, sync_playwright

import build_book
import notebooks
import reference

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = {"desktop": 1280, "phone": 375}
NARROW = 320  # the narrowest phone
CHAPTERS = [f"chapters/{path.stem}" for path in sorted(build_book.ROOT.glob("chapters/*.ipynb"))]
REFERENCE = [f"api/{name}" for name in reference.modules(build_book.ROOT / "mixem")]
WITH_TEXT = [*build_book.pages(), *CHAPTERS, *REFERENCE]
PAGES = [*WITH_TEXT, "genindex", "py-modindex", "search"]

# What nobody can see: beyond the edge of the window, or of a box that hides what is too wide. What
# lies beyond the edge of a box that scrolls can be reached; the box itself must be seen.
LOST = """
    const edge = (e) => e.getBoundingClientRect().right;
    const isLost = (e) => {
        let right = edge(e);
        for (let box = e.parentElement; box; box = box.parentElement) {
            const overflow = getComputedStyle(box).overflowX;
            if (overflow === "visible" || right <= edge(box) + 1) continue;
            if (!/auto|scroll/.test(overflow)) return true;
            right = edge(box);
        }
        return right > innerWidth + 1;
    };
    const lost = () => [...document.querySelectorAll(".bd-article *:not(mjx-container *)")]
        .filter((e) => e.checkVisibility() && isLost(e))
        .map((e) => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`);
    const excess = () =>
        document.documentElement.scrollWidth - document.documentElement.clientWidth;
"""

LOOK = (
    """async () => {"""
    + LOST
    + """
    await window.MathJax?.startup?.promise;
    const images = [...document.images];
    for (const image of images) image.loading = "eager";
    await Promise.allSettled(images.map((image) => image.decode()));
    const formulas = [...document.querySelectorAll(".math")];
    return {
        formulas: formulas.length,
        unrendered: formulas.filter((e) => !e.querySelector("mjx-container"))
            .map((e) => e.textContent),
        wrong: [...document.querySelectorAll("mjx-merror")].map((e) => e.textContent),
        images: images.map((e) =>
            ({ source: e.src.slice(0, 200), alt: e.alt, width: e.naturalWidth })),
        links: [...document.querySelectorAll("a[href]")].map((e) => e.href),
        menus: document.querySelectorAll("mjx-container[tabindex]").length,
        scripts: [...document.scripts].map((e) => e.src),
        description: document.querySelector("meta[name=description]")?.content ?? "",
        width: { lost: lost(), excess: excess() },
    };
}"""
)
LOOK_AGAIN = "() => {" + LOST + "return { lost: lost(), excess: excess() }; }"

# The colours in which text is printed, and whether the pictures are changed.
PRINTED = """() => {
    const style = (e) => getComputedStyle(e);
    const shown = [...document.querySelectorAll(".bd-article :is(h1, h2, p, li, pre, pre span)")];
    return {
        ink: [...new Set(shown.map((e) => style(e).color))],
        paper: [...new Set([document.body, ...shown].map((e) => style(e).backgroundColor))],
        filters: [...new Set([...document.images].map((e) => style(e).filter))],
    };
}"""


@dataclass
class Visit:
    """What was seen on one page."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    seen: dict = field(default_factory=dict)
    narrow: dict = field(default_factory=dict)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without printing each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def site(html: Path) -> Iterator[str]:
    """Address of a server of the book."""
    handler = functools.partial(QuietHandler, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")  # one Playwright at a time: other modules have their own
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def visit(site: str, browser: Browser) -> Callable[[str, str], Visit]:
    """Opens a page at a width and reports what was seen, once for each."""

    @functools.cache
    def open_page(name: str, width: str) -> Visit:
        found = Visit()

        def check(route: Route) -> None:
            if route.request.url.startswith((site, "data:", "blob:")):
                route.continue_()
            else:
                found.foreign.append(route.request.url)
                route.abort()

        with browser.new_context(viewport={"width": WIDTHS[width], "height": 800}) as context:
            context.route("**/*", check)
            page = context.new_page()
            page.on("pageerror", lambda error: found.errors.append(str(error)))
            page.on(
                "console",
                lambda line: found.errors.append(line.text) if line.type == "error" else None,
            )
            page.on(
                "response",
                lambda reply: found.missing.append(reply.url) if reply.status >= 400 else None,
            )
            page.goto(f"{site}{name}.html", wait_until="networkidle")
            found.seen = page.evaluate(LOOK)
            if width == "phone":
                page.set_viewport_size({"width": NARROW, "height": 800})
                found.narrow = page.evaluate(LOOK_AGAIN)
        return found

    return open_page


each_page = pytest.mark.parametrize("name", PAGES)
each_width = pytest.mark.parametrize("width", WIDTHS)


def test_every_page_is_visited(html: Path) -> None:
    built = {path.relative_to(html).with_suffix("").as_posix() for path in html.rglob("*.html")}
    # _modules/ has the code behind the reference, untouched.
    assert {name for name in built if not name.startswith(("_static/", "_modules/"))} == set(PAGES)


@each_page
@each_width
def test_nothing_fails(visit: Callable[[str, str], Visit], name: str, width: str) -> None:
    found = visit(name, width)
    assert found.missing == []
    assert found.errors == []


@each_page
@each_width
def test_no_request_leaves_the_server(
    visit: Callable[[str, str], Visit], name: str, width: str
) -> None:
    assert visit(name, width).foreign == []


@each_page
def test_math_is_rendered(visit: Callable[[str, str], Visit], name: str) -> None:
    seen = visit(name, "desktop").seen
    assert seen["unrendered"] == []
    assert seen["wrong"] == []


@each_page
def test_mathjax_is_loaded_where_there_is_math(
    visit: Callable[[str, str], Visit], name: str
) -> None:
    seen = visit(name, "desktop").seen
    assert any("mathjax" in script for script in seen["scripts"]) == bool(seen["formulas"])
    assert seen["menus"] == 0  # each would be a stop of Tab


def test_there_is_math(visit: Callable[[str, str], Visit]) -> None:
    assert sum(visit(name, "desktop").seen["formulas"] for name in CHAPTERS) > 0


@pytest.mark.parametrize("name", WITH_TEXT)
def test_a_page_describes_itself(visit: Callable[[str, str], Visit], name: str) -> None:
    assert len(visit(name, "desktop").seen["description"].split()) > 2 or name == "bibliography"


@each_page
def test_pictures_are_loaded_and_described(visit: Callable[[str, str], Visit], name: str) -> None:
    images = visit(name, "desktop").seen["images"]
    assert [image for image in images if not image["width"] or not image["alt"].strip()] == []


def test_there_are_pictures(visit: Callable[[str, str], Visit]) -> None:
    for name in CHAPTERS:
        assert visit(name, "desktop").seen["images"], f"{name} has no figure"


@each_page
def test_a_phone_shows_everything_without_scrolling_sideways(
    visit: Callable[[str, str], Visit], name: str
) -> None:
    found = visit(name, "phone")
    for seen in (found.seen["width"], found.narrow):
        assert seen["excess"] <= 0
        assert seen["lost"] == []


@each_page
def test_links_inside_the_book_lead_somewhere(
    visit: Callable[[str, str], Visit], name: str, site: str, html: Path
) -> None:
    inside = {urlsplit(link).path for link in visit(name, "desktop").seen["links"] if site in link}
    missing = [path for path in inside if not (html / unquote(path).lstrip("/")).exists()]
    assert missing == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_open_on_colab_and_download(
    visit: Callable[[str, str], Visit], name: str, site: str, html: Path
) -> None:
    repository = notebooks.repository()
    links = visit(name, "desktop").seen["links"]
    github = repository.removeprefix("https://github.com/")
    assert f"https://colab.research.google.com/github/{github}/blob/main/{name}.ipynb" in links
    assert f"{site}_sources/{name}.ipynb" in links
    nbformat.read(html / "_sources" / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize(
    ("inside", "lost"),
    [
        ('<span style="overflow:hidden">{}</span>', True),
        ('<span style="overflow:auto"><span style="overflow:hidden">{}</span></span>', True),
        ('<span style="overflow:hidden"><span style="overflow:auto">{}</span></span>', False),
        ("{}", True),
    ],
    ids=["hidden", "hidden in what could scroll", "scrolls", "visible"],
)
def test_what_is_cut_off_is_found(browser: Browser, inside: str, lost: bool) -> None:
    with browser.new_context(viewport={"width": NARROW, "height": 800}) as context:
        page = context.new_page()
        wide = '<b style="display:block;width:500px">0.1 ln 0.1 = -0.2303</b>'
        style = "<style>span { display: block; max-width: 100% }</style>"
        page.set_content(f'{style}<div class="bd-article">{inside.format(wide)}</div>')
        found = page.evaluate(LOOK_AGAIN)["lost"]
    assert any(line.startswith("B.") for line in found) == lost


def test_prints_black_on_white_from_the_dark_theme(site: str, browser: Browser) -> None:
    with browser.new_context(color_scheme="dark") as context:
        page = context.new_page()
        page.goto(f"{site}{CHAPTERS[2]}.html", wait_until="networkidle")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate(PRINTED)["ink"] != ["rgb(0, 0, 0)"]
        page.emulate_media(media="print")
        printed = page.evaluate(PRINTED)
    assert printed["ink"] == ["rgb(0, 0, 0)"]
    assert set(printed["paper"]) <= {"rgb(255, 255, 255)", "rgba(0, 0, 0, 0)"}
    assert printed["filters"] == ["none"]


def test_what_the_keyboard_stands_on_is_outlined(site: str, browser: Browser) -> None:
    with browser.new_context(viewport={"width": WIDTHS["desktop"], "height": 800}) as context:
        page = context.new_page()
        page.goto(f"{site}{CHAPTERS[0]}.html", wait_until="networkidle")
        for _ in range(25):  # skip link, header, sidebar
            page.keyboard.press("Tab")
            name, style, width = page.evaluate(
                "() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.outerHTML.slice(0, 80), s.outlineStyle, parseFloat(s.outlineWidth)] }"
            )
            assert style != "none", name
            assert width > 1, name
