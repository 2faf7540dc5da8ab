"""Model files: tiny random networks there and back, and every kind of file that must be refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from iqloop.errors import ToolError, UsageError
from iqloop.restorers import Registry, load_tool
from iqloop.restorers.tiling import tile_for

safetensors = pytest.importorskip("safetensors.torch")
pytest.importorskip("spandrel")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def compact(scale: int = 2, channels: int = 3) -> dict[str, Tensor]:
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    net = SRVGGNetCompact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale)
    return dict(net.state_dict())


def nafnet() -> dict[str, Tensor]:
    from spandrel.architectures.NAFNet import NAFNet

    net = NAFNet(img_channel=3, width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])
    return dict(net.state_dict())


def dncnn(channels: int = 3, width: int = 8, layers: int = 9) -> dict[str, Tensor]:
    sizes = [channels] + [width] * (layers - 1) + [channels]
    state = {}
    for i in range(layers):
        conv = nn.Conv2d(sizes[i], sizes[i + 1], 3, padding=1)
        state[f"model.{2 * i}.weight"], state[f"model.{2 * i}.bias"] = conv.weight.data, conv.bias.data  # type: ignore[union-attr]
    return state


def scunet_like() -> dict[str, Tensor]:
    from spandrel.architectures.SCUNet import SCUNet

    return dict(SCUNet(in_nc=3, config=[1] * 7, dim=16).state_dict())


def save(path: Path, state: dict[str, Tensor], wrapper: str | None = None) -> Path:
    if path.suffix == ".safetensors":
        safetensors.save_file({k: v.contiguous() for k, v in state.items()}, str(path))
    else:
        torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    return path


IMAGE = torch.rand(1, 3, 21, 34, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["safetensors", "pth", "ckpt"])
@pytest.mark.parametrize(
    ("make", "architecture", "scale", "treats"),
    [
        (compact, "RealESRGAN Compact", 2, ("low-resolution",)),
        (nafnet, "NAFNet", 1, ("noise", "blur", "compression")),
        (dncnn, "DnCNN", 1, ("noise",)),
    ],
)
def test_round_trip(
    tmp_path: Path,
    kind: str,
    make: Callable[[], dict[str, Tensor]],
    architecture: str,
    scale: int,
    treats: tuple[str, ...],
) -> None:
    tool = load_tool(save(tmp_path / f"net.{kind}", make()))
    assert tool.info.name == "net" and tool.info.scale == scale and tool.info.treats == treats
    assert architecture in tool.info.summary
    assert tool.info.weights_licence == "unknown" and len(tool.info.version) == 16
    kept = IMAGE.clone()
    result = tool.restore(IMAGE)
    assert result.shape == (1, 3, 21 * scale, 34 * scale) and result.dtype == torch.float32
    assert float(result.min()) >= 0 and float(result.max()) <= 1
    assert torch.equal(result, tool.restore(IMAGE, seed=9)) and torch.equal(IMAGE, kept)
    assert not result.is_inference()


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "state_dict"])
def test_unwraps(tmp_path: Path, wrapper: str) -> None:
    state = {f"module.{k}": v for k, v in compact().items()}
    wrapped = load_tool(save(tmp_path / "w.pth", state, wrapper)).restore(IMAGE)
    torch.manual_seed(0)
    assert torch.equal(wrapped, load_tool(save(tmp_path / "n.safetensors", compact())).restore(IMAGE))


def test_prefers_the_averaged_weights(tmp_path: Path) -> None:
    first, second = compact(), compact()
    torch.save({"params": first, "params_ema": second}, tmp_path / "both.pth")
    expected = load_tool(save(tmp_path / "ema.pth", second)).restore(IMAGE)
    assert torch.equal(load_tool(tmp_path / "both.pth").restore(IMAGE), expected)


def test_version_follows_the_file(tmp_path: Path) -> None:
    a, b = save(tmp_path / "a.pth", compact()), save(tmp_path / "b.pth", compact())
    assert load_tool(a).info.version == load_tool(a).info.version != load_tool(b).info.version


def test_one_channel_runs_per_channel(tmp_path: Path) -> None:
    tool = load_tool(save(tmp_path / "grey.safetensors", dncnn(channels=1)))
    swapped = tool.restore(IMAGE.flip(1)).flip(1)
    torch.testing.assert_close(tool.restore(IMAGE), swapped)


def test_tiles_equal_the_whole(tmp_path: Path) -> None:
    path = save(tmp_path / "net.safetensors", compact())
    image = torch.rand(1, 3, 90, 120)
    whole, parts = load_tool(path, tile=None).restore(image), load_tool(path, tile=64).restore(image)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


def test_halves_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, said = load_tool(save(tmp_path / "net.safetensors", compact()), tile=None), list[str]()
    whole = tool.restore(torch.ones(1, 3, 80, 80) * 0.5)
    call = tool._call

    def greedy(part: Tensor) -> Tensor:
        if part.shape[-1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return call(part)

    monkeypatch.setattr(tool, "_call", greedy)
    tool.on_halving = said.append
    torch.testing.assert_close(tool.restore(torch.ones(1, 3, 80, 80) * 0.5), whole, rtol=0, atol=1e-5)
    assert len(said) == 1


def test_models_that_need_the_whole_get_it(tmp_path: Path) -> None:
    big = torch.empty(1, 3, 1, 1).expand(1, 3, 1100, 1100)
    device = torch.device("cpu")
    tool = load_tool(save(tmp_path / "net.safetensors", scunet_like()))
    assert tool.info.treats == ("noise",)
    tool.descriptor.tiling = type(tool.descriptor.tiling).INTERNAL
    assert tile_for(tool.descriptor, "auto", device, big) is None
    assert tile_for(tool.descriptor, 128, device, big) == 128
    tool.descriptor.tiling = type(tool.descriptor.tiling).SUPPORTED
    assert (tile_for(tool.descriptor, "auto", device, big) or 0) <= 1024


def test_memory_decides_for_models_that_dislike_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from iqloop.restorers import tiling

    tool = load_tool(save(tmp_path / "net.safetensors", scunet_like()))
    image = torch.rand(1, 3, 200, 200)
    monkeypatch.setattr(tiling, "available_memory", lambda device: 1e12)
    assert tile_for(tool.descriptor, "auto", torch.device("cpu"), image) is None
    monkeypatch.setattr(tiling, "available_memory", lambda device: 1e7)
    assert tile_for(tool.descriptor, "auto", torch.device("cpu"), image) == 64


def test_small_images_fit_any_model(tmp_path: Path) -> None:
    tool = load_tool(save(tmp_path / "net.safetensors", nafnet()))
    for size in [(1, 1), (3, 50), (8, 8)]:
        assert tool.restore(torch.rand(1, 3, *size)).shape[-2:] == size


def test_says_what_it_treats(tmp_path: Path) -> None:
    path = save(tmp_path / "net.safetensors", nafnet())
    assert load_tool(path, name="deblur", treats=["blur"]).info.treats == ("blur",)
    with pytest.raises(UsageError, match="treats must name some of"):
        load_tool(path, treats=["fog"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="tile must be"):
        load_tool(path, tile=0)


def test_registry_adds_files(tmp_path: Path) -> None:
    path = save(tmp_path / "net.safetensors", nafnet())
    registry = Registry()
    assert registry.add_file(f"mine:blur={path}").treats == ("blur",)
    assert registry.add_file(str(path)).name == "net"
    assert registry.get("mine").restore(IMAGE).shape == IMAGE.shape
    assert [i.info.name for i in registry.tools_for("blur")] == ["mine", "net"]


def refused(path: Path) -> str:
    with pytest.raises(ToolError) as caught:
        load_tool(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


def test_refuses_ffdnet(tmp_path: Path) -> None:
    # FFDNet works on an image folded to 12 channels, with a noise map: spandrel takes it for a DnCNN.
    message = refused(save(tmp_path / "ffdnet.pth", dncnn(channels=12)))
    assert "detected as DnCNN with 12 channels in, 12 out; expected 3 and 3, or 1 and 1" in message


def test_refuses_inpainting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spandrel import MaskedImageModelDescriptor

    from iqloop.restorers import spandrel_tool

    class Masked(MaskedImageModelDescriptor):  # type: ignore[misc]  # spandrel's is untyped
        def __init__(self) -> None:
            self._architecture = type("A", (), {"name": "LaMa"})()

    monkeypatch.setattr(spandrel_tool, "_recognise", lambda state, path: Masked())
    assert "LaMa, an inpainting model that needs a mask" in refused(save(tmp_path / "lama.pth", {"a": torch.ones(1)}))


def test_refuses_a_language_model(tmp_path: Path) -> None:
    state = {f"model.layers.0.self_attn.{k}_proj.weight": torch.rand(8, 8) for k in "qkvo"}
    message = refused(save(tmp_path / "llm.safetensors", state))
    assert "not an image model that spandrel knows (4 tensors: model.layers.0.self_attn" in message


def test_refuses_a_broken_image_model(tmp_path: Path) -> None:
    state = compact()
    state["body.2.weight"] = torch.rand(3, 3)
    assert "broken.pth" in refused(save(tmp_path / "broken.pth", state))


class Malicious:
    """Would leave a mark if the unpickler called it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("plain", [True, False])
def test_executes_nothing(tmp_path: Path, plain: bool) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "mark"
    if plain:
        path.write_bytes(pickle.dumps({"a": Malicious(mark)}))
    else:
        torch.save({"a": Malicious(mark)}, path)
    assert "refused, it is damaged or holds more than tensors" in refused(path)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_refuses_truncated_files(tmp_path: Path, kind: str, share: float) -> None:
    path = save(tmp_path / f"cut.{kind}", compact())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "damaged" in refused(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("net.pt", "TorchScript"), ("net.onnx", "expected .safetensors"), ("net", "no extension")],
)
def test_refuses_other_kinds(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    assert reason in refused(tmp_path / name)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2]])
def test_refuses_files_without_tensors(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert "tensors" in refused(tmp_path / "x.pth")


def test_refuses_values_that_are_not_numbers(tmp_path: Path) -> None:
    state = {k: torch.full_like(v, float("nan")) for k, v in compact().items()}
    with pytest.raises(ToolError, match="not numbers"):
        load_tool(save(tmp_path / "nan.safetensors", state)).restore(IMAGE)


def test_refuses_an_absent_device(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ToolError, match="cannot be put on cuda"):
        load_tool(save(tmp_path / "net.safetensors", compact()), device="cuda")


def test_refuses_other_shapes(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="expects one RGB image"):
        load_tool(save(tmp_path / "net.safetensors", compact())).restore(torch.rand(3, 8, 8))


def test_weights_that_give_no_numbers_are_said(tmp_path: Path) -> None:
    state = compact()
    next(iter(state.values())).fill_(float("nan"))
    with pytest.raises(ToolError, match="net gave values that are not numbers"):
        load_tool(save(tmp_path / "net.safetensors", state)).restore(IMAGE)
