"""iqloop serve: what each route answers."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

pytest.importorskip("fastapi", reason="the extra serve is not installed")

import iqloop
from iqloop.agents import Budget
from iqloop.critic.verdicts import Degradation, Unparsed
from iqloop.recipes.help_page import FIELDS
from iqloop.recipes.serve.limits import Limits

from ..agents.agents_fakes import CLEAN, FakeCritic, degradation, psnr_critic, tool
from .serve_helpers import Running, WatchedCritic, encoded, grey, rating_of, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with serving(WatchedCritic()) as running:
        yield running


def renamed(command: str) -> set[str]:
    return set(FIELDS[command]) - {"path"} | {"filename"}


def test_score_raw_and_as_a_form(served: Running) -> None:
    status, raw = served.post("/score?filename=a.png", grey(51))
    assert status == 200 and set(raw) == renamed("score")
    assert raw["filename"] == "a.png" and raw["score"] == pytest.approx(rating_of(51))
    assert (raw["metric"], raw["lower_better"], raw["range"], raw["std"]) == ("fake", False, [1.0, 5.0], 0.1)
    assert served.form("/score", ("file", "a.png", grey(51))) == (200, raw)
    nameless = {**raw, "filename": None}
    assert served.post("/score", grey(51), "application/octet-stream") == (200, nameless)


def test_perceive(served: Running) -> None:
    status, found = served.form("/perceive", ("file", "a.png", grey(204)))
    assert status == 200 and set(found) == renamed("perceive")
    assert (found["distortion_class"], found["reasoning"]) == ("noise", "it looks so")
    assert found["probabilities"]["noise"] == pytest.approx(0.8)


def test_compare_with_and_without_a_reference(served: Running) -> None:
    pair = (("a", "x.png", grey(200)), ("b", "y.png", grey(100)))
    status, found = served.form("/compare", *pair)
    assert status == 200 and set(found) == set(FIELDS["compare"])
    assert (found["a"], found["b"], found["preference"], found["reasoning"]) == ("x.png", "y.png", "A", "False")
    assert found["probability"] == pytest.approx(0.5 + 4 * 100 / 255 / 10)
    status, found = served.form("/compare", *pair, ("reference", "z.png", grey(9)))
    assert status == 200 and found["reasoning"] == "True"


def test_a_critic_that_cannot_compare_answers_by_its_scores() -> None:
    with serving(WatchedCritic(compares=False)) as served:
        status, found = served.form("/compare", ("a", "x.png", grey(100)), ("b", "y.png", grey(200)))
        assert status == 200 and (found["preference"], found["method"]) == ("B", "thurstone")
        files = [("file", f"{level}.png", grey(level)) for level in (50, 200)]
        status, order = served.form("/rank", *files)
        assert status == 200 and order["by"] == "score"
        status, refused = served.form("/rank?by=comparison", *files)
        assert status == 501 and "cannot compare" in refused["error"]


def test_rank(served: Running) -> None:
    levels = (90, 250, 10, 170)
    files = [("file", f"{level}.png", grey(level)) for level in levels]
    for by in ("score", "comparison", "hybrid"):
        status, order = served.form(f"/rank?by={by}", *files, ("file", "broken.png", b"no image"))
        assert status == 200 and order["by"] == by
        assert [place["filename"] for place in order["places"]] == [
            *("250.png", "170.png", "90.png", "10.png", "broken.png"),
        ]
        assert [place["rank"] for place in order["places"]] == [1, 2, 3, 4, None]
        assert "text that begins with" in order["places"][-1]["error"]
        assert (order["comparisons"] > 0) >= (by == "comparison")
    assert served.form("/rank?by=comparison&max_comparisons=2", *files)[1]["comparisons"] == 2
    assert served.form("/rank", ("reference", "r.png", grey(9)))[0] == 422


def test_what_a_critic_cannot_do_is_said() -> None:
    with serving(FakeCritic(lambda image: 3.0)) as served:
        status, refused = served.post("/perceive", grey(9))
        assert status == 501 and "cannot perceive, it can score" in refused["error"]


def test_an_answer_that_cannot_be_read_is_no_number() -> None:
    with serving(WatchedCritic(lambda image: Unparsed("hm", "expected a number"))) as served:
        status, refused = served.post("/score", grey(9))
        assert status == 502 and refused["error"].endswith("could not be read: expected a number")


def test_an_infinite_range_is_null() -> None:
    with serving(FakeCritic(lambda image: 3.0, score_range=(0.0, float("inf")))) as served:
        assert served.post("/score", grey(9))[1]["range"] == [0.0, None]


@pytest.fixture
def mended(
    photograph: Callable[..., NDArray[np.uint8]], as_tensor: Callable[[NDArray[np.uint8]], Tensor]
) -> Iterator[tuple[Running, NDArray[np.uint8]]]:
    """A server with a tool that knows the clean photograph, and that photograph."""
    clean = photograph("astronaut", 64)
    wanted = as_tensor(clean)

    def perceive(image: Tensor) -> Degradation:
        return CLEAN if float((image - wanted).abs().mean()) < 0.01 else degradation(noise=4.0)

    own = Budget(max_tool_calls=3)
    with serving(psnr_critic(wanted, perceive), tool("cure", "noise", lambda _: wanted.clone()), budget=own) as served:
        yield served, clean


def damaged(clean: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 15, clean.shape)
    return np.clip(clean + noise, 0, 255).astype(np.uint8)


def test_restore_keeps_format_and_metadata(mended: tuple[Running, NDArray[np.uint8]]) -> None:
    served, clean = mended
    exif = Image.Exif()
    exif[0x010E] = "a portrait"
    status, headers, data = served.ask("POST", "/restore", encoded(damaged(clean), "PNG", exif=exif), "image/png")
    assert (status, headers["content-type"], headers["x-iqloop-steps"]) == (200, "image/png", "cure")
    assert headers["x-iqloop-improved"] == "true" and headers["x-iqloop-stop-reason"] == "done"
    assert float(headers["x-iqloop-score-before"]) < float(headers["x-iqloop-score-after"])
    with Image.open(io.BytesIO(data)) as image:
        assert (np.asarray(image) == clean).all() and image.getexif()[0x010E] == "a portrait"


def test_restore_as_json(mended: tuple[Running, NDArray[np.uint8]]) -> None:
    served, clean = mended
    noisy = encoded(damaged(clean), "JPEG", quality=95)
    for path, accept in (("/restore?answer=json", "*/*"), ("/restore", "application/json")):
        status, told = served.post(path, noisy, "image/jpeg", Accept=accept)
        assert status == 200 and set(told) >= set(FIELDS["restore"]) - {"input", "output"}
        assert told["media_type"] == "image/jpeg" and told["steps"] == ["cure"]
        assert Image.open(io.BytesIO(base64.b64decode(told["image"]))).format == "JPEG"
        jsonschema: Any = pytest.importorskip("jsonschema")
        jsonschema.validate(told["trace"], iqloop.agents.trace_schema())


def test_restore_answers_the_upload_itself_when_nothing_is_better(mended: tuple[Running, NDArray[np.uint8]]) -> None:
    served, clean = mended
    data = encoded(clean, "PNG")
    status, headers, answer = served.ask("POST", "/restore", data, "image/png")
    assert status == 200 and answer == data
    assert headers["x-iqloop-steps"] == "" and headers["x-iqloop-improved"] == "false"


def test_a_client_cannot_spend_more_than_the_server_allows(mended: tuple[Running, NDArray[np.uint8]]) -> None:
    served, clean = mended
    noisy = encoded(damaged(clean))
    trace = served.post("/restore?answer=json&max_tool_calls=99&time_limit=1e9&max_steps=5", noisy)[1]["trace"]
    assert (trace["budget"]["max_tool_calls"], trace["budget"]["max_steps"]) == (3, 5)
    assert trace["budget"]["time_limit"] <= Limits().timeout
    told = served.post("/restore?answer=json&max_tool_calls=0", noisy)[1]
    assert told["calls"] == 0 and told["stop_reason"] == "max-tool-calls"


def test_an_animation_is_not_restored(served: Running) -> None:
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 200)]
    target = io.BytesIO()
    frames[0].save(target, "GIF", save_all=True, append_images=frames[1:])
    status, refused = served.post("/restore", target.getvalue(), "image/gif")
    assert status == 422 and "has 2 frames" in refused["error"]
    assert served.post("/score", target.getvalue(), "image/gif")[0] == 200


def test_the_openapi_document_describes_every_route(served: Running) -> None:
    status, _, text = served.ask("GET", "/openapi.json")
    document = json.loads(text)
    assert status == 200 and document["openapi"].startswith("3.1")
    posts = {path for path, methods in document["paths"].items() if "post" in methods}
    assert posts == {"/score", "/perceive", "/compare", "/rank", "/restore"}
    for path in posts:
        post = document["paths"][path]["post"]
        assert "multipart/form-data" in post["requestBody"]["content"] and "413" in post["responses"]
    known = set(document["components"]["schemas"])
    for reference in set(_references(document)):
        assert reference.removeprefix("#/components/schemas/") in known


def test_the_page_brings_its_scripts_along(served: Running) -> None:
    status, _, page = served.ask("GET", "/docs")
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page.decode())
    assert status == 200 and len(links) >= 3
    for link in links:
        assert link.startswith("/docs-files/") and served.ask("GET", link)[0] == 200


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_health_and_metrics() -> None:
    with serving(WatchedCritic()) as served:
        assert served.ask("GET", "/health")[2] == b'{"status":"ok"}'
        served.post("/score", grey(9))
        served.post("/score", b"no image")
        served.form("/compare", ("a", "x.png", grey(1)), ("b", "y.png", grey(2)))
        served.ask("GET", "/nowhere/1")
        served.ask("GET", "/nowhere/2")
        counted = {
            'iqloop_requests_total{route="/score",status="200"}': 1,
            'iqloop_requests_total{route="/score",status="422"}': 1,
            'iqloop_requests_total{route="other",status="404"}': 2,
            'iqloop_images_total{route="/compare"}': 2,
            'iqloop_batch_images_sum{kind="score"}': 1,
            'iqloop_request_seconds_count{route="/compare"}': 1,
            'iqloop_queue_depth{kind="score"}': 0,
            "iqloop_requests_in_flight": 1,  # the one that asks
            f'iqloop_critic_info{{iqloop="{iqloop.__version__}",name="fake",version="1"}}': 1,
        }
        assert {line: served.metric(line) for line in counted} == counted
