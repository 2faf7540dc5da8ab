"""An order prior measured from tools whose right order is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from click.testing import CliRunner
from torch import Tensor

from iqloop.agents.order import load_stages
from iqloop.agents.order_measure import FailRates, Trial, as_document, fail_rates, run_trials, stages_of
from iqloop.recipes.cli import cli
from iqloop.restorers.full_reference import tensor_psnr as psnr
from iqloop.restorers.tool import Tool, Treatment
from tests.agents.agents_fakes import tool


def trials(first: Treatment, then: Treatment, *leads: float) -> list[Trial]:
    return [Trial(first, then, lead, 0.0) for lead in leads]


def test_fail_rates_count_what_is_clearly_worse() -> None:
    (found,) = fail_rates(trials("noise", "blur", 1.0, 1.0, 0.05, -1.0))
    assert (found.first, found.then, found.rate, found.reversed, found.count) == ("noise", "blur", 0.25, 0.5, 4)
    assert found.advantage == pytest.approx(1.05 / 4)
    (turned,) = fail_rates(trials("noise", "blur", -1.0, -1.0, 2.0))
    assert (turned.first, turned.then) == ("blur", "noise")
    assert turned.rate == pytest.approx(1 / 3) and turned.reversed == pytest.approx(2 / 3)


def test_stages_follow_the_rates_and_ties_share_one() -> None:
    def pair(first: Treatment, then: Treatment, rate: float, reverse: float) -> FailRates:
        return FailRates(first, then, rate, reverse, 0.0, 10)

    rates = [
        pair("compression", "noise", 0.1, 0.5),
        pair("noise", "darken", 0.0, 0.3),
        pair("compression", "darken", 0.0, 0.9),
    ]
    assert stages_of(rates) == (("compression",), ("noise",), ("darken",), ("low-resolution",))
    level = [
        pair("compression", "noise", 0.2, 0.25),
        pair("noise", "darken", 0.0, 0.3),
        pair("compression", "darken", 0.0, 0.9),
    ]
    assert stages_of(level) == (("noise", "compression"), ("darken",), ("low-resolution",))


def test_the_right_order_of_two_tools_is_found(tmp_path: Path) -> None:
    """A denoiser that only works in the dark must come before the brightener."""
    clean = np.ascontiguousarray(skimage.data.astronaut()[:96, 100:196])
    target = torch.from_numpy(clean).permute(2, 0, 1).float() / 255

    def brighten(image: Tensor) -> Tensor:
        return image * (target.mean() / image.mean().clamp_min(1e-3))

    def denoise(image: Tensor) -> Tensor:
        near = target * (image.mean() / target.mean())
        return 0.1 * image + 0.9 * near if float(image.mean()) < 0.9 * float(target.mean()) else image

    made: dict[Treatment, Tool] = {"noise": tool("d", "noise", denoise), "darken": tool("b", "darken", brighten)}
    heard: list[Trial] = []
    found = run_trials([clean] * 4, made, seed=1, on_trial=heard.append)
    assert found == heard and len(found) == 4 and len({trial.gain for trial in found}) == 4
    (rates,) = fail_rates(found)
    assert (rates.first, rates.then) == ("noise", "darken") and rates.reversed > rates.rate
    document = as_document([rates], made, "four crops")
    path = tmp_path / "order.json"
    path.write_text(json.dumps(document))
    assert load_stages(path)[0] == ("noise",)
    assert run_trials([clean] * 4, made, seed=1) == found


def test_psnr() -> None:
    assert psnr(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1)) == pytest.approx(20, abs=1e-4)
    assert psnr(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)) == pytest.approx(100)


def test_the_command_writes_an_order_that_restore_can_read(tmp_path: Path) -> None:
    out = tmp_path / "order.json"
    run = CliRunner().invoke(cli, ["train", "order", "--count", "1", "--side", "64", "-o", str(out), "--json"])
    assert run.exit_code == 0, run.output
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == 6 and all(0 <= line["rate"] <= 1 for line in lines)
    assert {one for stage in load_stages(out) for one in stage} == {
        "noise",
        "blur",
        "compression",
        "darken",
        "low-resolution",
    }
    again = CliRunner().invoke(cli, ["train", "order", "--count", "1", "-o", str(out)])
    assert again.exit_code == 2 or "exists" in again.output
