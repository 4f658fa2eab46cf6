"""The page in a real browser: complete, readable at two widths, searchable, inert to odd names.

The browser is the Chromium of the system, and the page is opened as a file. Every request but that
for the page itself is refused and reported.
"""

import base64
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from mixem.errors import InputError
from mixem.sorting import ClusterTable, gallery, table
from mixem.sorting.page import SCRIPT

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
WIDTHS = (375, 1280)

HOSTILE = [
    '"><img src=x onerror=alert(1)>.png',
    "</script><script>alert(1)<\\script>.png",
    "<!--<script>.png",
    "' onmouseover='alert(1).png",
    "javascript:alert(1).png",
    "${alert(1)}$title.png",
    "&lt;b&gt;&amp;.png",
    "50%20 #1?.png",
    "two\nlines\t.png",
    "\u202egnp.exe.png",
    "né 🐈.png",
    os.fsdecode(b"\xff\xfe.png"),
    "x" * 120 + ".png",
]


def distances(clusters: list[int], k: int) -> np.ndarray:
    """The later a picture, the less sure."""
    away = np.full((len(clusters), k), 1e6)
    away[np.arange(len(clusters)), clusters] = np.arange(len(clusters))
    return away


def write_pictures(folder: Path, files: list[str]) -> None:
    for i, name in enumerate(files):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (i * 7 % 256, 100, 200)).save(file)


@dataclass
class Watched:
    """A page, and what went wrong while it was open."""

    page: Page
    wrong: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens a file and notes errors, dialogs, and requests for anything else."""
    contexts = []

    def open_(path: Path, width: int = 1280, **options) -> Watched:
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        watched = Watched(context.new_page())

        def check(route: Route) -> None:
            if route.request.url == path.as_uri():
                route.continue_()
            else:
                watched.wrong.append(f"request: {route.request.url[:200]}")
                route.abort()

        def dialog(box) -> None:
            watched.wrong.append(f"dialog: {box.message}")
            box.dismiss()

        context.route(re.compile("^(?!data:)"), check)
        watched.page.on("dialog", dialog)
        watched.page.on("pageerror", lambda error: watched.wrong.append(str(error)))
        watched.page.on("console", lambda line: watched.wrong.append(f"{line.type}: {line.text}"))
        watched.page.goto(path.as_uri())
        return watched

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ClusterTable]:
    """The page of 300 pictures in three clusters and an empty one."""
    folder = tmp_path_factory.mktemp("many")
    files = [f"walk {i // 100}/{i:03d}.png" for i in range(300)]
    write_pictures(folder / "photos", files)
    found = table(
        files,
        distances=distances([i % 3 for i in range(300)], 4),
        names=["cats", "dogs", "<i>birds</i> " + "long" * 30, "nothing"],
    )
    gallery(
        folder / "page.html",
        found,
        folder=folder / "photos",
        title="My <photos>",
        notes=["With a <network>."],
        alike=[np.arange(9), np.array([10, 20])],
        skipped=[("broken <b>.png", "not a picture")],
    )
    return folder / "page.html", found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of pictures with names that try to break out, in a folder that does so too."""
    root = tmp_path_factory.mktemp("hostile")
    folder = root / '"><b>50%#?' / "in ner"
    write_pictures(folder, HOSTILE)
    names = ['"><img src=x onerror=alert(2)>', "</script>"]
    found = table(
        HOSTILE, distances=distances([i % 2 for i in range(len(HOSTILE))], 2), names=names
    )
    gallery(
        root / "page.html",
        found,
        folder=folder,
        title=HOSTILE[0],
        notes=HOSTILE,
        alike=[np.arange(len(HOSTILE))],
        skipped=[(name, name) for name in HOSTILE],
    )
    return root / "page.html"


@in_a_browser
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["many", "hostile"])
def test_nothing_fails_and_nothing_overflows(open_page, many, hostile, which, width) -> None:
    path = many[0] if which == "many" else hostile
    watched = open_page(path, width)
    page = watched.page
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    page.get_by_role("searchbox").fill("p")
    excess = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(excess) <= 0
    page.evaluate("for (const image of document.images) image.loading = 'eager';")
    page.wait_for_function("[...document.images].every((e) => e.complete && e.naturalWidth)")
    assert page.evaluate("document.images.length") > 0
    assert watched.wrong == []


@in_a_browser
def test_the_page_says_what_is_there(open_page, many) -> None:
    page = open_page(many[0]).page
    assert page.title() == "My <photos>"
    header = page.locator("header").inner_text()
    assert "300 pictures in 3 clusters, 1 cluster empty; 1 file could not be read" in header
    assert "With a <network>." in header
    sizes = page.get_by_role("navigation").get_by_role("link").all_inner_texts()
    assert [text.split("\n")[-1] for text in sizes] == ["100", "100", "100", "0"]
    cats = page.locator("section", has=page.locator("#c0"))
    assert "100 pictures, 33.3 % of all; 24 are shown, all are named" in cats.inner_text()
    surest, least = (ul.get_by_role("img").evaluate_all("es => es.map((e) => e.alt)")
                     for ul in cats.locator("ul").all())  # fmt: skip
    names = many[1].files
    assert surest == [names[i] for i in range(0, 36, 3)]
    assert least == [names[i] for i in range(297, 261, -3)]
    alike = page.locator("section", has=page.locator("#alike"))
    assert "11 pictures are alike, in 2 groups." in alike.inner_text()
    assert "and 3 more" in alike.inner_text()
    assert page.get_by_text("1 file could not be read", exact=True).is_visible()


@in_a_browser
def test_search_finds_names_anywhere_and_leads_to_files_and_clusters(open_page, many) -> None:
    page = open_page(many[0]).page
    results = page.get_by_label("Found pictures")
    expect(results).to_be_hidden()
    page.get_by_role("searchbox").fill("WALK 1/  7")
    found = results.get_by_role("listitem")
    assert page.get_by_role("status").inner_text() == "19 pictures"
    assert found.count() == 19  # 107, 117, ..., 170 to 179, ..., 197
    assert "walk 1/150.png" not in results.inner_text()
    page.get_by_role("searchbox").fill("298")
    assert found.all_inner_texts() == ["walk 2/298.png in dogs, 100 of 100"]
    first = results.get_by_role("link").first
    assert first.get_attribute("href") == "./photos/walk%202/298.png"
    results.get_by_role("link", name="dogs").click()
    assert page.url.endswith("#c1")
    page.get_by_role("searchbox").fill("png")
    assert page.get_by_role("status").inner_text() == "300 pictures, the first 200 shown"
    assert found.count() == 200
    page.get_by_role("searchbox").fill("nothing of the kind")
    assert page.get_by_role("status").inner_text() == "0 pictures"
    page.get_by_role("searchbox").fill(" ")
    expect(results).to_be_hidden()


@in_a_browser
def test_all_names_are_listed_the_surest_first_and_the_rest_on_demand(open_page, tmp_path) -> None:
    files = [f"{i}.png" for i in range(450)]
    images = torch.zeros(450, 1, 8, 8, dtype=torch.uint8)
    gallery(tmp_path / "p.html", table(files, distances=distances([0] * 450, 2)), images=images)
    watched = open_page(tmp_path / "p.html")
    page = watched.page
    page.get_by_text("All 450 names").click()
    names, more = page.locator("details li"), page.get_by_role("button", name="Show more")
    expect(names).to_have_count(200)
    more.click()
    more.click()
    expect(names).to_have_count(450)
    expect(more).to_be_hidden()
    assert names.nth(449).inner_text() == "449.png 450 of 450"
    assert page.locator("a[href*='png']").count() == 0  # no folder, no links
    assert watched.wrong == []


@in_a_browser
def test_hostile_names_are_shown_as_they_are_and_lead_to_their_files(open_page, hostile) -> None:
    watched = open_page(hostile)
    page = watched.page
    seen = page.evaluate("[...document.querySelectorAll('#clusters li')].map((e) => e.title)")
    expected = [name.encode("utf-8", "replace").decode() for name in HOSTILE]
    assert sorted(seen) == sorted(expected)
    for name in HOSTILE[:7]:
        page.get_by_role("searchbox").fill(name)
        assert page.locator("#found bdi").first.text_content() == name
    page.get_by_role("searchbox").fill("png")
    links = page.locator("#found bdi a, #clusters ul a")
    hrefs = links.evaluate_all("es => es.map((e) => e.href)")
    assert len(hrefs) == 2 * len(HOSTILE)
    inodes = {(hostile.parent / '"><b>50%#?' / "in ner" / name).stat().st_ino for name in HOSTILE}
    paths = [Path(os.fsdecode(_from_url(href))) for href in hrefs]
    assert {path.stat().st_ino for path in paths} == inodes
    # Neither elements nor attributes have come from names.
    assert page.locator("script").count() == 2
    assert page.locator("b, [onerror], [onmouseover], img[src=x]").count() == 0
    page.mouse.move(100, 300)
    assert watched.wrong == []


def _from_url(url: str) -> bytes:
    assert url.startswith("file:///")
    return unquote_to_bytes(urlsplit(url).path)


@in_a_browser
def test_a_link_opens_the_picture(open_page, hostile) -> None:
    page = open_page(hostile).page
    for i in (0, 7, HOSTILE.index(os.fsdecode(b"\xff\xfe.png"))):
        href = page.locator("#clusters ul a").evaluate_all("(es, n) => es.map((e) => e.href)[n]", i)
        other = page.context.browser.new_page()  # without the guard
        other.goto(href)
        assert other.evaluate("document.images[0].naturalWidth") == 40
        other.close()


@in_a_browser
def test_the_policy_keeps_other_scripts_from_running(open_page, many, tmp_path) -> None:
    text = many[0].read_text(encoding="utf-8")
    evil = text.replace("<header>", "<header><img src=x onerror=alert(1)><script>alert(2)</script>")
    (tmp_path / "evil.html").write_text(evil, encoding="utf-8")
    watched = open_page(tmp_path / "evil.html")
    watched.page.get_by_role("searchbox").fill("298")
    assert watched.page.locator("#found li").count() == 1
    assert len(watched.wrong) >= 2
    assert all("Content Security Policy" in words for words in watched.wrong)


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(open_page, many, scheme) -> None:
    page = open_page(many[0], color_scheme=scheme).page
    page.get_by_role("searchbox").fill("298")
    colours = page.evaluate(
        """() => [...document.querySelectorAll("h1, h2, h3, p, a, .name, .note, .where, summary")]
            .filter((e) => e.checkVisibility() && e.textContent.trim())
            .map((e) => getComputedStyle(e).color)
            .concat(getComputedStyle(document.body).backgroundColor)
            .map((c) => c.match(/\\d+/g).slice(0, 3).map(Number))"""
    )

    def luminance(colour) -> float:
        c = np.array(colour) / 255
        return float(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
                     @ [0.2126, 0.7152, 0.0722])  # fmt: skip

    *words, ground = map(luminance, colours)
    assert len(words) > 50
    assert (ground < 0.1) == (scheme == "dark")
    ratios = [(max(w, ground) + 0.05) / (min(w, ground) + 0.05) for w in words]
    assert min(ratios) >= 4.5  # WCAG 2.2, AA


@in_a_browser
def test_it_works_by_keyboard(open_page, many) -> None:
    page = open_page(many[0]).page

    def focus() -> str:
        return page.evaluate(
            "[document.activeElement.tagName, document.activeElement.textContent].join(' ')"
        )

    page.keyboard.press("Tab")
    assert focus() == "A To the clusters"
    page.keyboard.press("Tab")
    assert focus().startswith("INPUT")
    page.keyboard.type("298")
    page.keyboard.press("Enter")
    assert page.url == many[0].as_uri()
    page.keyboard.press("Tab")
    assert focus() == "A walk 2/298.png"
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.locator("details li a").first).to_be_visible()
    unnamed = page.get_by_role("link").evaluate_all(
        "es => es.filter((e) => !e.textContent.trim() && !e.querySelector('img')?.alt).length"
    )
    assert unnamed == 0
    assert page.evaluate("document.querySelector('label').control.id") == "query"


def test_thumbnails_are_bounded(tmp_path: Path) -> None:
    images = torch.randint(256, (2000, 3, 32, 32), dtype=torch.uint8)
    files = [f"{i}.png" for i in range(2000)]
    sizes = []
    for k, clusters in ((10, 20 * 12), (100, 100 * 2 * 5), (1000, 1000 * 2)):
        found = table(files, distances=distances([i % k for i in range(2000)], k))
        gallery(tmp_path / "p.html", found, images=images)
        sizes.append((tmp_path / "p.html").stat().st_size)
        assert (tmp_path / "p.html").read_text(encoding="utf-8").count("<img ") == clusters
    assert max(sizes) < 5e6


@pytest.fixture(scope="module")
def thousands(tmp_path_factory) -> Path:
    """Ten thousand pictures, as many as Fashion-MNIST has for tests."""
    path = tmp_path_factory.mktemp("thousands") / "page.html"
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(256, size=(10_000, 1, 28, 28), dtype=np.uint8))
    files = [f"{'abcdefghij'[i % 10]}/{i:05d}.png" for i in range(10_000)]
    gallery(path, table(files, distances=rng.random((10_000, 10))), images=images)
    return path


@in_a_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_ten_thousand_pictures_are_a_page_that_can_be_used(open_page, thousands, width) -> None:
    assert thousands.stat().st_size < 1.5e6
    watched = open_page(thousands, width)
    page = watched.page
    assert page.evaluate("document.images.length") == 240
    page.get_by_role("searchbox").fill("c/0")
    expect(page.get_by_role("status")).to_have_text("1,000 pictures, the first 200 shown")
    page.get_by_role("searchbox").fill("g/01236")
    expect(page.get_by_role("status")).to_have_text("1 picture")
    excess = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(excess) <= 0
    assert watched.wrong == []


def test_a_padded_thumbnail_shows_the_whole_picture(tmp_path: Path) -> None:
    Image.effect_noise((90, 30), 60).save(tmp_path / "a.png")
    found = table(["a.png"], distances=[[0.0]])
    sizes = []
    for pad in (False, True):
        gallery(tmp_path / "p.html", found, folder=tmp_path, pad=pad)
        text = (tmp_path / "p.html").read_text(encoding="utf-8")
        data = base64.b64decode(re.search(r"base64,([^\"]+)", text)[1])
        picture = Image.open(io.BytesIO(data)).convert("L")
        sizes.append(np.asarray(picture)[:20].std())
    assert sizes[0] > 10 * sizes[1]  # above a padded picture there is one colour


def test_a_small_cluster_shows_each_picture_once(tmp_path: Path) -> None:
    found = table(["a.png", "b.png", "c.png"], distances=[[0.0, 1], [0.1, 1], [1, 0]])
    gallery(tmp_path / "p.html", found, images=torch.zeros(3, 3, 8, 8, dtype=torch.uint8), each=2)
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert text.count("<img ") == 3
    assert "Least sure" not in text
    assert "All of them" in text


def test_a_picture_that_is_gone_is_an_empty_square(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["a.png", "b.png"])
    (tmp_path / "b.png").unlink()
    found = table(["a.png", "b.png"], distances=[[0.0], [1.0]])
    gallery(tmp_path / "p.html", found, folder=tmp_path)
    assert (tmp_path / "p.html").read_text(encoding="utf-8").count("data:image/jpeg") == 2


def test_the_same_page_each_time_and_in_one_step(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", ["a.png", "b.png"])
    found = table(["a.png", "b.png"], distances=[[0.0], [1.0]])
    pages = []
    for _ in range(2):
        gallery(tmp_path / "new" / "p.html", found, folder=tmp_path / "photos")
        pages.append((tmp_path / "new" / "p.html").read_bytes())
    assert pages[0] == pages[1]
    assert b'href="../photos/a.png"' in pages[0].replace(b"./../", b"../")
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "p.html"]


def test_the_script_puts_names_in_as_text_only() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", SCRIPT)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    found = table(["a.png"], distances=[[0.0]])
    with pytest.raises(InputError, match="neither folder nor images"):
        gallery(tmp_path / "p.html", found)
    with pytest.raises(InputError, match="give uint8"):
        gallery(tmp_path / "p.html", found, images=torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        gallery(tmp_path / "file" / "p.html", found, folder=tmp_path)
