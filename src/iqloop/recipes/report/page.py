"""A trace and its pictures as one page of HTML that needs nothing else and fetches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath

from iqloop.recipes.report import chart as report_chart
from iqloop.recipes.report import tree as report_tree
from iqloop.recipes.report.html import LONGEST, bar, document, image, measure, readable, safe
from iqloop.recipes.report.images import Pictures
from iqloop.recipes.report.json import Part
from iqloop.recipes.report.style import SCRIPT, STYLE
from iqloop.recipes.report.tries import draw_tries, legend
from iqloop.recipes.report.words import TIMES, amount, came_of_it, enlarges, name_of, number, seen, tries_of

LIMITS = (
    ("Steps", "steps", "max_steps"),
    ("Runs of a tool", "tool_calls", "max_tool_calls"),
    ("Questions to the critic", "critic_calls", "max_critic_calls"),
    ("Seconds", "seconds", "time_limit"),
)
"""What it is called, what was spent of it, and its limit."""


def draw_page(trace: Part, pictures: Pictures, fallback: str) -> str:
    """The page. ``fallback`` names the photograph when the trace does not. Raises `UsageError` for a broken trace."""
    name = PurePosixPath(trace["input"]["path"].text()).name or fallback
    title = safe(name)
    body = f"""<header>
<p class="eyebrow">Restoration report</p>
<h1>{title}</h1>
<p class="lead">{safe(came_of_it(trace))}</p>
</header>
<main>
{_compared(trace, pictures, name)}
{_facts(trace)}
{"".join(_sections(trace, pictures))}
</main>
<footer>Made by iqloop {safe(trace["versions"]["iqloop"].text())} from the trace of one run.</footer>"""
    return document(f"{title} &ndash; restoration report", STYLE, body, SCRIPT)


def _compared(trace: Part, pictures: Pictures, name: str) -> str:
    """Before and after; one picture when they are the same file."""
    same = trace["input"]["sha256"].text() == trace["output"]["sha256"].text() != ""
    before = image(pictures.before, f"{name} before")
    if same:
        return f'<div class="pair single"><figure>{before}<figcaption>Unchanged</figcaption></figure></div>'
    both = pictures.before.url and pictures.after.url
    slider = '<input type="range" min="0" max="100" value="50" aria-label="How much is shown as before" hidden>'
    large = _pair(before, image(pictures.after, f"{name} after"), slider if both else "", 'id="pair" ')
    if pictures.details is None:
        return large
    first, last = (
        image(cut, f"Detail {when}") for cut, when in zip(pictures.details, ("before", "after"), strict=True)
    )
    return f'{large}<p class="eyebrow gap">Where most has changed, pixel for pixel</p>{_pair(first, last)}'


def _pair(before: str, after: str, more: str = "", name: str = "") -> str:
    return (
        f'<div {name}class="pair"><figure class="before">{before}<figcaption>Before</figcaption></figure>'
        f'<figure class="after">{after}<figcaption>After</figcaption></figure>{more}</div>'
    )


def _facts(trace: Part) -> str:
    before, after = trace["score_before"].number(), trace["score_after"].number()
    ends = [end.number() for end in trace["critic"]["score_range"]]
    better = "lower is better" if trace["critic"]["lower_better"].flag() else "higher is better"
    span = f"from {amount(ends[0])} to {amount(ends[1])}, " if len(ends) == 2 and None not in ends else ""
    score = number(after) if before == after else f"{number(before)} → {number(after)}"
    tools = [tool.text() for tool in trace["accepted_tools"]]
    tried = sum(1 for _ in tries_of(trace))
    facts = (
        ("Score", score, f"{'enlarged by interpolation and as it is; ' if enlarges(trace) else ''}{span}{better}"),
        ("Tools in the result", " + ".join(tools) or "none", f"of {tried} tried" if tried else ""),
        ("Time", f"{amount(trace['spent']['seconds'].number())} s", ""),
        ("Critic", trace["critic"]["name"].text(), ""),
    )
    rows = (
        f"<div><dt>{safe(what)}</dt><dd>{safe(said)} <small>{safe(more)}</small></dd></div>"
        for what, said, more in facts
    )
    return f'<dl class="facts">{"".join(rows)}</dl>'


def _sections(trace: Part, pictures: Pictures) -> Iterator[str]:
    first, final = trace["diagnosis"], trace["final_diagnosis"]
    columns = _diagnosis("The original", first)
    if final and final.value != first.value:
        columns += _diagnosis("The result" if trace["improved"].flag() else "The last picture looked at", final)
    yield _section("seen", "What the critic saw", f'<div class="columns">{columns}</div>')
    tries = draw_tries(trace, pictures.thumbnails)
    intro = f'<p class="soft prose">{safe(legend(trace))}</p>'
    yield _section("tried", "What was tried", intro + tries if tries else "<p>Nothing was tried.</p>")
    cost = _section("cost", "What it cost", _budget(trace))
    chart = _chart(trace)
    if chart:
        note = '<p class="soft">In the order of making; higher is better. The green way led to the result.'
        if enlarges(trace):
            note += " Enlarged pictures are judged beside interpolation (bicubic), not beside smaller ones."
        cost = f'<div class="columns">{_section("scores", "Scores", f"{note}</p>{chart}")}{cost}</div>'
    yield cost
    yield _section("record", "For the record", _record(trace))


def _section(name: str, title: str, body: str) -> str:
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{body}</section>\n'


def _diagnosis(title: str, diagnosis: Part) -> str:
    """Probability and expected severity of each class as bars."""
    body = ""
    chances = {what: chance.number() for what, chance in diagnosis["probabilities"].members()}
    severities = {what: severity.number() for what, severity in diagnosis["expected_severities"].members()}
    for what in dict.fromkeys((*chances, *severities)):
        chance, severity = chances.get(what), severities.get(what)
        named = ' class="named"' if what == diagnosis["distortion_class"].text() else ""
        first = measure(chance, 1, f"{chance or 0:.0%}")
        body += f'<tr{named}><th scope="row">{safe(name_of(what))}</th><td>{first}</td>'
        body += f"<td>{measure(severity, 5, number(severity, 1))}</td></tr>"
    head = '<th scope="col">Seen</th><th scope="col">Probability</th><th scope="col">Severity, 0 to 5</th>'
    table = f'<table class="seen"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>' if body else ""
    said = seen(diagnosis)
    heading = f'<p class="eyebrow">{title}</p><h3>{safe(said[:1].upper() + said[1:])}</h3>'
    return f"<div>{heading}{readable(diagnosis)}{table}</div>"


def _chart(trace: Part) -> str:
    tree = report_tree.parents(trace)
    scores = report_tree.scores(trace)
    path = report_tree.lineage(tree, trace["output"]["candidate"].text())
    tools = {made["id"].text(): made["tool"].text() or "the original" for made in trace["candidates"]}
    titles = {name: f"{name}, {tools[name]}: {number(scores.get(name))}" for name in tree}
    return report_chart.draw(tree, scores, path, titles, trace["critic"]["lower_better"].flag())


def _budget(trace: Part) -> str:
    reason, explanation = trace["stop_reason"].text(), trace["stop_explanation"].text()
    rows = ""
    for what, spent, limit in LIMITS:
        used, most = trace["spent"][spent].number(), trace["budget"][limit].number()
        drawn = bar(used or 0, most) if most is not None else ""
        said = f"{amount(used)}, no limit" if most is None else f"{amount(used)} of {amount(most)}"
        rows += f'<tr><th scope="row">{what}</th><td>{drawn}</td><td>{said}</td></tr>'
    hits = sum(trace["spent"][name].number() or 0 for name in ("tool_cache_hits", "critic_cache_hits"))
    saved = (
        f'<p class="soft">{amount(hits)} answers and outputs came from the cache and cost nothing.</p>' if hits else ""
    )
    why = f'<p class="prose">It ended with <strong>{safe(reason)}</strong>: {safe(explanation)}.</p>'
    return f'{why}<table class="cost"><tbody>{rows}</tbody></table>{saved}'


def _record(trace: Part) -> str:
    critic = trace["critic"]
    rows = [("Trace", trace["schema"].text()), ("Critic", f"{critic['name'].text()} {critic['version'].text()}")]
    rows += [("Seed", amount(trace["seed"].number())), ("Scale", amount(trace["scale"].number()))]
    for what in ("input", "output"):
        file = trace[what]
        size = f"{amount(file['width'].number())} {TIMES} {amount(file['height'].number())} pixels"
        where = [file["path"].text(), size, f"SHA-256 {file['sha256'].text()}" if file["sha256"] else ""]
        rows.append((what.capitalize(), "\n".join(filter(None, where))))
    rows += [(name, version.text()) for name, version in trace["versions"].members()]
    entries = "".join(f"<dt>{safe(what)}</dt><dd>{safe(said)}</dd>" for what, said in rows)
    parts = {"settings": trace["settings"].value, "prompts": critic["provenances"].value}
    text = safe(json.dumps(parts, indent=2), 10 * LONGEST)
    more = f'<dl class="record">{entries}</dl><pre>{text}</pre>'
    return f"<details><summary>Files, versions, critic, settings</summary>{more}</details>"
