"""The page of ``iqloop bench critic-loss``: tables, the figures over the steps, and what the nets draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from iqloop.recipes.bench.critic_loss.study import ORIGINAL, START, Outcome, Row, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from iqloop.critic.evaluation.correlation import Estimate
    from iqloop.distort.image import Bytes

FIGURES = ("critic", "held_out", "psnr", "ssim")
DIGITS = {"critic": ".3f", "held_out": ".3f", "psnr": ".2f", "ssim": ".4f"}
COLOURS = ("#666666", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#D55E00")
SHOWN = 96
"""Side of what is shown of a photograph, in pixels."""
LEGEND = (
    "critic: the score of the critic that was followed; held-out: of one that was not; higher is better unless "
    "said otherwise. Differences are to the package's net (start) on the same photographs; brackets: intervals of "
    "95 %, bootstrap over photographs. photograph: the original itself. last: the moving average of the weights after "
    "the last step; kept: the weights that the held-out critic chose on photographs of their own, at most 0.3 dB of "
    "PSNR below the start; step 0 is the package's net."
)


def summary(found: Outcome, study: Study) -> list[dict[str, Any]]:
    """By variant and weights: each figure's mean, and its difference to the start with the interval, as JSON types."""
    start = _rows(found, START, "last")
    result = []
    for name, weights in dict.fromkeys((row.variant, row.weights) for row in found.rows):
        own = _rows(found, name, weights)
        entry: dict[str, Any] = {"variant": name, "weights": weights, "photographs": len(own)}
        for figure in FIGURES:
            values = [getattr(row, figure) for row in own]
            gains = [value - getattr(row, figure) for value, row in zip(values, start, strict=True)]
            change = _mean(gains, study.settings.seed)
            entry[figure] = sum(values) / len(values)
            entry[f"{figure}_change"] = [change.value, change.low, change.high]
        result.append(entry)
    return result


def page(found: Outcome, study: Study, figures: Sequence[dict[str, Any]], command: str, machine: str) -> str:
    """All of it in Markdown."""
    settings, wanted = study.settings, study.wanted
    about = (
        f"The net {study.task.name} of the package, {settings.steps} steps more of {settings.batch} patches at a rate "
        f"of {settings.rate:g}; damage {found.check.name}; {len(found.check.target)} photographs are reported on, "
        f"middles of {settings.validate_side} px, {settings.validate_on} others chose weights every "
        f"{settings.validate_every} steps. Weight of the critic's loss {wanted.weight:g}, of the pixel loss "
        f"{wanted.fidelity:g}; cap {wanted.cap:g}, views {wanted.views}. Critic {study.critic.name} "
        f"{study.critic.version}, held-out {study.judge.name} {study.judge.version}"
        + (", lower is better" if study.judge.lower_better else "")
        + f"; seed {settings.seed}."
    )
    last = [entry for entry in figures if entry["weights"] == "last"]
    kept = [entry for entry in figures if entry["weights"] == "kept"]
    parts = [f"```sh\n{command}\n```", about, machine, LEGEND, "**Last weights**", _table(last)]
    parts += ["**Weights kept by the held-out critic**", _table(kept, found.kept)]
    return "\n\n".join(parts) + "\n"


def _table(figures: Sequence[dict[str, Any]], kept: dict[str, int] | None = None) -> str:
    heads = ["variant", *([] if kept is None else ["step"]), "critic", "held-out", "PSNR", "SSIM"]
    heads += ["critic, change", "held-out, change", "PSNR, change", "SSIM, change"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for entry in figures:
        reference = entry["variant"] == ORIGINAL
        step = [] if kept is None else [str(kept[entry["variant"]])]
        values = [
            "-" if reference and name in ("psnr", "ssim") else f"{entry[name]:{DIGITS[name]}}" for name in FIGURES
        ]
        changes = [
            "-" if entry["variant"] == START or (reference and name in ("psnr", "ssim")) else _change(entry, name)
            for name in FIGURES
        ]
        lines.append(f"| {' | '.join([entry['variant'], *step, *values, *changes])} |")
    return "\n".join(lines)


def _change(entry: dict[str, Any], name: str) -> str:
    value, low, high = entry[f"{name}_change"]
    form = DIGITS[name]
    return f"{value:+{form}}" if low is None else f"{value:+{form}} [{low:+{form}}, {high:+{form}}]"


def _mean(values: Sequence[float], seed: int) -> Estimate:
    from iqloop.critic.evaluation.bootstrap import ratio

    return ratio(values, [1.0] * len(values), seed=seed)


def _rows(found: Outcome, variant: str, weights: str) -> list[Row]:
    return [row for row in found.rows if (row.variant, row.weights) == (variant, weights)]


def curves(found: Outcome, study: Study) -> Figure:
    """Both critics' scores and PSNR over the steps, on the photographs that choose weights: a line for each variant."""
    from iqloop.critic.evaluation import charts

    figure = charts.blank(11.0, 3.9)
    panels = (
        (study.critic.name, f"{study.critic.name}, which is followed"),
        (study.judge.name, f"{study.judge.name}, which is not"),
        ("psnr", "PSNR, dB"),
    )
    for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for colour, (variant, log) in zip(COLOURS, found.logs.items(), strict=False):
            key = f"{name}/{found.check.name}/output"
            points = [(row["step"], row[key]) for row in log if key in row]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.8, label=variant)
        if name == study.critic.name:
            axes.axhline(study.wanted.cap, color="#999999", linewidth=1, linestyle=":")
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("step", fontsize=8.5)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def strip(found: Outcome, study: Study) -> Figure:
    """What every variant's last weights draw: of the photograph that lost most PSNR without guards, and of the middle
    one; with the followed critic's score of the whole middle."""
    from iqloop.critic.evaluation import charts
    from iqloop.restorers.training.validation import enlarged

    check, worst = found.check, list(found.outputs)[-1]
    change = [
        after.psnr - before.psnr
        for after, before in zip(_rows(found, worst, "last"), _rows(found, START, "last"), strict=True)
    ]
    order = sorted(range(len(change)), key=change.__getitem__)
    chosen = (order[0], order[len(order) // 2])
    names = [ORIGINAL, "input", *found.outputs]
    figure = charts.blank(1.75 * len(names), 2.05 * len(chosen))
    grid = figure.subplots(len(chosen), len(names), squeeze=False)
    for line, photo in zip(grid, chosen, strict=True):
        images = {ORIGINAL: check.target[photo], "input": enlarged(check.given[photo], check.target[photo])}
        images |= {name: made[photo] for name, made in found.outputs.items()}
        for axes, name in zip(line, names, strict=True):
            axes.imshow(_middle(images[name]), interpolation="nearest")
            score = next((f"\n{row.critic:.2f}" for row in _rows(found, name, "last") if row.photo == photo), "\n")
            axes.set_title(name + score, fontsize=9)
            axes.set_axis_off()
    return figure


def _middle(image: Bytes) -> Bytes:
    top, left = (max(0, (length - SHOWN) // 2) for length in image.shape[:2])
    return image[top : top + SHOWN, left : left + SHOWN]
