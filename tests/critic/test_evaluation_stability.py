"""Spread over seeds, counted by hand; and the pictures of scores, drawn without a window."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure

from iqloop.critic.evaluation.correlation import agreement
from iqloop.critic.evaluation.scatter import opinions, seeds
from iqloop.critic.evaluation.stability import spread, stability


def test_spreads_of_several_images() -> None:
    """Deviations 1 (of 3 scores) and 2 (of 2 scores, sqrt 2 times sqrt 2); the third image has one score only."""
    rows = [spread([2.0, 3.0, 4.0]), spread([1.0, 1.0 + 2 * np.sqrt(2), None]), spread([None, 5.0, None])]
    assert [one.std for one in rows] == [pytest.approx(1.0), pytest.approx(2.0), None]
    found = stability(rows)
    assert (found.images, found.measured, found.answers, found.unparsed) == (3, 2, 9, 3)
    assert found.std_mean == pytest.approx(1.5) and found.std_median == pytest.approx(1.5)
    assert found.std_max == pytest.approx(2.0) and found.span_max == pytest.approx(2 * np.sqrt(2))
    assert found.std_pooled == pytest.approx(np.sqrt((2 * 1 + 1 * 4) / 3))
    assert found.unparsed_share == pytest.approx(1 / 3)


def test_nothing_to_spread() -> None:
    assert stability([]).std_mean is None and stability([]).unparsed_share is None
    found = stability([spread([None, None])])
    assert (found.measured, found.std_max, found.unparsed_share) == (0, None, 1.0)


def png(figure: Figure) -> bytes:
    target = BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


@pytest.mark.parametrize("groups", [[], ["a", "b"] * 20, [str(i) for i in range(40)]])
def test_opinions_are_drawn(groups: list[str]) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 5, 40)
    y = x + rng.normal(size=40)
    found = agreement(x.tolist(), y.tolist(), resamples=10)
    figure = opinions(x.tolist(), y.tolist(), found, "a critic", groups=groups)
    assert figure.get_supxlabel().startswith(f"SRCC {found.srcc.value:.3f} [{found.srcc.low:.3f}, ")
    assert len(figure.axes[0].collections) == (2 if len(groups) == 40 and len(set(groups)) == 2 else 1)
    assert png(figure).startswith(b"\x89PNG")


def test_a_lower_better_curve_falls_on_the_picture() -> None:
    x = np.linspace(0, 1, 20)
    found = agreement(x.tolist(), (5 - 4 * x).tolist(), opposite=True, resamples=0)
    line = opinions(x.tolist(), (5 - 4 * x).tolist(), found, "a critic", opposite=True).axes[0].lines[0].get_ydata()
    assert np.all(np.diff(np.asarray(line)) < 0)


def test_seeds_are_drawn() -> None:
    rows = {f"{i}.png": spread([3.0 + i, 3.5 + i]) for i in range(3)} | {"none.png": spread([None])}
    figure = seeds(rows, "a critic", {"0.png": 3.2})
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["0.png", "1.png", "2.png"]
    assert png(figure).startswith(b"\x89PNG")
