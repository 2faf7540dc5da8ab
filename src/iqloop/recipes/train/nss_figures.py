"""What `iqloop train nss` measures of its weights: agreement with people, ladders, and whether upscalers fool them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iqloop.critic.protocol import Critic
    from iqloop.distort.image import Bytes

FOLDS = 5
SIDE = 512
"""Largest side in pixels of the middle of a photograph that is shrunk and enlarged."""
UPSCALERS = ("upscale-x2", "bicubic", "lanczos, oversharpened", "nearest", "bicubic, blurred")
"""Those whose order is compared with that of PSNR and GMSD."""


def agreement_of(opinions: Sequence[float], scores: Sequence[float]) -> dict[str, Any]:
    """SRCC of each fold, their mean and deviation; SRCC and PLCC of all scores at once."""
    import numpy as np

    from iqloop.critic.evaluation.correlation import pearson, spearman

    said, given = np.array(opinions), np.array(scores)
    folds = [spearman(given[i::FOLDS], said[i::FOLDS]) for i in range(FOLDS)]
    known = [fold for fold in folds if fold is not None]
    return {
        "folds": folds,
        "mean": fmean(known) if known else None,
        "spread": stdev(known) if len(known) > 1 else None,
        "srcc": spearman(given, said),
        "plcc": pearson(given, said),
    }


def ladders_of(critic: Critic, photographs: Sequence[Bytes]) -> dict[str, Any]:
    """Mean scores at severity 0 to 5, as `iqloop evaluate degradation` measures them, and whether they fall."""
    from iqloop.critic.evaluation import perception

    scores: dict[tuple[str, int], list[float]] = {}
    for rung in perception.rungs(photographs):
        scores.setdefault((rung.distortion_class, rung.severity), []).append(_score(critic, rung.image))
    ladders = perception.ladders(scores)
    return {"ladders": ladders, "ladders_fall": {kind: perception.falls(row) for kind, row in ladders.items()}}


def enlarging_of(critic: Critic, photographs: Sequence[Bytes]) -> dict[str, Any]:
    """Mean score, PSNR and GMSD of outputs of upscalers, good and bad, for photographs shrunk by 2.

    Beside them the mean rank correlation, over the photographs, of the scores of `UPSCALERS` with PSNR and with GMSD.
    """
    import numpy as np

    from iqloop.critic.evaluation.correlation import spearman
    from iqloop.restorers.full_reference import PERFECT, gmsd, psnr

    rows: dict[str, list[tuple[float, float, float]]] = {}
    agreement: dict[str, list[float]] = {"psnr": [], "gmsd": []}
    for number, photograph in enumerate(photographs):
        middle = _middle(photograph)
        outputs = enlarged(middle, number)
        found = {
            name: (_score(critic, image), min(psnr(image, middle), PERFECT), gmsd(image, middle))
            for name, image in outputs.items()
        }
        for name, row in found.items():
            rows.setdefault(name, []).append(row)
        score, decibels, distance = np.array([found[name] for name in UPSCALERS]).T
        for name, truth in (("psnr", decibels), ("gmsd", -distance)):
            value = spearman(score, truth)
            agreement[name] += [] if value is None else [value]
    columns = ("score", "psnr", "gmsd")
    return {
        "outputs": {name: dict(zip(columns, np.mean(row, 0).tolist(), strict=True)) for name, row in rows.items()},
        "rank_correlation": {name: fmean(values) if values else None for name, values in agreement.items()},
    }


def enlarged(original: Bytes, seed: int) -> dict[str, Bytes]:
    """The original, and what may come of it when it is shrunk by 2 and enlarged: well, badly, and with inventions."""
    import cv2
    import numpy as np
    import torch
    from PIL import Image

    from iqloop.distort.image import to_bytes, to_float
    from iqloop.restorers.registry import default_registry

    height, width = original.shape[:2]
    filters = Image.Resampling
    small = Image.fromarray(original).resize((width // 2, height // 2), filters.BICUBIC)

    def by(how: Image.Resampling) -> Bytes:
        return np.asarray(small.resize((width, height), how), dtype=np.uint8)

    def soft(image: Any, sigma: float) -> Any:
        return cv2.GaussianBlur(image, (0, 0), sigma)

    def sharp(image: Bytes, amount: float) -> Bytes:
        x = to_float(image)
        return to_bytes(x + amount * (x - soft(x, 1.2)))

    lowres = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255
    net = default_registry(device="cpu").get("upscale-x2").restore(lowres)[0].permute(1, 2, 0).numpy()
    bicubic, lanczos = by(filters.BICUBIC), by(filters.LANCZOS)
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((height, width, 1), dtype=np.float32)
    fine = white - soft(white, 1.5)[..., None]
    edges = soft(np.abs(net.mean(2) - soft(net.mean(2), 1.5)), 2.0)[..., None]
    edges = np.minimum(edges / (edges.mean() + 1e-3), 4)
    rows, columns = np.mgrid[:height, :width]
    checks = ((rows + columns) % 2 * 2 - 1)[..., None]
    return {
        "original": original,
        "upscale-x2": to_bytes(net),
        "bicubic": bicubic,
        "lanczos": lanczos,
        "lanczos, sharpened": sharp(lanczos, 1),
        "lanczos, oversharpened": sharp(lanczos, 4),
        "nearest": by(filters.NEAREST),
        "bicubic, blurred": to_bytes(soft(to_float(bicubic), 1.0)),
        "upscale-x2, noise 0.01": to_bytes(net + 0.01 * white),
        "upscale-x2, noise 0.03": to_bytes(net + 0.03 * white),
        "upscale-x2, grain 0.02": to_bytes(net + 0.02 * edges * fine / fine.std()),
        "upscale-x2, grain 0.05": to_bytes(net + 0.05 * edges * fine / fine.std()),
        "upscale-x2, checkerboard 0.02": to_bytes(net + 0.02 * checks),
        "upscale-x2, oversharpened": sharp(to_bytes(net), 4),
        "original, sharpened": sharp(original, 0.5),
        "original, oversharpened": sharp(original, 2),
    }


def _middle(photograph: Bytes) -> Bytes:
    """The middle of a photograph, at most `SIDE` pixels wide and high, both even."""
    height, width = (min(length, SIDE) // 2 * 2 for length in photograph.shape[:2])
    top, left = (photograph.shape[0] - height) // 2, (photograph.shape[1] - width) // 2
    return photograph[top : top + height, left : left + width].copy()


def _score(critic: Critic, image: Bytes) -> float:
    import torch

    from iqloop.critic.verdicts import Rating

    rating = critic.score([torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255])[0]
    assert isinstance(rating, Rating)  # statistics are always read
    return rating.mean
