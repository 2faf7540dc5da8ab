"""The critics that have a name, and how a name or a folder becomes a critic.

A name is looked up in this order: `KNOWN`; ``pyiqa:NAME``, a no-reference metric of pyiqa; the address of a model on a
server, ``http://HOST:PORT/v1#MODEL``; the plug-ins of `iqloop.critic.plugins`; a folder with a checkpoint or a LoRA
adapter. ``./NAME`` is a folder whatever its name.
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iqloop.critic.checkpoint import Attention, CheckpointSource, Quantization
from iqloop.critic.engine import QwenCritic
from iqloop.critic.locate import locate, read_json
from iqloop.critic.mini import TIE_BAND
from iqloop.critic.natural_scene_net import MODEL_TYPE
from iqloop.critic.plugins import Plugin, plugins
from iqloop.critic.prompts import Q_INSIGHT, VISUALQUALITY_R1, VISUALQUALITY_R1_DIRECT
from iqloop.critic.protocol import Critic
from iqloop.critic.remote.address import is_address
from iqloop.critic.verdicts import DecodingMode
from iqloop.errors import CriticError, UsageError

MINI_FOLDER = Path(__file__).resolve().parent.parent / "weights" / "qinsight-mini"
"""The embedded critic's checkpoint, inside the package."""

NSS_FOLDER = MINI_FOLDER.with_name("nss-mini")
"""The weights of the embedded critic by natural scene statistics, inside the package."""

DEFAULT = "qinsight-mini"

PYIQA = "pyiqa:"
"""What the names of pyiqa's metrics begin with here."""


@dataclass(frozen=True)
class KnownCritic:
    """What is known of a critic before it is loaded."""

    source: CheckpointSource
    summary: str
    """One line for ``iqloop metrics``."""
    score_range: tuple[float, float] = (1.0, 5.0)
    lower_better: bool = False
    comparison: CheckpointSource | None = None
    """The checkpoint that compares two images given a reference, where that is another one; loaded when first asked."""


KNOWN: dict[str, KnownCritic] = {
    "qinsight-mini": KnownCritic(
        CheckpointSource(
            "qinsight-mini", str(MINI_FOLDER), max_new_tokens=160, licence="Apache-2.0", tie_band=TIE_BAND
        ),
        "embedded; trained here on synthetic degradations, reads an image's own pixels",
    ),
    "nss-mini": KnownCritic(
        CheckpointSource("nss-mini", str(NSS_FOLDER), tasks=("score",), licence="Apache-2.0", model_type=MODEL_TYPE),
        "embedded; natural scene statistics and a small net, trained here: a second opinion that only scores",
    ),
    "qinsight": KnownCritic(
        CheckpointSource(
            "qinsight",
            "ByteDance/Q-Insight",
            "score_degradation",
            # Comparing without a reference is what the paper does zero-shot with this checkpoint.
            ("score", "degradation", "compare"),
            Q_INSIGHT,
            licence="Apache-2.0",
        ),
        "Q-Insight 7B (Li et al. 2025): scores, names degradations; compares, with a reference by a second 7B",
        comparison=CheckpointSource(
            "qinsight/comparison",
            "ByteDance/Q-Insight",
            "comparison",
            ("compare-reference",),
            Q_INSIGHT,
            licence="Apache-2.0",
        ),
    ),
    "visualquality-r1": KnownCritic(
        CheckpointSource(
            "visualquality-r1",
            "TianheWu/VisualQuality-R1-7B",
            "",
            ("score", "describe"),
            VISUALQUALITY_R1,
            2048,
            licence="Apache-2.0",
        ),
        "VisualQuality-R1 7B (Wu et al. 2025): scores and describes, trained by reinforcement learning to rank",
    ),
}


def create_critic(
    name: str | Path = DEFAULT,
    *,
    device: str | None = None,
    dtype: str | None = None,
    decoding: DecodingMode = "expected",
    samples: int = 1,
    temperature: float = 1.0,
    batch_size: int = 8,
    seed: int = 0,
    text_first: bool = False,
    thinking: bool = True,
    max_new_tokens: int | None = None,
    attention: Attention = "sdpa",
    device_map: str | None = None,
    quantization: Quantization | None = None,
    base: str | None = None,
    subfolder: str | None = None,
    revision: str | None = None,
    structured: bool = False,
    concurrency: int = 8,
    timeout: float = 120.0,
    retries: int = 4,
    comparison: str | None = None,
) -> Critic:
    """A critic by name, folder or address. Published checkpoints, own ones and adapters are a `QwenCritic`.

    Natural scene statistics and a metric of pyiqa take ``device``, and a plug-in what it takes; all may ignore
    ``batch_size`` and ``seed``, and a model on a server ``device``.

    Args:
        name: one of `KNOWN`; ``pyiqa:NAME``; ``http://HOST:PORT/v1#MODEL``, a model on an OpenAI-compatible server
            (without ``#MODEL`` the only one that it has), which needs the extra ``serve``; a plug-in's critic; a folder
            with a Qwen2.5-VL checkpoint, with a LoRA adapter of one, or with weights of `iqloop train nss`.
        device: torch device; None takes a GPU when there is one.
        dtype: float32, bfloat16 or float16; None is float32 on a CPU and bfloat16 on a GPU.
        decoding: how scores are read out; see `iqloop.critic.engine`.
        samples: written answers per image, more than 1 only where answers are written.
        temperature: of more than one written answer.
        batch_size: views per forward.
        seed: for sampled answers, and for retries of answers that do not parse.
        text_first: the question before the image, as in Q-Insight's demos; it was trained the other way round.
        thinking: False asks VisualQuality-R1 for its answer alone, a prompt it was published with but not trained on.
        max_new_tokens: bound on an answer's length; None is the checkpoint's own.
        attention, device_map, quantization: how the weights are loaded; see `iqloop.critic.checkpoint.load`.
        base: for an adapter: the critic or folder it goes over; None is what its ``adapter_config.json`` says. For a
            model on a server: the critic or folder whose prompts, tasks and views it has; None goes by its name.
        subfolder: for a folder: the checkpoint's place in it.
        revision: for a published checkpoint: commit, branch or tag.
        structured: on a server that can (vLLM), hold every written answer to its form, not only those that are asked
            for again.
        concurrency: on a server: requests at a time.
        timeout: on a server: seconds that one request may take.
        retries: on a server: tries after the first, where another try may help.
        comparison: for a model on a server: the address of a second one, which is asked whatever compares given a
            reference, as Q-Insight's second checkpoint is.

    Raises:
        UsageError: there is no such critic, or it knows no such option; names the option.
        PrerequisiteError: weights or a package are not on this machine; says how to get them.
        CriticError: the checkpoint or the plug-in is not usable.
    """
    values = dict(locals())
    given = {key: value for key, value in values.items() if key in OPTIONS and value != OPTIONS[key]}
    name = str(name)
    if name.startswith(PYIQA):
        return _create_pyiqa(name, given)
    if is_address(name):
        return _create_remote(name, given)
    plugin = None if name in KNOWN else plugin_critics().get(name)
    if plugin is not None:
        return plugin.create(given)
    folder = _statistics(name)
    if folder is not None:
        return _create_statistics(name, folder, given)
    _refuse_options(f"{name} is not on a server", set(given) & _SERVER_OPTIONS)
    source = source_of(name, base=base, subfolder=subfolder, revision=revision)
    second = KNOWN[name].comparison if name in KNOWN else None
    if second is not None:
        second = replace(second, revision=revision)
    if not thinking:
        if source.prompts is not VISUALQUALITY_R1:
            raise UsageError(f"thinking=False is for visualquality-r1, got the critic {name}: leave it out")
        source = replace(source, prompts=VISUALQUALITY_R1_DIRECT)

    def create(part: CheckpointSource, second: CheckpointSource | None = None) -> QwenCritic:
        from iqloop.critic.checkpoint import load

        if max_new_tokens is not None:
            part = replace(part, max_new_tokens=max_new_tokens)
        how = {key: given[key] for key in ("attention", "device_map", "quantization") if key in given}
        return QwenCritic(
            load(part, device, dtype, **how),
            decoding=decoding,
            batch_size=batch_size,
            seed=seed,
            text_first=text_first,
            samples=samples,
            temperature=temperature,
            comparison=None if second is None else lambda: create(second),
        )

    return create(source, second)


OPTIONS: Mapping[str, Any] = {
    parameter.name: parameter.default
    for parameter in inspect.signature(create_critic).parameters.values()
    if parameter.kind is parameter.KEYWORD_ONLY
}
"""The options of `create_critic` and their defaults."""

_SERVER_OPTIONS = frozenset({"structured", "concurrency", "timeout", "retries", "comparison"})
_PLACE_OPTIONS = frozenset({"dtype", "attention", "device_map", "quantization", "subfolder", "revision"})


def plugin_critics() -> dict[str, Plugin]:
    """The critics of installed plug-ins by name; none is loaded, none has a name of `KNOWN`."""
    return plugins(taken=KNOWN)


def source_of(
    name: str, *, base: str | None = None, subfolder: str | None = None, revision: str | None = None
) -> CheckpointSource:
    """The checkpoint that a name of `KNOWN` or a folder stands for; options as for `create_critic`.

    Raises `UsageError` when it is neither, when a folder has its checkpoints in subfolders and none is named, when it
    holds natural scene statistics, and when an option does not fit.
    """
    if _statistics(name) is not None:
        raise UsageError(f"{name} has no language model, it scores by natural scene statistics: take another critic")
    if name in KNOWN:
        _refuse(name, "one of iqloop's own names", base=base, subfolder=subfolder)
        return _revised(KNOWN[name].source, revision)
    root = Path(name).expanduser()
    if not root.is_dir():
        names = [*KNOWN, *plugin_critics()]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(
            f"unknown critic {name!r}: expected one of {', '.join(names)}, {PYIQA}NAME, a checkpoint folder, or a "
            f"server's http://HOST:PORT/v1#MODEL{hint}"
        )
    folder = root / (subfolder or "")
    if not _has_checkpoint(folder):
        inside = sorted(child.name for child in root.iterdir() if child.is_dir() and _has_checkpoint(child))
        if inside:
            raise UsageError(f"{folder} holds no checkpoint, but {root} has {', '.join(inside)}: give one as subfolder")
    label = root.resolve().name + (f"/{subfolder}" if subfolder else "")
    if _is_adapter(folder):
        return _revised(_over_base(folder, label, base), revision)
    _refuse(name, "a folder that is no adapter", base=base)
    return _revised(CheckpointSource(label, str(root), subfolder or ""), revision)


def _over_base(folder: Path, name: str, base: str | None) -> CheckpointSource:
    """An adapter's base with the adapter over it; a published base is asked with its own prompts."""
    file = folder / "adapter_config.json"
    asked = base
    if asked is None:
        try:
            asked = json.loads(file.read_text()).get("base_model_name_or_path")
        except (OSError, ValueError, AttributeError) as error:
            raise CriticError(f"{file}: not a readable configuration of an adapter ({error})") from error
        if not asked:
            raise UsageError(f"{file} does not say what the adapter goes over: give base, a critic's name or a folder")
    source = _base_source(str(asked))
    if source is None:
        raise UsageError(
            f"{folder} is an adapter over {str(asked)!r}, which is neither a critic's name nor a folder of this "
            "machine: give base"
        )
    if source.adapter is not None:
        raise UsageError(
            f"the base {str(asked)!r} of {folder} is itself an adapter: merge it into its checkpoint first"
        )
    return replace(source, name=name, adapter=str(folder), licence="unknown")


def _base_source(base: str) -> CheckpointSource | None:
    published = next((known.source for known in KNOWN.values() if known.source.location == base), None)
    if published is not None:
        return published
    if base in KNOWN or Path(base).expanduser().is_dir():
        return source_of(base)
    is_hub_id = base.count("/") == 1 and not base.startswith((".", "/", "~"))
    return CheckpointSource(base, base) if is_hub_id else None


def _revised(source: CheckpointSource, revision: str | None) -> CheckpointSource:
    if revision is None:
        return source
    if Path(source.location).is_dir():
        raise UsageError(f"revision is for checkpoints of a hub, and {source.name} is a folder: leave it out")
    return replace(source, revision=revision)


def _refuse(name: str, what: str, **options: str | None) -> None:
    wrong = [option for option, value in options.items() if value is not None]
    if wrong:
        raise UsageError(f"{' and '.join(wrong)} cannot be given for {name}, {what}: leave it out")


def _has_checkpoint(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()


def _is_adapter(folder: Path) -> bool:
    """Whole weights beside an adapter's configuration are what is left of a merge: then the folder is no adapter."""
    if not (folder / "adapter_config.json").is_file():
        return False
    return not (folder / "config.json").is_file() or not any(folder.glob("model*.safetensors"))


def _statistics(name: str) -> Path | None:
    """The folder of a critic by natural scene statistics; None for all others."""
    if name in KNOWN:
        source = KNOWN[name].source
        return Path(locate(source)) if source.model_type == MODEL_TYPE else None
    file = Path(name).expanduser() / "config.json"
    return file.parent if file.is_file() and read_json(file).get("model_type") == MODEL_TYPE else None


def _create_statistics(name: str, folder: Path, given: Mapping[str, Any]) -> Critic:
    from iqloop.critic.nss_critic import NaturalSceneCritic

    _refuse_options(f"{name} scores by natural scene statistics", set(given) - {"device", "seed", "batch_size"})
    return NaturalSceneCritic(name if name in KNOWN else folder.resolve().name, folder, device=given.get("device"))


def _create_pyiqa(name: str, given: Mapping[str, Any]) -> Critic:
    from iqloop.critic.pyiqa_critic import PyiqaCritic

    _refuse_options(f"{name} is a metric of pyiqa", set(given) - {"device", "seed", "batch_size"})
    return PyiqaCritic(name.removeprefix(PYIQA), device=given.get("device"), seed=given.get("seed", OPTIONS["seed"]))


def _create_remote(name: str, given: Mapping[str, Any]) -> Critic:
    from iqloop.critic.remote.create import create_remote

    _refuse_options(f"{name} is on a server, where it was loaded,", set(given) & _PLACE_OPTIONS)
    elsewhere = {"device", "batch_size"}  # of the tools and the metric around it, not of the server's
    return create_remote(name, **{option: value for option, value in given.items() if option not in elsewhere})


def _refuse_options(what: str, unknown: set[str]) -> None:
    if unknown:
        raise UsageError(f"{what} and takes no option {', '.join(sorted(unknown))}: leave it out")
