"""How fast a critic is in each mode, beside the loop that the published demos run: ``iqloop bench critic``.

The plain loop is one image, one ``generate`` of the stock model, text before image, sampled (temperature 1, top-k 50,
top-p 0.95), as Q-Insight's demos do. Modes are measured in turn, round after round, so that whatever else the machine
does falls on all of them; ratios are taken within a round. Peak memory comes from a process of its own per mode.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iqloop.errors import CriticError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from iqloop.critic.engine import QwenCritic
    from iqloop.recipes.options import CriticChoice

PLAIN = "plain loop"
BASELINE = "expected, batched"
"""What the cost of several questions is held against."""


@dataclass(frozen=True)
class Row:
    """One mode."""

    mode: str
    seconds: float
    """Per image; median of the rounds."""
    fastest: float
    slowest: float
    against_plain: float
    """How many times as fast as the plain loop; median of the rounds' ratios."""
    against_expected: float
    """Its cost as a multiple of `BASELINE`'s."""
    peak_mb: float | None = None
    """Peak memory of a process that does nothing else; None when it was not measured."""
    peak_mb_fourfold: float | None = None
    """The same with four times the images."""


def modes(critic: QwenCritic, only: Sequence[str] | None = None) -> dict[str, Callable[[Sequence[Tensor]], object]]:
    """What is measured, by name (``only`` some); each takes images ``(3, H, W)`` in [0, 1]."""
    reason, both = replace(critic, decoding="reason"), replace(critic, decoding="reason+expected")
    drawn = replace(critic, decoding="reason", samples=4)

    def read_out(images: Sequence[Tensor]) -> object:
        return critic.ask(images, ["score", "perceive"], written=False)

    def three(images: Sequence[Tensor]) -> object:
        return critic.ask(images, ["score", "perceive", "describe"], written=False)

    def one_by_one(ask: Callable[[Sequence[Tensor]], object]) -> Callable[[Sequence[Tensor]], object]:
        return lambda images: [ask([image]) for image in images]

    found: dict[str, Callable[[Sequence[Tensor]], object]] = {
        "expected, one by one": one_by_one(critic.score),
        BASELINE: critic.score,
        "reason, one by one": one_by_one(reason.score),
        "reason, batched": reason.score,
        "reason, 4 samples, batched": drawn.score,
        "reason+expected, batched": both.score,
    }
    if "perceive" in critic.capabilities:
        found["degradation written, batched"] = critic.perceive
        found["score and degradation read out, batched"] = read_out
        if "describe" in critic.capabilities:
            found["three questions, one by one"] = one_by_one(three)
            found["three questions, batched"] = three
    if only is None or PLAIN in only:
        found = {PLAIN: plain_loop(critic), **found}
    return {name: ask for name, ask in found.items() if only is None or name in only}


def plain_loop(critic: QwenCritic) -> Callable[[Sequence[Tensor]], list[str]]:
    """The published demos' loop over the same weights: stock model, one ``generate`` per image."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from iqloop.critic.checkpoint import locate

    checkpoint = critic.checkpoint
    folder = locate(checkpoint.source)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=checkpoint.model.dtype).eval()
    model.to(checkpoint.device)
    processor = AutoProcessor.from_pretrained(folder)
    prompt = checkpoint.source.prompts["score"]
    text = processor.apply_chat_template(prompt.messages(text_first=True), add_generation_prompt=True, tokenize=False)

    def run(images: Sequence[Tensor]) -> list[str]:
        texts = []
        for image in images:
            picture = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).cpu().numpy())
            inputs = processor(text=[text], images=[picture], return_tensors="pt").to(model.device, model.dtype)
            with torch.no_grad():
                out = model.generate(
                    **inputs,
                    do_sample=True,
                    temperature=1.0,
                    top_k=50,
                    top_p=0.95,
                    max_new_tokens=checkpoint.source.max_new_tokens,
                )
            new = out[:, inputs["input_ids"].shape[1] :]
            texts.append(str(processor.batch_decode(new, skip_special_tokens=True)[0]))
        return texts

    return run


def measure(critic: QwenCritic, images: Sequence[Tensor], repeats: int, tell: Callable[[str], None]) -> list[Row]:
    """Seconds per image of every mode, ``repeats`` rounds."""
    import torch

    asked = modes(critic)
    for name, ask in asked.items():
        ask(images[:1])  # the first call pays for lazy set-up
        tell(f"ready: {name}")
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    for round_number in range(repeats):
        for name, ask in asked.items():
            torch.manual_seed(round_number)  # the plain loop draws from torch's own generator
            start = time.perf_counter()
            ask(images)
            if critic.checkpoint.device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - start) / len(images))
        tell(f"round {round_number + 1} of {repeats}")
    rows = []
    for name, times in seconds.items():
        faster = statistics.median(plain / own for plain, own in zip(seconds[PLAIN], times, strict=True))
        dearer = statistics.median(own / base for own, base in zip(times, seconds[BASELINE], strict=True))
        rows.append(Row(name, statistics.median(times), min(times), max(times), faster, dearer))
    return rows


def with_memory(
    rows: Sequence[Row], choice: CriticChoice, side: int, count: int, tell: Callable[[str], None]
) -> list[Row]:
    """The rows with the peak memory of each mode on ``count`` images and on four times as many."""
    found = []
    for row in rows:
        peaks = [peak_memory(choice, row.mode, side, images) for images in (count, 4 * count)]
        found.append(replace(row, peak_mb=peaks[0], peak_mb_fourfold=peaks[1]))
        tell(f"memory of {row.mode}")
    return found


def peak_memory(choice: CriticChoice, mode: str, side: int, count: int) -> float:
    """Peak memory in MB of a fresh process that asks in one mode: resident set on a CPU, allocated on a GPU."""
    task = json.dumps({"choice": asdict(choice), "mode": mode, "side": side, "count": count})
    # The interpreter's own module by its own name: nothing of the user's goes through a shell.
    done = subprocess.run(
        [sys.executable, "-m", "iqloop.recipes.bench.critic"], input=task, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CriticError(f"memory of {mode!r} could not be measured: {done.stderr.strip().splitlines()[-1:]}")
    return float(json.loads(done.stdout)["peak_mb"])


def test_images(side: int, count: int) -> list[Tensor]:
    """``count`` images ``(3, side, side)`` from scikit-image's photographs, resized to cover the square."""
    import cv2
    import torch
    from skimage import data

    squares = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        photo = np.asarray(getattr(data, name)())
        scale = side / min(photo.shape[:2])
        size = (max(side, round(photo.shape[1] * scale)), max(side, round(photo.shape[0] * scale)))
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        top, left = ((edge - side) // 2 for edge in photo.shape[:2])
        square = np.ascontiguousarray(photo[top : top + side, left : left + side])
        squares.append(torch.from_numpy(square).permute(2, 0, 1).float() / 255)
    return [squares[i % len(squares)] for i in range(count)]


def load(choice: CriticChoice) -> QwenCritic:
    """The critic to measure; raises `UsageError` for one that is no checkpoint."""
    from iqloop.critic.engine import QwenCritic
    from iqloop.recipes.loading import load_critic

    critic = load_critic(choice)
    if not isinstance(critic, QwenCritic):
        raise UsageError(f"bench critic measures checkpoints, got the critic {choice.name}: name a checkpoint")
    return critic


def machine(packages: Sequence[str] = ("torch", "transformers")) -> str:
    """Processor, cores, device and versions in one line."""
    import os
    import platform
    from importlib.metadata import version

    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = "/proc/cpuinfo"
    if os.path.exists(cpuinfo):
        with open(cpuinfo) as handle:
            names = [line.partition(":")[2].strip() for line in handle if line.startswith("model name")]
        name = names[0] if names else name
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{name}, {threads}{device}; {', '.join(f'{package} {version(package)}' for package in packages)}"


def markdown(rows: Sequence[Row]) -> str:
    """The table of the results."""
    lines = [
        "| mode | ms per image (fastest to slowest) | times the plain loop's speed | cost, expected = 1 "
        "| peak MB | with four times the images |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        span = f"{row.fastest * 1000:.0f} to {row.slowest * 1000:.0f}"
        peaks = ["" if peak is None else f"{peak:.0f}" for peak in (row.peak_mb, row.peak_mb_fourfold)]
        lines.append(
            f"| {row.mode} | {row.seconds * 1000:.0f} ({span}) | {row.against_plain:.2f} | {row.against_expected:.2f} "
            f"| {peaks[0]} | {peaks[1]} |"
        )
    return "\n".join(lines)


def _measure_own_peak() -> None:
    """The child's work: a task on standard input, its peak on standard output."""
    import torch

    from iqloop.recipes.options import CriticChoice

    task = json.load(sys.stdin)
    choice = CriticChoice(**{**task["choice"], "more": tuple(task["choice"]["more"])})
    critic = load(choice)
    ask = modes(critic, [task["mode"]])[task["mode"]]
    ask(test_images(task["side"], task["count"]))
    on_gpu = critic.checkpoint.device.type == "cuda"
    sys.stdout.write(json.dumps({"peak_mb": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_resident()}))


def peak_resident() -> float:
    """Peak resident set of this process in MB."""
    import resource

    # Linux counts in getrusage what the parent held when it forked; the status file counts this program alone.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kibibytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    _measure_own_peak()
