"""The parts of the gallery's page that are the same for all sortings."""

from string import Template

__all__ = ["PAGE", "SCRIPT", "STYLE"]

# The policy is a second lock behind the escaping: no script but ours runs, nothing is fetched.
PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'sha256-$digest'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<a class="skip" href="#clusters">To the clusters</a>
<header>
<h1>$title</h1>
<p>$summary</p>
$notes
<search>
<label for="query">Search all pictures by name</label>
<input id="query" type="search" autocomplete="off" spellcheck="false">
</search>
</header>
<main>
<section id="results" aria-label="Found pictures" hidden>
<p id="count" role="status"></p>
<ol id="found"></ol>
</section>
<nav aria-label="Clusters"><ol class="sizes">$overview</ol></nav>
$alike
<div id="clusters" tabindex="-1">
$clusters
</div>
$skipped
</main>
<script type="application/json" id="data">$data</script>
<script>$script</script>
</body>
</html>
""")

STYLE = """
:root { --ink: #1b1b1f; --soft: #5d5d66; --paper: #fff; --line: #d9d9df; --mark: #0b6bb8;
  --bar: #9cc7ea; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececf0; --soft: #a9a9b4; --paper: #17171a; --line: #3a3a42; --mark: #7cc0f5;
    --bar: #2f5f86; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 0 16px 48px; background: var(--paper);
  color: var(--ink); font: 16px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 20px 0 4px; }
h2 { font-size: 1.2rem; margin: 32px 0 4px; border-top: 1px solid var(--line); padding-top: 16px; }
h3 { font-size: 1rem; margin: 12px 0 6px; color: var(--soft); font-weight: 600; }
p, ul.notes { margin: 4px 0; color: var(--soft); }
a { color: var(--mark); }
a:focus-visible, input:focus-visible, summary:focus-visible, button:focus-visible {
  outline: 3px solid var(--mark); outline-offset: 2px; }
.skip { position: absolute; left: -9999px; }
.skip:focus { left: 8px; top: 8px; background: var(--paper); padding: 8px; }
label { display: block; margin: 12px 0 6px; font-weight: 600; }
input, button { font: inherit; color: inherit; background: var(--paper); border: 1px solid
  var(--soft); border-radius: 6px; padding: 8px 12px; }
input { width: 100%; max-width: 480px; }
ol, .pictures { list-style: none; margin: 8px 0; padding: 0; }
.sizes { columns: 300px; column-gap: 24px; }
.sizes li { break-inside: avoid; padding: 3px 0; }
.sizes .bar { display: block; height: 6px; border-radius: 3px; background: var(--bar);
  min-width: 2px; }
.sizes a { display: flex; justify-content: space-between; gap: 12px; text-decoration: none; }
.sizes a:hover bdi { text-decoration: underline; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)); gap: 10px; }
.pictures.group { margin-bottom: 18px; }
.pictures img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover;
  border: 1px solid var(--line); border-radius: 4px; background: var(--line); }
.pictures .tiny { image-rendering: pixelated; }
.pictures .name { display: block; font-size: .75rem; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; }
.pictures .note { display: block; font-size: .75rem; color: var(--soft); }
.names li { padding: 2px 0; }
.names .where, .more { color: var(--soft); }
.names img { width: 40px; height: 40px; object-fit: cover; vertical-align: middle;
  margin-right: 8px; border-radius: 3px; }
summary { cursor: pointer; padding: 6px 0; color: var(--mark); }
#results { border: 1px solid var(--line); border-radius: 8px; padding: 8px 14px; margin: 12px 0; }
"""

# A name is only ever put in by textContent, and a link by characters that are percent-encoded.
SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const MOST = 200;
const lone = /^[\\udc80-\\udcff]$/u;  // a byte that is not UTF-8, as Python keeps it
const encoded = (name) => Array.from(name, (c) => c === "/" ? c
    : lone.test(c) ? "%" + (c.charCodeAt(0) - 0xdc00).toString(16)
    : encodeURIComponent(c.toWellFormed ? c.toWellFormed() : c)).join("");
const thumbnails = new Map(Array.from(document.querySelectorAll("img[data-at]"),
    (image) => [image.dataset.at, image.src]));

function make(tag, text, properties = {}) {
    const element = Object.assign(document.createElement(tag), properties);
    element.textContent = text;
    return element;
}

function line(cluster, i, withCluster) {
    const { label, files } = data.clusters[cluster];
    const item = document.createElement("li");
    const source = thumbnails.get(`${cluster},${i}`);
    if (source) item.append(make("img", "", { src: source, alt: "" }));
    const name = document.createElement("bdi");
    name.append(data.base === null ? make("span", files[i])
        : make("a", files[i], { href: data.base + encoded(files[i]) }));
    item.append(name);
    const where = make("span", ` ${i + 1} of ${files.length}`, { className: "where" });
    if (withCluster) where.prepend(" in ", make("a", label, { href: `#c${cluster}` }), ",");
    item.append(where);
    return item;
}

const query = document.getElementById("query");
const folded = data.clusters.map(({ files }) => files.map((name) => name.toLowerCase()));
query.addEventListener("input", () => {
    const words = query.value.toLowerCase().split(/\\s+/).filter(Boolean);
    const lines = [];
    let count = 0;
    if (words.length) folded.forEach((names, cluster) => names.forEach((name, i) => {
        if (words.every((word) => name.includes(word)) && ++count <= MOST)
            lines.push(line(cluster, i, true));
    }));
    document.getElementById("found").replaceChildren(...lines);
    document.getElementById("results").hidden = !words.length;
    document.getElementById("count").textContent = !words.length ? ""
        : (count === 1 ? "1 picture" : `${count.toLocaleString("en")} pictures`)
        + (count > MOST ? `, the first ${MOST} shown` : "");
});

for (const details of document.querySelectorAll("details[data-cluster]")) {
    const list = details.querySelector("ol"), cluster = Number(details.dataset.cluster);
    const more = make("button", "Show more", { type: "button", className: "more" });
    const add = () => {
        const from = list.children.length, files = data.clusters[cluster].files;
        const to = Math.min(from + MOST, files.length);
        for (let i = from; i < to; i++) list.append(line(cluster, i, false));
        more.hidden = to === files.length;
    };
    more.addEventListener("click", add);
    details.addEventListener("toggle", () => {
        if (!list.children.length) { add(); details.append(more); }
    });
}
"""
