"""Every page of the book in a real browser, at the width of a desktop and of a phone.

The book is built from the committed chapters, without running them. Nothing is downloaded: the
browser is the Chromium of the system, and a request to any other host is refused and reported.
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
CHAPTERS = [f"chapters/{path.stem}" for path in sorted(build_book.ROOT.glob("chapters/*.ipynb"))]
PAGES = ["index", *CHAPTERS, "appendix-many-gpus", "bibliography", "genindex", "search"]

LOOK = """async () => {
    const beyond = (e) => e.getBoundingClientRect().right > innerWidth + 1;
    const inScrollingBox = (e) => {
        for (let box = e; box; box = box.parentElement)
            if (/auto|scroll/.test(getComputedStyle(box).overflowX) && !beyond(box)) return true;
        return false;
    };
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
        excess: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        lost: [...document.querySelectorAll(".bd-article *:not(mjx-container *)")]
            .filter((e) => beyond(e) && !inScrollingBox(e))
            .map((e) => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`),
    };
}"""


@dataclass
class Visit:
    """What was seen on one page."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    seen: dict = field(default_factory=dict)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without printing each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML of the book."""
    return build_book.build(build_book.ROOT / "chapters", tmp_path_factory.mktemp("book"))


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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
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
        return found

    return open_page


each_page = pytest.mark.parametrize("name", PAGES)
each_width = pytest.mark.parametrize("width", WIDTHS)


def test_every_page_is_visited(html: Path) -> None:
    built = {path.relative_to(html).with_suffix("").as_posix() for path in html.rglob("*.html")}
    assert {name for name in built if not name.startswith("_static/")} == set(PAGES)


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


def test_there_is_math(visit: Callable[[str, str], Visit]) -> None:
    assert sum(visit(name, "desktop").seen["formulas"] for name in CHAPTERS) > 0


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
    seen = visit(name, "phone").seen
    assert seen["excess"] <= 0
    assert seen["lost"] == []  # beyond the edge, and in no box that scrolls


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
