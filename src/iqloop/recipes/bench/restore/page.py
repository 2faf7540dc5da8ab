"""The page of ``iqloop bench restore``, in Markdown: how it was measured, the tables, the worst cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iqloop.critic.evaluation.correlation import Estimate
from iqloop.recipes.bench.restore.cases import Wanted
from iqloop.recipes.bench.restore.figures import agreement, by_mixture, figures, reasons, subsets, worst
from iqloop.recipes.bench.restore.judge import CLEAR, Judged
from iqloop.recipes.bench.restore.measure import LONGEST, METHODS, WORSE, Row
from iqloop.recipes.bench.restore.mixtures import Mixtures

LEGEND = (
    "nothing: the input. fixed: all nets of the package in the order prior's order. random: all in a random order. "
    "single: the best one in hindsight. oracle: the best sequence in hindsight of up to "
    f"{LONGEST} different nets, none included. agent: `iqloop restore`, with every tool. gain: PSNR in dB over the "
    f"input. worse: cases more than {WORSE:g} dB below the input. share: of the oracle's gain. tool calls: runs of a "
    "tool, and how many of the oracle's these are. Brackets: intervals of 95 %, bootstrap over photographs. On clean "
    "photographs nothing can be gained (60 dB is untouched)."
)


def page(
    rows: Sequence[Row],
    judged: Mapping[str, Sequence[Judged]] | None,
    wanted: Wanted,
    mixtures: Mixtures,
    command: str,
    weights: str,
    machine: str,
) -> str:
    """All of it.

    Args:
        rows: at least one.
        judged: by photograph; None when the judge was not asked.
        wanted: what was asked for.
        mixtures: where the damage comes from.
        command: the command line.
        weights: critic and nets with their versions.
        machine: where.
    """
    photos = len({row.photo for row in rows})
    size = "whole" if wanted.side is None else f"the middle {wanted.side} x {wanted.side}"
    what = "photographs" if wanted.pairs is None else "pairs"
    kinds = len({row.mixture for row in rows})
    over = f", {kinds} mixtures" if wanted.pairs is None else ""
    parts = [
        f"```sh\n{command}\n```",
        f"{photos} {what} of {wanted.data}, {size}{over}; seed {wanted.seed}",
        machine,
        weights,
        LEGEND,
    ]
    if wanted.pairs is None:
        origins = {group: mixtures.groups.get(group, "") for group in dict.fromkeys(row.group for row in rows)}
        parts.append("\n".join(f"- {group}: {origin}" for group, origin in origins.items() if origin))
        if mixtures.left_out:
            parts.append(f"Left out: {', '.join(mixtures.left_out)}; {mixtures.reason}.")
    for name, own in subsets(rows).items():
        parts.append(f"**{name}**, {len(own) // len(METHODS)} cases\n\n{methods_table(own, wanted.seed)}")
    parts.append(f"Gain in dB by mixture\n\n{mixtures_table(rows, wanted.seed)}")
    stops = ", ".join(f"{reason} {count}" for reason, count in reasons(rows).items())
    parts.append(f"Why the agent stopped: {stops}.")
    if judged is not None:
        parts.append(judge_line(judged, wanted.seed))
    parts.append(f"Farthest behind the oracle\n\n{worst_list(rows)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def methods_table(rows: Sequence[Row], seed: int = 0) -> str:
    """Every method on the same cases."""
    lines = [
        "| method | PSNR | SSIM | GMSD | score | gain | worse | share | tool calls | critic calls | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        found = figures(rows, method, seed)
        means = found.means
        cells = [
            method,
            _plain(means["psnr"], ".2f"),
            _plain(means["ssim"], ".3f"),
            _plain(means["gmsd"], ".3f"),
            _plain(means["score"], ".2f"),
            _bracketed(means["gain"], "+.2f"),
            _percent(means["worse"]),
            _percent(found.share),
            f"{_plain(means['tool_calls'], '.1f')} ({_percent(found.calls, bracket=False)})",
            _plain(means["critic_calls"], ".1f"),
            _plain(means["seconds"], ".1f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mixtures_table(rows: Sequence[Row], seed: int = 0) -> str:
    """For each mixture the input's PSNR, the gains, and how the agent's stands to the oracle's."""
    lines = [
        "| mixture | input | fixed | random | single | oracle | agent | share | worse |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, own in by_mixture(rows).items():
        found = {method: figures(own, method, seed) for method in METHODS}
        gains = [_plain(found[method].means["gain"], "+.2f") for method in METHODS[1:-1]]
        agent = found["agent"]
        cells = [
            name,
            _plain(found["nothing"].means["psnr"], ".2f"),
            *gains,
            _bracketed(agent.means["gain"], "+.2f"),
            _percent(agent.share, bracket=False),
            _percent(agent.means["worse"], bracket=False),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def judge_line(judged: Mapping[str, Sequence[Judged]], seed: int = 0) -> str:
    """How often the judge decides as the PSNR does."""
    found = agreement(judged, seed)
    outputs = sum(map(len, judged.values()))
    asked = sum(one.asked for some in judged.values() for one in some)
    return (
        f"The judge on {outputs} outputs of a single net whose PSNR differs from the input's by more than {CLEAR:g} "
        f"dB: the loop decides as the PSNR does on {_percent(found['all'])}; it takes {_percent(found['better'])} of "
        f"the better ones and refuses {_percent(found['worse'])} of the worse ones. Of the {asked} whose input does "
        f"not look clean to it, it decides so on {_percent(found['asked'])}."
    )


def worst_list(rows: Sequence[Row]) -> str:
    """The worst cases: what was wrong, what the oracle did, what the agent saw, did and was told."""
    lines = []
    for own, best in worst(rows):
        damage = f" ({', '.join(own.damage)})" if own.damage else ""
        lines.append(
            f"- {own.photo}, {own.mixture}{damage}: oracle {best.gain:+.2f} dB by {_chain(best.tools)}; agent "
            f"{own.gain:+.2f} dB by {_chain(own.tools)}, stopped by {own.stop_reason}; it saw: {own.saw}"
        )
        lines += [f"  - {attempt}" for attempt in own.tried]
    return "\n".join(lines)


def _chain(tools: Sequence[str]) -> str:
    return ", ".join(tools) or "nothing"


def _plain(found: Estimate, form: str) -> str:
    return "-" if found.value is None else format(found.value, form)


def _bracketed(found: Estimate, form: str) -> str:
    if found.value is None or found.low is None or found.high is None:
        return _plain(found, form)
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _percent(found: Estimate, bracket: bool = True) -> str:
    if found.value is None:
        return "-"
    interval = f" [{found.low * 100:.0f}, {found.high * 100:.0f}]" if found.low is not None and found.high else ""
    return f"{found.value * 100:.0f} %{interval if bracket else ''}"
