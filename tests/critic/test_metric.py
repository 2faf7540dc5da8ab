"""The metric: pyiqa's interface, more inputs, a true gradient, and no number where there is no answer."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import iqloop
from iqloop.critic.metric import Metric, as_images, create_metric, list_metrics, reduce
from iqloop.critic.pyiqa_critic import parse_range
from iqloop.critic.verdicts import Rating, Unparsed
from iqloop.errors import CriticError, ImageReadError, PrerequisiteError, UsageError
from iqloop.io import Source

from .critic_fakes import BrightnessCritic, FakeCritic, FlatCritic


@pytest.fixture(scope="module")
def photo(photograph: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return photograph("astronaut", 112)


@pytest.fixture(scope="module")
def tensor(photo: NDArray[np.uint8], as_tensor: Callable[[NDArray[np.uint8]], Tensor]) -> Tensor:
    return as_tensor(photo)


@pytest.fixture(scope="module")
def metric() -> Metric:
    return create_metric("qinsight-mini", device="cpu")


@pytest.fixture(scope="module")
def score(metric: Metric, tensor: Tensor) -> float:
    return float(metric(tensor))


# -- what it is --------------------------------------------------------------------------------------------------------


def test_attributes_are_those_of_pyiqa_and_data(metric: Metric) -> None:
    assert (metric.metric_name, metric.metric_mode, metric.lower_better) == ("qinsight-mini", "NR", False)
    assert (metric.score_range, metric.range) == ("1, 5", (1.0, 5.0))
    assert (metric.as_loss, metric.loss_weight, metric.loss_reduction) == (False, None, "mean")
    assert (metric.check_input_range, metric.seed, metric.eps) == (True, 0, 1e-6)
    assert metric.device == metric.dummy_param.device == torch.device("cpu")
    assert metric.net is metric.critic.checkpoint.model  # type: ignore[attr-defined]
    assert isinstance(metric.net, torch.nn.Module) and not any(p.requires_grad for p in metric.parameters())
    names = list(metric.state_dict())
    assert "dummy_param" in names and all(name.startswith("net.") for name in names if name != "dummy_param")
    assert "qinsight-mini" in repr(metric)


def test_a_critic_without_a_module_is_its_own_net() -> None:
    critic = FakeCritic(lower_better=True, score_range=(0.0, float("inf")))
    metric = create_metric(critic)
    assert metric.net is critic is metric.critic
    assert (metric.score_range, metric.lower_better) == ("0, ~", True)
    assert list(metric.state_dict()) == ["dummy_param"]


def test_a_critic_that_is_a_module_is_registered_once() -> None:
    class Module(torch.nn.Module, FakeCritic):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            FakeCritic.__init__(self)
            self.weight = torch.nn.Parameter(torch.zeros(2))

    assert sorted(create_metric(Module()).state_dict()) == ["dummy_param", "net.weight"]


def test_it_moves_and_stays_in_evaluation_mode() -> None:
    metric = create_metric(FakeCritic())
    assert metric.to("meta").device.type == "meta"
    assert not torch.nn.Sequential(metric).train()[0].training
    with pytest.raises(CriticError, match=r"weights\.pth.*checkpoint folder"):
        metric.load_weights("weights.pth")


def test_names() -> None:
    assert {"qinsight-mini", "qinsight", "visualquality-r1"} <= set(list_metrics())
    assert iqloop.list_metrics is list_metrics and iqloop.create_metric is create_metric


def test_nothing_of_pyiqa_is_imported() -> None:
    code = "import sys, iqloop; iqloop.create_metric('qinsight-mini'); print('pyiqa' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_every_kind_of_input_gets_the_same_score(
    metric: Metric, score: float, photo: NDArray[np.uint8], tensor: Tensor, tmp_path: Path
) -> None:
    Image.fromarray(photo).save(tmp_path / "photo.png")
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    path = tmp_path / "photo.png"
    same: list[Any] = [
        path, str(path), buffer.getvalue(), Image.fromarray(photo), photo, photo[None], photo / np.float32(255),
        photo.astype(np.uint16) * 257, tensor, tensor[None], tensor.double(), torch.from_numpy(photo).permute(2, 0, 1),
        np.dstack([photo, np.zeros_like(photo[..., :1])]), torch.cat([tensor, torch.zeros(1, 112, 112)]),
    ]  # fmt: skip
    scores = metric(same)
    assert scores.shape == (len(same), 1) and scores.dtype == torch.float32
    assert torch.allclose(scores, torch.full_like(scores, score), atol=2e-4)
    for one in same:
        assert float(metric(one)) == pytest.approx(score, abs=2e-4)


def test_grey_is_three_equal_channels(metric: Metric, photo: NDArray[np.uint8]) -> None:
    grey = photo[..., 1]
    expected = float(metric(np.dstack([grey] * 3)))
    plane = torch.from_numpy(grey).float() / 255
    for one in (grey, grey[..., None], Image.fromarray(grey), plane, plane[None], plane[None, None]):
        assert float(metric(one)) == pytest.approx(expected, abs=2e-4)


def test_batches_and_mixed_sizes_keep_their_order(metric: Metric, tensor: Tensor) -> None:
    parts = [tensor, tensor[:, :56], tensor[:, :, :84], tensor.flip(0)]
    together = metric(parts)
    assert torch.allclose(together, torch.cat([metric(part) for part in parts]), atol=2e-4)
    batch = metric(torch.stack([parts[0], parts[3]]))
    assert batch.shape == (2, 1) and torch.allclose(batch, together[[0, 3]], atol=2e-4)
    assert torch.equal(metric(tuple(parts)), together)


def test_pyiqas_shape_contract(metric: Metric) -> None:
    scores = metric(torch.rand(2, 3, 224, 224), None)
    assert scores.shape == (2, 1) and bool(scores.isfinite().all()) and not scores.requires_grad


def test_a_reference_is_not_looked_at(metric: Metric, score: float, tensor: Tensor) -> None:
    assert float(metric(tensor[None], torch.zeros(1, 3, 8, 8))) == score


def test_the_callers_tensor_is_not_modified(tensor: Tensor) -> None:
    class Rude(FakeCritic):
        def score(self, images: Any) -> Any:
            for image in images:
                image.zero_()
            return super().score(images)

    given = tensor.clone()
    create_metric(Rude())(given)
    create_metric(Rude())([given, given[None]])
    assert torch.equal(given, tensor)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (torch.rand(1, 3, 8, 8) * 255, UsageError, r"expected values in \[0, 1\]"),
        (torch.full((3, 8, 8), float("nan")), UsageError, "nan"),
        (torch.rand(3, 8, 8) - 0.1, UsageError, "-0.0|-0.1"),
        (torch.rand(8, 8, 8, 8, 8), UsageError, "tensor"),
        (torch.rand(1, 8, 8, 3), UsageError, "permute"),
        (torch.rand(1, 3, 0, 8), UsageError, "permute"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), UsageError, "int64"),
        ([torch.rand(2, 3, 8, 8)], UsageError, "each place of a list"),
        ([], UsageError, "at least one"),
        (torch.rand(0, 3, 8, 8), UsageError, "at least one"),
        ("nowhere.png", ImageReadError, "nowhere"),
        (3, ImageReadError, "int"),
        (np.random.default_rng(0).random((8, 8, 3)) * 255, ImageReadError, r"\[0, 1\]"),
    ],
)
def test_what_is_no_image_is_refused(given: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        create_metric(FakeCritic())(given)


def test_rounding_is_let_pass_and_the_check_can_be_left_out() -> None:
    metric = create_metric(FakeCritic())
    assert metric(torch.full((3, 8, 8), 1 + 5e-7)).shape == (1, 1)
    assert create_metric(FakeCritic(), check_input_range=False)(torch.full((3, 8, 8), 2.0)).shape == (1, 1)


def test_images_keep_their_gradient_and_their_device() -> None:
    grey = torch.rand(1, 8, 8, requires_grad=True)
    (image,) = as_images([grey])
    image.sum().backward()
    assert grey.grad is not None and torch.equal(grey.grad, torch.full((1, 8, 8), 3.0))


# -- answers that cannot be read ---------------------------------------------------------------------------------------


def test_an_unreadable_answer_is_never_a_number(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    Image.fromarray(photo).save(tmp_path / "b.png")
    images: list[Source] = [photo, tmp_path / "b.png", photo]
    critic = FakeCritic([2.0, None, None])
    with pytest.raises(CriticError, match=r"2 of 3 answers .*b\.png, image 2.*expected a rating"):
        create_metric(critic)(images)
    scores = create_metric(critic, on_unparsed="nan")(images).squeeze(1).tolist()
    assert scores[0] == 2.0 and np.isnan(scores[1:]).all()
    rated = create_metric(critic).rate(images)
    assert [type(one) for one in rated] == [Rating, Unparsed, Unparsed]


# -- as a loss ---------------------------------------------------------------------------------------------------------


def test_the_gradient_is_that_of_the_score(score: float, tensor: Tensor) -> None:
    """Against a finite difference along the gradient's own direction."""
    loss = create_metric("qinsight-mini", as_loss=True, device="cpu")
    x = tensor.clone().requires_grad_(True)
    value = loss(x)
    value.backward()
    assert x.grad is not None and value.shape == () and value.item() == pytest.approx(score, abs=2e-4)
    with torch.no_grad():
        step = 1e-3 * x.grad / x.grad.norm()
        rise = float(loss(tensor + step) - loss(tensor - step)) / 2e-3
    assert rise == pytest.approx(float(x.grad.norm()), rel=0.05)


def test_pyiqas_gradient_contract() -> None:
    loss = create_metric("qinsight-mini", as_loss=True, device="cpu")
    x = torch.randn(2, 3, 224, 224, requires_grad=True)  # far outside [0, 1], as pyiqa's own test has it
    loss(x).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all()) and bool((x.grad != 0).any())


def test_reductions_and_weights() -> None:
    critic = BrightnessCritic(score_range=(0.0, 1.0))
    x = torch.stack([torch.full((3, 8, 8), level) for level in (0.2, 0.6)])
    assert create_metric(critic, as_loss=True)(x).item() == pytest.approx(0.4)
    assert create_metric(critic, as_loss=True, loss_reduction="sum")(x).item() == pytest.approx(0.8)
    assert create_metric(critic, as_loss=True, loss_reduction="none")(x).shape == (2, 1)
    for weight, expected in ((0.5, 0.2), (torch.tensor(0.5), 0.2), (torch.tensor([3.0, 1.0]), 0.3)):
        assert create_metric(critic, as_loss=True, loss_weight=weight)(x).item() == pytest.approx(expected)
    column = create_metric(critic, as_loss=True, loss_weight=torch.tensor([[3.0], [1.0]]))
    assert column(x).item() == pytest.approx(0.3)
    with pytest.raises(UsageError, match="each of 2 images"):
        reduce(torch.rand(2), "mean", torch.rand(3))


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_weights_fit_both_shapes_of_scores(shape: tuple[int, ...]) -> None:
    scores = torch.tensor([1.0, 2.0, 3.0]).reshape(shape)
    for weight in (torch.tensor([1.0, 0.0, 1.0]), torch.tensor([[1.0], [0.0], [1.0]])):
        assert reduce(scores, "mean", weight).item() == 2.0
        assert reduce(scores, "sum", weight).item() == 4.0
        assert reduce(scores, "none", weight).shape == shape


def test_the_direction_is_not_turned() -> None:
    critic = BrightnessCritic(lower_better=True, score_range=(0.0, 1.0))
    assert create_metric(critic, as_loss=True)(torch.full((3, 8, 8), 0.9)).item() == pytest.approx(0.9)


def test_a_critic_without_a_gradient_is_refused_when_it_is_made(tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match="fake has none"):
        create_metric(FakeCritic(), as_loss=True)
    with pytest.raises(UsageError, match="zero everywhere"):
        create_metric(FlatCritic(), as_loss=True)
    with pytest.raises(UsageError, match="decoding='expected'"):
        create_metric(str(tiny_folder), as_loss=True, device="cpu", decoding="reason")


def test_a_quantised_critic_is_tried(tiny_folder: Path) -> None:
    """Some kernels have no backward pass; the checkpoint refuses then, and the metric when it is made."""

    def refuse(*_: object) -> None:
        raise CriticError("4bit has no gradient here")

    critic: Any = iqloop.create_critic(tiny_folder, device="cpu")
    critic.checkpoint.model.is_quantized = True
    assert create_metric(critic, as_loss=True).as_loss
    critic.checkpoint.model.lm_head.register_forward_pre_hook(refuse)
    with pytest.raises(UsageError, match="4bit has no gradient here"):
        create_metric(critic, as_loss=True)


# -- options -----------------------------------------------------------------------------------------------------------


def test_options_go_to_the_critic(tiny_folder: Path) -> None:
    metric = create_metric(tiny_folder, device="cpu", decoding="reason", seed=3, max_new_tokens=4)
    assert metric.critic.decoding == "reason" and metric.critic.seed == metric.seed == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("qinsight-mini", {"decodin": "reason"}, "decodin: did you mean decoding"),
        ("qinsight-mini", {"loss_reduction": "median"}, "loss_reduction must be mean, sum or none"),
        ("qinsight-mini", {"on_unparsed": "zero"}, "on_unparsed must be raise or nan"),
        (FakeCritic(), {"decoding": "reason"}, "decoding cannot be given"),
        (None, {}, "NoneType"),
        ("nothing", {}, "unknown critic 'nothing'"),
    ],
)
def test_bad_arguments_are_refused(name: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        create_metric(name, **options)


# -- metrics of pyiqa as critics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0, 1", (0.0, 1.0)),
        ("~0, ~100", (0.0, 100.0)),
        ("~-1, ~0.1", (-1.0, 0.1)),
        ("0, ~", (0.0, float("inf"))),
        ("~, 2", (-float("inf"), 2.0)),
        ("quality: 0, 1; rank: 0, 2; rank_prob: 0, 1", (-float("inf"), float("inf"))),
        (None, (-float("inf"), float("inf"))),
    ],
)
def test_ranges_of_pyiqa_are_read(text: str | None, expected: tuple[float, float]) -> None:
    assert parse_range(text) == expected


def test_a_metric_of_pyiqa_is_a_critic(tensor: Tensor) -> None:
    pyiqa = pytest.importorskip("pyiqa", reason="the extra pyiqa is not installed")
    metric = create_metric("pyiqa:piqe", device="cpu")
    assert (metric.metric_name, metric.lower_better, metric.range) == ("pyiqa:piqe", True, (0.0, 100.0))
    own = pyiqa.create_metric("piqe", device="cpu")
    before = tensor.clone()
    assert float(metric(tensor)) == pytest.approx(float(own(tensor[None])))
    assert torch.equal(before, tensor)
    (rating,) = metric.rate(tensor)
    assert isinstance(rating, Rating) and rating.std == 0 and rating.provenance.model == "pyiqa:piqe"
    assert metric.critic.capabilities == {"score"} and "piqe" in metric.critic.version
    with pytest.raises(CriticError, match="only scores"):
        metric.critic.perceive([tensor])
    assert {"pyiqa:piqe", "pyiqa:niqe"} < set(list_metrics(pyiqa=True))
    assert not {"pyiqa:ssim", "pyiqa:fid", "pyiqa:inception_score"} & set(list_metrics(pyiqa=True))


@pytest.mark.parametrize(
    ("name", "options", "error", "match"),
    [
        ("ssim", {}, UsageError, "reference"),
        ("fid", {}, UsageError, "folders"),
        ("nonsense", {}, UsageError, "no metric 'nonsense'"),
        ("piqe", {"as_loss": True}, UsageError, "zero everywhere"),
        ("entropy", {"as_loss": True}, UsageError, "zero everywhere"),
        ("piqe", {"samples": 2}, UsageError, "samples"),
    ],
)
def test_what_cannot_be_a_critic_is_refused(
    name: str, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    pytest.importorskip("pyiqa", reason="the extra pyiqa is not installed")
    with pytest.raises(error, match=match):
        create_metric(f"pyiqa:{name}", device="cpu", **options)


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    pyiqa = pytest.importorskip("pyiqa", reason="the extra pyiqa is not installed")

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(pyiqa, "create_metric", offline)
    with pytest.raises(PrerequisiteError, match=r"niqe .*no network.*pyiqa\.create_metric"):
        create_metric("pyiqa:niqe")


def test_without_pyiqa_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "pyiqa"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(PrerequisiteError, match=r"iqloop\[pyiqa\].*PolyForm Noncommercial"):
        create_metric("pyiqa:piqe")


def test_a_differentiable_metric_of_pyiqa_is_a_loss(tensor: Tensor) -> None:
    """None of pyiqa's differentiable ones needs no download: its own interface stands in, with a network of ours."""
    pytest.importorskip("pyiqa", reason="the extra pyiqa is not installed")
    from pyiqa.default_model_configs import DEFAULT_CONFIGS
    from pyiqa.utils.registry import ARCH_REGISTRY

    class Sharpness(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x.sub_(0.5)  # as some of pyiqa's do
            noise = torch.rand(1) + float(np.random.random())
            return x.diff(dim=-1).square().mean((1, 2, 3)) + 0 * noise if x.mean() < 9 else noise

    ARCH_REGISTRY.register(Sharpness, name="IqloopTestSharpness", override=True)
    entry = {"metric_opts": {"type": "IqloopTestSharpness"}, "metric_mode": "NR", "score_range": "0, 1"}
    DEFAULT_CONFIGS["sharpness"] = entry
    try:
        loss = create_metric("pyiqa:sharpness", as_loss=True, device="cpu")
        state = torch.random.get_rng_state()
        x = tensor.clone().requires_grad_(True)
        loss(x).backward()
        assert torch.equal(state, torch.random.get_rng_state())
        assert x.grad is not None and bool(x.grad.any()) and torch.equal(x.detach(), tensor)
    finally:
        del DEFAULT_CONFIGS["sharpness"]
