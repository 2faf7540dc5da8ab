"""Figures of perception, counted by hand; test images of the published shares; ladders in both directions."""

from __future__ import annotations

from itertools import islice
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from iqloop import distort
from iqloop.critic.evaluation.perception import (
    LADDERS,
    MIXED,
    UNPARSED,
    Label,
    cases,
    falls,
    figures,
    ladders,
    mixed,
    mixtures,
    rungs,
)
from iqloop.critic.verdicts import CLASSES

ANSWERS: list[tuple[Label, Label]] = [
    (("noise", "slight"), ("noise", "slight")),
    (("noise", "obvious"), ("noise", "slight")),
    (("noise", "obvious"), ("blur", "obvious")),
    (("null", "null"), ("null", "null")),
    (("blur", "serious"), (UNPARSED, UNPARSED)),
]


def test_figures_are_macro_means() -> None:
    found = figures(ANSWERS)
    assert found.cases == 5
    assert found.by_class == pytest.approx({"noise": 2 / 3, "null": 1.0, "blur": 0.0})
    assert found.class_accuracy == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.level_by_class == pytest.approx({"noise": 1 / 3, "blur": 0.0}), "null has no level"
    assert found.level_accuracy == pytest.approx((1 / 3 + 0) / 2)
    assert found.confusion["noise"] == {"noise": 2, "blur": 1, "compression": 0, "darken": 0, "null": 0, UNPARSED: 0}
    assert found.confusion["blur"][UNPARSED] == 1 and found.unparsed == pytest.approx(0.2)


def test_the_order_of_the_answers_does_not_matter() -> None:
    assert figures(reversed(ANSWERS)) == figures(ANSWERS)


def test_nothing_asked_is_not_nothing_right() -> None:
    assert figures([]).class_accuracy is None and figures([]).unparsed == 0
    assert figures([(("null", "null"), ("null", "null"))]).level_accuracy is None


def test_the_papers_level_accuracy_is_reproduced() -> None:
    """Table 4's average is the macro mean of its four fractions, which fit whole counts of 226, 205, 222 and 226."""
    right = {"noise": (226, 135), "blur": (205, 91), "compression": (222, 123), "darken": (226, 73)}
    rows = [
        ((kind, "slight"), (kind, "slight" if i < hits else "obvious"))
        for kind, (total, hits) in right.items()
        for i in range(total)
    ]
    level = figures(rows).level_accuracy
    assert level is not None and level == pytest.approx(0.4796, abs=5e-4)


def test_cases_have_the_papers_counts_and_short_side() -> None:
    image = np.ascontiguousarray(data.astronaut()[:300, :400])
    test = list(cases([image], 1000, seed=1))
    counts = {kind: sum(case.distortion_class == kind for case in test) for kind in CLASSES}
    assert counts == {"noise": 226, "blur": 205, "compression": 222, "darken": 226, "null": 121}
    first = [case.image for case in test[:30]]
    again = [case.image for case in islice(cases([image], 1000, seed=1), 30)]
    assert all(min(image.shape[:2]) == 224 for image in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    other = [case.truth for case in cases([image], 1000, seed=2)]
    assert other != [case.truth for case in test]


def test_native_cases_are_crops() -> None:
    image = np.ascontiguousarray(data.astronaut()[:300, :400])
    for case in islice(cases([image], 20, native=128), 5):
        assert case.clean.shape == (128, 128, 3) == case.image.shape
    assert next(cases([image], 20, native=1000)).clean.shape == (300, 300, 3), "no crop is larger than the photograph"


def test_mixtures_are_half_two_fold_and_half_three_fold_of_different_classes() -> None:
    image = np.ascontiguousarray(data.astronaut()[:300, :400])
    found = list(mixtures([image], 201, seed=1))
    sizes = [len(mixture.present) for mixture in found]
    assert (sizes.count(2), sizes.count(3)) == (101, 100) and sizes != sorted(sizes)
    of = {name: kind for kind in MIXED for name in distort.CATEGORIES[cast(distort.Category, kind)]}
    for mixture in found:
        assert len(set(mixture.present)) == len(mixture.present) == len(mixture.distortions)
        assert {of[step.name] for step in mixture.distortions} == set(mixture.present)
    counts = [sum(kind in mixture.present for mixture in found) for kind in MIXED]
    assert sum(counts) == 2 * 101 + 3 * 100 and min(counts) > 100, "classes are drawn alike"
    assert not list(mixtures([image], 0))


def test_mixtures_are_seeded_and_made_of_every_distortion() -> None:
    image = np.ascontiguousarray(data.astronaut()[:300, :400])
    first = list(islice(mixtures([image], 100, seed=1), 6))
    again = list(islice(mixtures([image], 100, seed=1), 6))
    for a, b in zip(first, again, strict=True):
        assert (a.present, a.distortions, a.seed) == (b.present, b.distortions, b.seed)
        assert np.array_equal(a.image, b.image) and min(a.image.shape[:2]) == 224
        assert np.array_equal(a.image, distort.apply_all(a.clean, a.distortions, a.seed))
    other = [mixture.distortions for mixture in islice(mixtures([image], 100, seed=2), 6)]
    assert other != [mixture.distortions for mixture in first]


def test_photographs_of_mixtures_are_taken_one_at_a_time() -> None:
    class Counted(list[NDArray[np.uint8]]):
        taken = 0

        def __getitem__(self, index: Any) -> Any:
            self.taken += 1
            return super().__getitem__(index)

    photographs = Counted([np.zeros((240, 240, 3), np.uint8)] * 3)
    assert len(list(islice(mixtures(photographs, 100), 2))) == photographs.taken == 2


def test_any_present_class_is_right() -> None:
    found = mixed(
        [
            (("noise", "blur"), "noise"),
            (("noise", "blur"), "darken"),
            (("blur", "darken"), UNPARSED),
            (("noise", "blur", "darken"), "darken"),
            (("noise", "blur", "darken"), "null"),
        ]
    )
    assert found.cases == 5 and found.accuracy == pytest.approx(2 / 5)
    assert found.two == pytest.approx(1 / 3) and found.three == pytest.approx(1 / 2)
    assert found.null == found.unparsed == pytest.approx(1 / 5)
    assert found.named == pytest.approx({"noise": 1 / 4, "blur": 0, "darken": 1 / 3}), "compression does not occur"


def test_no_mixtures_have_no_accuracy() -> None:
    found = mixed([])
    assert found.accuracy is None and found.two is None and found.three is None and found.named == {}
    assert found.cases == found.null == found.unparsed == 0


def test_rungs_begin_clean_and_get_worse() -> None:
    image = np.ascontiguousarray(data.astronaut()[:200, :200])
    found = list(rungs([image], side=64))
    assert len(found) == 1 + 5 * len(LADDERS) and all(rung.image.shape == (64, 64, 3) for rung in found)
    clean = found[0].image.astype(float)
    for kind in LADDERS:
        away = [np.abs(rung.image - clean).mean() for rung in found if rung.distortion_class == kind]
        assert away == sorted(away) and away[0] > 0


def test_ladders_are_means() -> None:
    scores = {("null", 0): [4.0, 5.0]} | {(kind, level): [5.0 - level] for kind in LADDERS for level in range(1, 6)}
    scores["blur", 3] = []
    found = ladders(scores)
    assert found["noise"] == [4.5, 4, 3, 2, 1, 0] and falls(found["noise"]) is True
    assert found["blur"] == [4.5, 4, 3, None, 1, 0] and falls(found["blur"]) is None


def test_direction_of_a_ladder() -> None:
    assert falls([5, 4, 4]) is False, "a step that stands still does not fall"
    assert falls([0.1, 0.2, 0.3], lower_better=True) is True and falls([0.3, 0.2], lower_better=True) is False
