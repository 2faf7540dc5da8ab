"""The small architectures that are trained here: spandrel's own classes, so that its loader knows the weights again.

`nafnet`   NAFNet (Chen et al., "Simple Baselines for Image Restoration", 2022): a U-net of gated blocks. **Each block
           pools over the whole image** (simplified channel attention), so an image in tiles, or an image much larger
           than the training patches, gets other statistics and another result; spandrel says that tiling is supported.
`compact`  SRVGGNetCompact (Wang et al., "Real-ESRGAN", 2021): plain 3 x 3 convolutions with PReLU at input size, added
           to the input, enlarged by the nearest pixel. No pooling: tiles with enough overlap change nothing.
`span`     SPAN (Wan et al., "Swift Parameter-free Attention Network", 2023): six blocks with attention of their own
           features, pixel by pixel; no pooling. Each convolution is trained as a sum of longer chains and folded into
           one for use. Its output is *not* added to the input: at scale 1 it has to learn the identity first.
`dncnn`    DnCNN (Zhang et al., 2017) without batch normalisation, of three channels: plain 3 x 3 convolutions with ReLU
           that predict the damage. No pooling. Scale 1 only.

spandrel reads the sizes off the state dict, which is all that a file needs to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iqloop.errors import UsageError
from iqloop.restorers.nafnet import Constant, blocks_of, quicken, without_pooling

Size = int | tuple[int, ...]
Sizes = Mapping[str, Size]


@dataclass(frozen=True)
class NetKind:
    """An architecture, and the sizes that it has unless told."""

    sizes: dict[str, Size]
    """Each size by name; only these can be changed."""
    rate: float
    """Peak learning rate that suits it."""
    scales: tuple[int, ...]
    pools: bool
    """True when every output pixel depends on the whole image: tiling changes the result."""
    build: Callable[[int, dict[str, Any]], nn.Module]
    """From scale and sizes to the net, its weights random."""


def build_net(name: str, scale: int = 1, sizes: Sizes | None = None, seed: int = 0) -> nn.Module:
    """A net with random weights, ``(B, 3, H, W)`` in [0, 1] to ``(B, 3, H * scale, W * scale)``, for training.

    The nets that add to their input begin as the identity (nearest-neighbour enlargement): the last layer is zero.

    Args:
        name: one of `NETS`.
        scale: 1, 2 or 4; not every net has every scale.
        sizes: those that differ from the net's own (`NetKind.sizes`).
        seed: the same seed gives the same weights; torch's own generator is left as it was.

    Raises:
        UsageError: unknown net or size, a size out of range, or a scale that the net does not have.
    """
    kind, said = kind_of(name), sizes_of(name, sizes)
    if scale not in kind.scales:
        able = [other for other, one in NETS.items() if scale in one.scales]
        raise UsageError(f"{name} has no scale {scale}: expected one of {', '.join(able) or 'none'}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.build(scale, said).train()


def kind_of(name: str) -> NetKind:
    """What is known of a net. Raises `UsageError`."""
    if name not in NETS:
        raise UsageError(f"unknown net {name!r}: expected one of {', '.join(NETS)}")
    return NETS[name]


def sizes_of(name: str, sizes: Sizes | None = None) -> dict[str, Any]:
    """All sizes of a net, the given ones in the place of its own. Raises `UsageError`."""
    said: dict[str, Any] = dict(kind_of(name).sizes)
    for key, value in (sizes or {}).items():
        if key not in said:
            raise UsageError(f"{name} has no size {key!r}: expected {', '.join(said)}")
        several = isinstance(said[key], tuple)
        if isinstance(value, tuple) and not several:
            raise UsageError(f"{key} of {name}: expected one number, got {value!r}")
        if min(value if isinstance(value, tuple) else (value,), default=0) < 1:
            raise UsageError(f"{key} of {name}: expected positive numbers, got {value!r}")
        said[key] = (value,) if several and isinstance(value, int) else value
    return said


def multiple_of(name: str, sizes: Sizes | None = None) -> int:
    """What the sides of a training patch must be a multiple of, so that nothing is padded."""
    said = sizes_of(name, sizes)
    return int(2 ** len(said["encoders"])) if "encoders" in said else 1


def load_weights(net: nn.Module, path: Path) -> None:
    """Put a model file's weights into a net.

    Raises:
        ToolError: the file is missing or cannot be read.
        UsageError: it holds another net, or one of other sizes.
    """
    from iqloop.restorers.spandrel_tool import read_state_dict

    given, own = read_state_dict(path), net.state_dict()
    other = sorted(set(own) ^ set(given))
    if other:
        raise UsageError(f"{path.name}: does not fit, another net or another size ({other[0]} is in one of them only)")
    for key, value in own.items():
        if value.shape != given[key].shape:
            got, expected = tuple(given[key].shape), tuple(value.shape)
            raise UsageError(f"{path.name}: does not fit, {key} is {got} there, expected {expected}")
    for name, module in net.named_modules():
        if isinstance(module, Constant) and given[f"{name}.weight"].any():
            raise UsageError(f"{path.name}: does not fit, it pools over the whole image: take the net nafnet for it")
    net.load_state_dict(given)


def fold(net: nn.Module) -> nn.Module:
    """Bring the folded convolutions of `span` up to date, in place; nothing to do for the others."""
    parts: Any = net.modules()
    for module in parts:
        if hasattr(module, "update_params"):
            module.update_params()
    return net


def _nafnet(scale: int, sizes: dict[str, Any]) -> nn.Module:
    from spandrel.architectures.NAFNet import NAFNet

    encoders, decoders = list(sizes["encoders"]), list(sizes["decoders"])
    if len(encoders) != len(decoders):
        raise UsageError(f"nafnet: expected as many decoders as encoders, got {len(decoders)} and {len(encoders)}")
    net: Any = NAFNet(
        img_channel=3,
        width=sizes["width"],
        middle_blk_num=sizes["middle"],
        enc_blk_nums=encoders,
        dec_blk_nums=decoders,
    )
    return _begin_as_identity(quicken(net), net.ending)


def _nafnet_local(scale: int, sizes: dict[str, Any]) -> nn.Module:
    net: Any = _nafnet(scale, sizes)
    for block in blocks_of(net):
        nn.init.ones_(block.sca[1].bias)
        without_pooling(block)
    made: nn.Module = net
    return made


def _compact(scale: int, sizes: dict[str, Any]) -> nn.Module:
    from spandrel.architectures.Compact import Compact

    net: Any = Compact(num_in_ch=3, num_out_ch=3, num_feat=sizes["width"], num_conv=sizes["convs"], upscale=scale)
    _kaiming(net, slope=0.25)
    return _begin_as_identity(net, net.body[-1])


def _span(scale: int, sizes: dict[str, Any]) -> nn.Module:
    from spandrel.architectures.SPAN import SPAN

    # Without the published normalisation to [-115, 140]: with it answers begin nine times the range of an image off,
    # and were still at 14 dB after 200 steps, at 21 dB without. The file says which by its tensor `no_norm`.
    net: Any = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=sizes["width"], upscale=scale, norm=False)
    for name, parameter in net.named_parameters():
        # What `fold` writes, and no gradient reaches.
        parameter.requires_grad_("eval_conv" not in name)
    module: nn.Module = fold(net)
    return module


def _dncnn(scale: int, sizes: dict[str, Any]) -> nn.Module:
    from spandrel.architectures.DnCNN import DnCNN

    if sizes["layers"] < 8:
        raise UsageError(
            f"dncnn: expected at least 8 layers, or spandrel does not know it again, got {sizes['layers']}"
        )
    net: Any = DnCNN(in_nc=3, out_nc=3, nc=sizes["width"], nb=sizes["layers"], act_mode="R")
    _kaiming(net, slope=0.0)
    return _begin_as_identity(net, net.model[-1])


def _kaiming(net: nn.Module, slope: float) -> None:
    """Weights that keep the signal's size (He et al., 2015): torch's default halves it at each of many layers."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _begin_as_identity(net: nn.Module, last: nn.Conv2d) -> nn.Module:
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return net


NETS: dict[str, NetKind] = {
    "nafnet": NetKind(
        {"width": 32, "encoders": (1, 1, 2), "middle": 2, "decoders": (1, 1, 1)}, 1e-3, (1,), True, _nafnet
    ),
    "nafnet-local": NetKind(
        {"width": 24, "encoders": (1, 1, 2), "middle": 2, "decoders": (1, 1, 1)}, 1e-3, (1,), False, _nafnet_local
    ),
    "compact": NetKind({"width": 32, "convs": 12}, 5e-4, (1, 2, 4), False, _compact),
    "span": NetKind({"width": 32}, 5e-4, (1, 2, 4), False, _span),
    "dncnn": NetKind({"width": 48, "layers": 17}, 5e-4, (1,), False, _dncnn),
}
"""Every net by its name."""
