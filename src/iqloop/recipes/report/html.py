"""Small pieces of markup. Every text of a trace passes `safe` on its way into the page."""

from __future__ import annotations

import html

from iqloop.recipes.report.images import Picture
from iqloop.recipes.report.json import Part, printable
from iqloop.recipes.report.style import policy

LONGEST = 2000
"""Characters of a text that are shown."""


def safe(text: str, longest: int = LONGEST) -> str:
    """Text as markup, in quotes or between tags; what is longer than ``longest`` is cut."""
    more = f" … ({len(text) - longest} more characters in the trace)" if len(text) > longest else ""
    return html.escape(printable(text[:longest]) + more)


def document(title: str, style: str, body: str, script: str = "") -> str:
    """A whole page that fetches nothing and runs nothing else; ``title`` and ``body`` are markup."""
    behaviour = f"<script>{script}</script>\n" if script else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(style, script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
{behaviour}</body>
</html>
"""


def image(picture: Picture, alt: str) -> str:
    """The picture, or a grey field that says why there is none."""
    if not picture.url:
        return f'<div class="missing"><span>{safe(picture.reason)}</span></div>'
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img src="{picture.url}" {size} alt="{safe(alt)}" decoding="async">'


def quote(text: str) -> str:
    """What the critic wrote; nothing for nothing."""
    return f"<blockquote>{safe(text)}</blockquote>" if text.strip() else ""


def bar(value: float, most: float) -> str:
    """How much ``value`` is of ``most``, drawn; the figure has to stand beside it."""
    share = min(max(value / most, 0.0), 1.0) if most else 0.0
    return f'<svg class="bar" aria-hidden="true"><rect width="{share:.1%}" height="100%"/></svg>'


def measure(value: float | None, most: float, shown: str) -> str:
    """A bar with its figure; a dash for None."""
    if value is None:
        return "&ndash;"
    return f'<div class="measure">{bar(value, most)}<span>{safe(shown)}</span></div>'


def readable(diagnosis: Part) -> str:
    """The words of a diagnosis, or why there are none and what came instead."""
    if not diagnosis["unparsed"].flag():
        return quote(diagnosis["reasoning"].text())
    reason = f'<p class="soft">The critic&rsquo;s answer could not be read: {safe(diagnosis["reason"].text())}</p>'
    return reason + quote(diagnosis["raw"].text())
