"""score, perceive, compare."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from iqloop import read
from iqloop.critic import known
from iqloop.recipes import inputs
from iqloop.recipes.help_page import FIELDS
from iqloop.recipes.serve.questions import compare_pairs

from .helpers import ScriptedCritic, lines, run


def test_score_fields(photo: Path, critic: ScriptedCritic) -> None:
    result = run("score", photo, "--json")
    assert result.exit_code == 0 and result.stderr == ""
    (row,) = lines(result)
    assert tuple(row) == FIELDS["score"]
    assert row["path"] == "photo.png" and row["metric"] == "scripted" and row["range"] == [1.0, 5.0]


def test_score_a_folder_in_batches(folder: Path, critic: ScriptedCritic, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("score", folder, "--json", "--batch-size", 1)
    assert [row["path"] for row in lines(result)] == ["in/noisy.png", "in/sub/clean.png"]
    assert critic.batches == [2]
    for number in range(4):
        shutil.copy(folder / "noisy.png", folder / f"{number}.png")
    critic.batches.clear()
    run("score", folder, "--batch-size", 1)
    assert critic.batches == [4, 2]  # four batches at once
    monkeypatch.setattr(inputs, "CALL_MEGAPIXELS", 1e-9)
    critic.batches.clear()
    plain = run("score", folder)
    assert critic.batches == [1] * 6  # large images
    assert plain.stdout.splitlines()[0] == "path\tscore\tstd" and plain.stdout.count("\n") == 7


@pytest.mark.parametrize("command", ["score", "perceive"])
def test_some_files_of_a_folder(command: str, folder: Path, critic: ScriptedCritic, tmp_path: Path) -> None:
    (row,) = lines(run(command, folder, "--json", "--include", "**/*.PNG", "--ignore", "sub/**"))
    assert row["path"] == "in/noisy.png"
    nothing = run(command, folder, "--include", "*.webp")
    assert nothing.exit_code == 2 and "the globs leave none" in nothing.stderr
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra ray is not installed")
    assert run(command, folder, "-o", tmp_path / "rows.parquet", "--include", "sub/*").exit_code == 0
    assert parquet.read_table(tmp_path / "rows.parquet")["key"].to_pylist() == ["sub/clean.png"]


def test_score_from_standard_input(photo: Path, critic: ScriptedCritic) -> None:
    (row,) = lines(run("score", "-", "--json", stdin=photo.read_bytes()))
    assert row["path"] == "-"
    assert run("score", "-", photo, stdin=b"").exit_code == 2
    result = run("score", "-", "--json", stdin=b"hello")
    assert result.exit_code == 1 and list(lines(result)[0]) == ["path", "error"]


@pytest.mark.parametrize(
    ("flags", "decoding", "samples"),
    [
        ((), "expected", 1),
        (("--samples", 3), "reason", 3),
        (("--decode", "reason+expected", "--samples", 2), "reason+expected", 2),
        (("--decode", "reason"), "reason", 1),
    ],
)
def test_how_a_score_is_read_out_reaches_the_critic(
    photo: Path,
    critic: ScriptedCritic,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[object, ...],
    decoding: str,
    samples: int,
) -> None:
    asked: list[dict[str, object]] = []

    def create(name: str, **options: object) -> ScriptedCritic:
        asked.append(options)
        return critic

    monkeypatch.setattr(known, "create_critic", create)
    assert run("score", photo, *flags, "--seed", 5, "--json").exit_code == 0
    assert (asked[0]["decoding"], asked[0]["samples"], asked[0]["seed"]) == (decoding, samples, 5)


def test_options_of_a_critic(photo: Path) -> None:
    result = run("score", photo, "--critic-option", "text_first=true", "--critic-option", "max_new_tokens=9", "--json")
    assert result.exit_code == 0 and "score" in lines(result)[0]
    for wrong in ("text_first", "nonsense=1", "samples=3"):
        result = run("score", photo, "--critic-option", wrong)
        assert result.exit_code == 2 and "KEY=VALUE" in result.stderr
    result = run("score", photo, "--critic-option", "thinking=false")
    assert result.exit_code == 2 and "visualquality-r1" in result.stderr
    # A command without a flag for it takes the decoding so, and the critic says what it may be.
    result = run("perceive", photo, "--critic-option", "decoding=guess")
    assert result.exit_code == 2 and "expected, reason or reason+expected, got 'guess'" in result.stderr
    assert run("score", photo, "--critic-option", "decoding=reason").exit_code == 2


def test_drawn_scores_of_the_embedded_critic(photo: Path) -> None:
    first, again, other = (
        lines(run("score", photo, "--samples", 3, "--seed", seed, "--json"))[0] for seed in (1, 1, 2)
    )
    assert first == again != other and len(first["answers"]) == 3 and 1 <= first["score"] <= 5


def test_the_critic_comes_from_the_environment(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IQLOOP_CRITIC", "nobody")
    result = run("score", photo)
    assert result.exit_code == 2 and "nobody" in result.stderr


def test_a_critic_that_cannot_compare_answers_by_its_scores(folder: Path, critic: ScriptedCritic) -> None:
    (row,) = lines(run("compare", "in/noisy.png", "in/sub/clean.png", "--json"))
    assert row["preference"] == "B" and row["method"] == "thurstone" and row["probability"] < 0.1
    critic.lower_better = True
    (row,) = lines(run("compare", "in/noisy.png", "in/sub/clean.png", "--json"))
    assert row["preference"] == "A" and row["probability"] > 0.9


def test_describe(folder: Path, critic: ScriptedCritic) -> None:
    critic.capabilities = frozenset({"score", "describe"})
    rows = lines(run("describe", folder, "--json"))
    assert rows[0] == {"path": "in/noisy.png", "description": "a photograph"} and len(rows) == 2
    assert tuple(rows[0]) == FIELDS["describe"]
    assert run("describe", folder).stdout.splitlines()[1] == "in/noisy.png\ta photograph"
    critic.capabilities = frozenset({"score"})
    result = run("describe", folder)
    assert result.exit_code == 2 and "cannot describe" in result.stderr


def make_bad_files() -> list[str]:
    Path("empty.png").write_bytes(b"")
    Path("text.png").write_text("not an image")
    image = Path("whole.jpg")
    Image.effect_noise((64, 64), 50).save(image)
    Path("cut.jpg").write_bytes(image.read_bytes()[:900])
    image.unlink()
    return ["empty.png", "text.png", "cut.jpg", "missing.png"]


@pytest.mark.parametrize("command", ["score", "perceive"])
def test_bad_files_are_named_and_the_others_go_on(photo: Path, critic: ScriptedCritic, command: str) -> None:
    bad = make_bad_files()
    result = run(command, bad[0], photo, *bad[1:], "--json")
    assert result.exit_code == 1
    rows = lines(result)
    assert {row["path"] for row in rows if row.get("error")} == set(bad)
    assert [row["path"] for row in rows if not row.get("error")] == ["photo.png"]
    assert len(result.stderr.splitlines()) == 4
    assert all(any(line.startswith(f"{name}: ") for line in result.stderr.splitlines()) for name in bad)


def test_folder_without_images_is_wrong_usage(here: Path, critic: ScriptedCritic) -> None:
    Path("nothing").mkdir()
    result = run("score", "nothing")
    assert result.exit_code == 2 and "nothing" in result.stderr


def test_only_the_culprit_of_a_batch_fails(folder: Path, critic: ScriptedCritic) -> None:
    def fault(image: object) -> None:
        if critic._value(image) > 4.9:  # type: ignore[arg-type]
            raise ValueError("too clean")

    critic.fault = fault
    rows = lines(run("score", folder, "--json"))
    assert "score" in rows[0] and rows[1] == {"path": "in/sub/clean.png", "error": "ValueError: too clean"}


def save_kinds(array: NDArray[np.uint8]) -> list[str]:
    image = Image.fromarray(array)
    image.convert("CMYK").save("cmyk.jpg")
    image.convert("L").save("grey.png")
    image.convert("P").save("palette.png")
    image.convert("RGBA").save("alpha.png")
    image.crop((0, 0, 1, 1)).save("one.png")
    Image.fromarray(array[..., 0].astype(np.uint16) * 257).save("deep.png")
    image.save("page.tiff")
    image.save("photo.webp")
    image.save("photo.bmp")
    image.save("still.gif")
    return [
        *("cmyk.jpg", "grey.png", "palette.png", "alpha.png", "one.png", "deep.png"),
        *("page.tiff", "photo.webp", "photo.bmp", "still.gif"),
    ]


def test_every_kind_of_image_is_scored(here: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    kinds = save_kinds(noisy)
    result = run("score", *kinds, "--json")
    assert result.exit_code == 0, result.stderr
    assert [row["path"] for row in lines(result)] == kinds


@pytest.mark.parametrize("command", ["score", "perceive"])
def test_an_animation_is_its_first_frame(
    here: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic, command: str
) -> None:
    frames = [Image.fromarray(noisy), Image.fromarray(255 - noisy)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    result = run(command, "moving.gif", "--json")
    assert result.exit_code == 0 and len(lines(result)) == 1
    assert "2 frames" in result.stderr
    assert run(command, "moving.gif", "--quiet").stderr == ""


def test_unparsed_answers_are_failures(photo: Path, critic: ScriptedCritic) -> None:
    critic.unparsed = True
    for command in ("score", "perceive"):
        result = run(command, photo, "--json")
        assert result.exit_code == 1 and "could not be read" in lines(result)[0]["error"]
    critic.capabilities = frozenset({"score", "compare"})
    assert run("compare", photo, photo).exit_code == 1


def test_perceive_fields(photo: Path, critic: ScriptedCritic) -> None:
    (row,) = lines(run("perceive", photo, "--json"))
    assert tuple(row) == FIELDS["perceive"]
    assert (row["distortion_class"], row["severity"], row["probabilities"]["noise"]) == ("noise", "obvious", 1.0)
    critic.kind = "null"
    (row,) = lines(run("perceive", photo, "--json"))
    assert (row["distortion_class"], row["severity"]) == ("null", "null")
    assert "grain in the sky" in run("perceive", photo).stdout


def test_compare_fields(folder: Path, critic: ScriptedCritic) -> None:
    critic.capabilities = frozenset({"score", "compare"})
    result = run("compare", "in/noisy.png", "in/sub/clean.png", "--reference", "in/noisy.png", "--json")
    assert result.exit_code == 0
    (row,) = lines(result)
    assert tuple(row) == FIELDS["compare"]
    assert row["preference"] == "B" and row["probability"] < 0.5
    assert "B is better" in run("compare", "in/noisy.png", "in/sub/clean.png").stdout


def test_images_of_different_size_are_compared_at_one_size(folder: Path, critic: ScriptedCritic) -> None:
    critic.capabilities = frozenset({"score", "compare"})
    seen: list[tuple[int, ...]] = []
    ask = critic.compare

    def watched(a: Any, b: Any, reference: Any = None) -> Any:
        seen.extend(tuple(image.shape) for images in (a, b, reference or ()) for image in images)
        return ask(a, b, reference)

    critic.compare = watched  # type: ignore[method-assign]
    large = Image.open(folder / "noisy.png")
    large.resize((large.width // 2, large.height // 2)).save(folder / "small.png")
    assert run("compare", "in/small.png", "in/noisy.png", "--reference", "in/small.png").exit_code == 0
    assert seen == [(3, large.height, large.width)] * 3
    a, b = read(folder / "small.png").pixels, read(folder / "noisy.png").pixels
    seen.clear()
    compare_pairs(critic)([(a, b, a), (b, b, None)])
    assert seen == [(3, large.height, large.width)] * 5


def test_compare_names_a_bad_file(photo: Path, critic: ScriptedCritic) -> None:
    result = run("compare", photo, "missing.png", "--json")
    assert result.exit_code == 1 and lines(result)[0]["path"] == "missing.png"
    assert run("compare", photo, ".").exit_code == 2


def test_a_real_checkpoint_keeps_standard_output_clean(
    photo: Path, tiny_folder: Path, photograph: Callable[..., NDArray[np.uint8]]
) -> None:
    result = run("score", photo, "--critic", tiny_folder, "--device", "cpu", "--json")
    assert result.exit_code == 0 and result.stderr == ""
    (row,) = lines(result)
    assert 1 <= row["score"] <= 5 and row["metric"] == "tiny"


def test_strange_names_stay_on_one_line(here: Path, noisy: NDArray[np.uint8], critic: ScriptedCritic) -> None:
    Image.fromarray(noisy).save("a\nb [red].png")
    assert "a b [red].png" in run("score", "a\nb [red].png").stdout
    assert lines(run("score", "a\nb [red].png", "--json"))[0]["path"] == "a\nb [red].png"
