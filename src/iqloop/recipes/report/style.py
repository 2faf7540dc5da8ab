"""Looks and behaviour of a report: one style sheet, one small script, nothing fetched."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbf9; --card: #fff; --ink: #1c1d1f; --soft: #5a5e64; --line: #e0e0dc; --fill: #ecece8;
  --good: #0a6b4c; --good-fill: #e3f2ec; --bad: #a3262b; --bar: #8b9098;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131415; --card: #1b1c1e; --ink: #e9e9e7; --soft: #a5a9af; --line: #323437; --fill: #27292c;
    --good: #63c9a2; --good-fill: #16332a; --bad: #ff9b95; --bar: #7d838b;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 68rem; padding: 2.5rem clamp(1rem, 4vw, 2.5rem) 4rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  overflow-wrap: anywhere;
}
h1, h2, h3, h4, p, figure, dl, dd, ol, ul, blockquote { margin: 0; padding: 0; }
h1 { font-size: clamp(1.5rem, 5vw, 2.1rem); line-height: 1.2; font-weight: 650; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; line-height: 1.3; font-weight: 650; margin-bottom: 0.75rem; }
h3 { font-size: 1.05rem; line-height: 1.35; font-weight: 650; }
section { margin-top: 3.25rem; }
.eyebrow { color: var(--soft); font-size: 0.875rem; }
.lead { font-size: 1.15rem; max-width: 46rem; margin-top: 0.6rem; text-wrap: balance; }
.soft { color: var(--soft); font-size: 0.875rem; }
.gap { margin-top: 2rem; }
.gap + .pair { margin-top: 0.6rem; }
.prose { max-width: 46rem; }
h2 + .soft { margin: -0.5rem 0 0.75rem; }
blockquote { color: var(--soft); font-size: 0.9rem; border-left: 2px solid var(--line); padding-left: 0.75rem;
  margin-top: 0.5rem; white-space: pre-line; unicode-bidi: isolate; }

.pair { display: grid; gap: 1rem; margin-top: 1.75rem; }
@media (min-width: 40rem) { .pair { grid-template-columns: 1fr 1fr; } .pair.single { grid-template-columns: 1fr; } }
.pair img { display: block; max-width: 100%; height: auto; max-height: 85vh; width: auto; margin: 0 auto;
  border-radius: 4px; }
.pair figcaption { color: var(--soft); font-size: 0.875rem; margin-top: 0.35rem; text-align: center; }
.missing { display: grid; place-content: center; text-align: center; background: var(--fill); color: var(--soft);
  border-radius: 4px; padding: 0.5rem; font-size: 0.8125rem; line-height: 1.35; }
.pair .missing { min-height: 11rem; padding: 1rem; }

@media screen {
  .pair.slider { --cut: 50%; display: block; position: relative; width: fit-content; max-width: 100%;
    margin-inline: auto; touch-action: pan-y; }
  .pair.slider .before img { position: absolute; inset: 0; width: 100%; height: 100%; max-height: none;
    clip-path: inset(0 calc(100% - var(--cut)) 0 0); }
  .pair.slider figcaption { position: absolute; top: 0.6rem; margin: 0; padding: 0.1rem 0.6rem; border-radius: 99px;
    background: rgb(0 0 0 / 0.66); color: #fff; pointer-events: none; }
  .pair.slider .before figcaption { left: 0.6rem; }
  .pair.slider .after figcaption { right: 0.6rem; }
  .pair.slider::before { content: ""; position: absolute; z-index: 1; top: 0; bottom: 0; left: var(--cut); width: 2px;
    margin-left: -1px; background: #fff; box-shadow: 0 0 3px rgb(0 0 0 / 0.6); pointer-events: none; }
  .pair.slider::after { content: "\\2194"; position: absolute; z-index: 1; top: 50%; left: var(--cut); width: 2.5rem;
    height: 2.5rem; margin: -1.25rem; border-radius: 50%; background: #fff; color: #1c1d1f; font-size: 1.2rem;
    line-height: 2.4rem; text-align: center; box-shadow: 0 1px 5px rgb(0 0 0 / 0.5); pointer-events: none; }
  .pair input { position: absolute; z-index: 2; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
    cursor: ew-resize; }
  .pair.slider:has(input:focus-visible) { outline: 3px solid var(--good); outline-offset: 3px; border-radius: 4px; }
}

.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 1rem 2rem;
  margin-top: 1.75rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
.facts dt { color: var(--soft); font-size: 0.8125rem; }
.facts dd { font-size: 1.25rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.facts dd small { display: block; font-size: 0.8125rem; color: var(--soft); }

.columns { display: grid; gap: 2rem 3rem; }
@media (max-width: 46rem) { .columns > section + section { margin-top: 1.25rem; } }
@media (min-width: 46rem) { .columns { grid-template-columns: 1fr 1fr; } }
table { border-collapse: collapse; width: 100%; margin-top: 0.75rem; font-size: 0.9375rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; font-weight: 400; padding: 0.3rem 0.75rem 0.3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: middle; overflow-wrap: normal; }
thead th { color: var(--soft); font-size: 0.8125rem; vertical-align: bottom; }
td:last-child, th:last-child { padding-right: 0; }
.measure { display: grid; grid-template-columns: minmax(1.5rem, 1fr) 3rem; gap: 0.5rem; align-items: center; }
.measure span { text-align: right; }
.bar { display: block; width: 100%; height: 0.5rem; border-radius: 2px; background: var(--fill); }
.bar rect { fill: var(--bar); }
.seen th:first-child { width: 34%; }
.seen td { width: 33%; }
.cost td:last-child { white-space: nowrap; text-align: right; }
.cost td:nth-child(2) { width: 45%; }
table + .soft { margin-top: 0.5rem; }
.named .bar rect { fill: var(--ink); }
.named th { font-weight: 650; }

.tree { list-style: none; }
.tree > li { margin-top: 1.5rem; padding-left: calc(var(--depth, 0) * clamp(0.6rem, 2.5vw, 1.5rem)); }
.tree > li > div { border-left: 2px solid var(--line); padding-left: clamp(0.75rem, 2vw, 1.25rem); }
.d1 { --depth: 1; } .d2 { --depth: 2; } .d3 { --depth: 3; } .d4 { --depth: 4; } .d5 { --depth: 5; } .d6 { --depth: 6; }
.tries { list-style: none; display: grid; gap: 0.75rem; margin-top: 0.75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 18.5rem), 1fr)); }
.try { display: grid; grid-template-columns: clamp(5.5rem, 32%, 8rem) minmax(0, 1fr); gap: 0.85rem; align-items: start;
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.75rem; }
.try.kept { border-color: var(--good); box-shadow: inset 0 0 0 1px var(--good); }
.try img { display: block; width: 100%; height: auto; border-radius: 3px; }
.try .missing { aspect-ratio: 1; font-size: 0.75rem; padding: 0.25rem; }
.try p { font-size: 0.875rem; line-height: 1.45; margin-top: 0.25rem; }
.try h4 { font-size: 0.9375rem; line-height: 1.35; font-weight: 650; }
.try h4 small { font-weight: 400; color: var(--soft); font-size: 0.8125rem; }
.chip { display: inline-block; margin: 0.2rem 0.35rem 0 0; padding: 0 0.5rem; border-radius: 99px; font-size: 0.8125rem;
  line-height: 1.5rem; background: var(--fill); color: var(--ink); }
.chip.taken, .chip.accepted { color: var(--good); }
.chip.result { background: var(--good-fill); color: var(--good); font-weight: 650; }
.chip.failed { color: var(--bad); }

.chart { display: block; width: 100%; max-width: 34rem; height: auto; font-size: 11px; }
.chart text { fill: var(--soft); }
@media (max-width: 30rem) { .chart { font-size: 13px; } }
.chart .end { text-anchor: end; }
.chart .middle { text-anchor: middle; }
.chart .grid { stroke: var(--line); }
.chart .way { stroke: var(--bar); stroke-width: 1; }
.chart .way.kept { stroke: var(--good); stroke-width: 2.5; }
.chart .dot { fill: var(--page); stroke: var(--bar); stroke-width: 1.5; }
.chart .dot.kept { fill: var(--good); stroke: var(--good); }

details { margin-top: 1rem; border-top: 1px solid var(--line); padding-top: 0.75rem; }
summary { cursor: pointer; font-weight: 650; }
pre { white-space: pre-wrap; font: 0.8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  background: var(--fill); border-radius: 4px; padding: 0.75rem; margin: 0.5rem 0 0; }
.record { display: grid; grid-template-columns: minmax(5rem, 11rem) minmax(0, 2.5fr); gap: 0.25rem 1.25rem;
  margin-top: 0.75rem; font-size: 0.875rem; }
.record dt { color: var(--soft); }
.record dd { white-space: pre-line; }
footer { margin-top: 3.5rem; color: var(--soft); font-size: 0.8125rem; }
@media print {
  :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --fill: #eee;
    --good: #0a6b4c; --good-fill: #e3f2ec; --bad: #a3262b; --bar: #777; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  section { margin-top: 1.75rem; }
  .pair { grid-template-columns: 1fr 1fr; }
  .pair.single { grid-template-columns: 1fr; }
  .pair img { max-height: 9cm; }
  .pair input { display: none; }
  .try, figure, tr, .chart, dt, dd { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; height: auto; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

SCRIPT = """
const pair = document.getElementById("pair"), range = pair && pair.querySelector("input");
if (range) {
  const cut = () => pair.style.setProperty("--cut", range.value + "%");
  range.hidden = false;
  pair.classList.add("slider");
  range.addEventListener("input", cut);
  cut();
}
"""


def policy(style: str, script: str = "") -> str:
    """Content security policy: this very style sheet, this very script, pictures from the page itself, nothing else."""
    scripts = f"script-src {_source(script)}; " if script else ""
    return (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; {scripts}base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
