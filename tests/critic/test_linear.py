"""Products by oneDNN equal torch's own, and step aside where they would not do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqloop.critic import linear as linear_module
from iqloop.critic.linear import FEW, has_wide_products, linear, takes, widen

wide = pytest.mark.skipif(not has_wide_products(), reason="no AVX-512, or torch without oneDNN: MKL does it all")


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(FEW, 8), (40, 64), (2, 30, 48), (1, 1, 100, 7), (0, 8), (3, 8), (8,)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_equals_torch(shape: tuple[int, ...], with_bias: bool) -> None:
    x, weight = rand(*shape), rand(24, shape[-1], seed=1)
    bias = rand(24, seed=2) if with_bias else None
    torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


@wide
def test_rows_that_lie_apart() -> None:
    """oneDNN's reference code, which takes seconds for these, is never asked."""
    x, weight = rand(600, 3, 64)[:, 1], rand(600, 2, 64, seed=1)[:, 0]
    assert not x.is_contiguous() and takes(x, weight)
    torch.testing.assert_close(linear(x, weight), x @ weight.T, rtol=1e-5, atol=1e-4)
    transposed = rand(64, 40).T
    torch.testing.assert_close(linear(transposed, weight), transposed @ weight.T, rtol=1e-5, atol=1e-4)


@wide
def test_only_what_it_can_do() -> None:
    x, weight = rand(64, 32), rand(16, 32, seed=1)
    assert takes(x, weight)
    assert not takes(x[: FEW - 1], weight)
    assert not takes(x.double(), weight.double())
    assert not takes(x.bfloat16(), weight.bfloat16())
    assert not takes(x.to("meta"), weight.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not takes(x, weight)
        assert linear(x, weight).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(64, 32), (3, 20, 32)])
def test_gradients_are_torchs(shape: tuple[int, ...]) -> None:
    """The first and the second, of input, weight and bias."""
    x, layer = rand(*shape).requires_grad_(), nn.Linear(32, 48)
    inputs = [x, layer.weight, layer.bias]

    def derivatives() -> list[Tensor]:
        first = torch.autograd.grad(layer(x).pow(3).mean(), inputs, create_graph=True)
        return [*first, *torch.autograd.grad(sum(part.square().sum() for part in first), inputs)]  # type: ignore[arg-type]

    expected = derivatives()
    widen(layer)
    for one, other in zip(derivatives(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_only_the_gradients_that_are_asked_for() -> None:
    """A frozen critic has none of its weights, a first layer none of its input."""
    for frozen in (0, 1):
        x, weight = rand(64, 32), rand(16, 32, seed=1)
        (x, weight)[1 - frozen].requires_grad_()
        linear(x, weight).sum().backward()
        assert [x.grad is None, weight.grad is None] == [frozen == 0, frozen == 1]


def test_widen_swaps_plain_layers_only() -> None:
    class Adapted(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(8, 8), Adapted(8, 8), nn.LayerNorm(8))
    names, x = list(model.state_dict()), rand(20, 8)
    with torch.no_grad():
        before = model(x)
        torch.testing.assert_close(widen(model)(x), before, rtol=1e-5, atol=1e-5)
    assert [("forward" in vars(part)) for part in model] == [True, False, False]
    assert list(model.state_dict()) == names


def test_a_machine_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_module, "has_wide_products", lambda: False)
    x, weight = rand(64, 32), rand(16, 32, seed=1)
    assert not takes(x, weight)
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight), rtol=0, atol=0)
