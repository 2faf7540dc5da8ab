"""iqloop serve: what is refused, how early, and what a refusal tells."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from iqloop.io.webp import webp_size
from iqloop.recipes.serve.limits import Limits, pixels_of
from iqloop.recipes.serve.refusal import Refusal
from iqloop.recipes.serve.room import Room

from ..agents.agents_fakes import Tools
from .serve_helpers import Running, WatchedCritic, encoded, form, grey, serving

LIMIT = 200_000
TOKEN = "a-token-of-enough-length"


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with serving(WatchedCritic(), limits=Limits(upload_bytes=LIMIT, pixels=10_000)) as running:
        yield running


def test_a_declared_length_is_refused_before_anything_is_sent(served: Running) -> None:
    connection = served.connect()
    connection.putrequest("POST", "/score")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(2**30))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and answer.getheader("Connection") == "close"
    assert b"the request is too long: expected at most" in answer.read()
    connection.close()


@pytest.mark.parametrize("path", ["/score", "/rank", "/restore"])
def test_a_body_without_a_length_is_cut_off_where_it_becomes_too_long(served: Running, path: str) -> None:
    kind = "image/png"
    begin = b""
    if path == "/rank":
        whole, kind = form(("file", "a.png", b""))
        begin = whole[: -len(b"\r\n--edge--\r\n")]
    connection = served.connect()
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", kind)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    sent = 0
    try:
        for part in [begin, *[bytes(50_000)] * 2000]:
            if part:
                connection.send(b"%x\r\n%s\r\n" % (len(part), part))
                sent += len(part)
    except OSError:
        pass  # the server has hung up
    assert sent < 50_000_000
    assert connection.getresponse().status == 413
    connection.close()


def test_no_more_than_the_limit_is_ever_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application itself, given an endless body."""
    import asyncio

    from iqloop.recipes.serve.app import make_app

    app = make_app(WatchedCritic(), Tools(), Limits(upload_bytes=LIMIT))
    taken = 0
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += 1000
        return {"type": "http.request", "body": bytes(1000), "more_body": True}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/score",
        "query_string": b"",
        "headers": [(b"content-type", b"image/png"), (b"transfer-encoding", b"chunked")],
    }
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 413 and taken <= LIMIT + 1000


def test_a_bomb_is_refused_by_its_header(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    target = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(target, "PNG")
    bomb = target.getvalue()
    assert len(bomb) < 20_000
    from iqloop.io import decode

    monkeypatch.setattr(decode, "_assemble", lambda *_: pytest.fail("it was decoded"))
    for path in ("/score", "/perceive", "/restore"):
        status, refused = served.post(path, bomb)
        assert status == 413 and "at most 0.01 megapixels in a request, got 100" in refused["error"]
    assert served.form("/compare", ("a", "a.png", grey(1)), ("b", "b.png", bomb))[0] == 413


def test_the_images_of_a_request_count_together(served: Running) -> None:
    files = [("file", f"{level}.png", grey(level, 60, 60)) for level in (1, 2, 3)]
    assert served.form("/rank?by=score", *files[:2])[0] == 200
    assert served.form("/rank?by=score", *files)[0] == 413


def test_an_output_counts_too(served: Running) -> None:
    status, refused = served.post("/restore?scale=4", grey(1, 30, 30))
    assert status == 413 and "enlarged" in refused["error"]


def test_pixels_are_told_from_headers() -> None:
    image = np.zeros((7, 5, 3), np.uint8)
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
        assert pixels_of(encoded(image, kind)) == 35
    from iqloop.io.deep import encode_tiff

    deep = encode_tiff(np.zeros((7, 5, 3), np.uint16), None, None, None)
    assert pixels_of(deep) == 35
    assert pixels_of(b"no image") == pixels_of(b"") == pixels_of(b"II*\0nothing") == 0


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"lossless": True}),
        ("RGB", {"lossless": False}),
        ("RGBA", {"lossless": True}),
        ("RGBA", {"lossless": False}),
        ("RGB", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}),
        ("RGB", {"save_all": True, "append_images": [Image.new("RGB", (300, 17), "red")]}),
    ],
)
def test_the_size_of_every_kind_of_webp(mode: str, options: dict[str, Any]) -> None:
    target = io.BytesIO()
    Image.new(mode, (300, 17), (9, 9, 9, 99)[: len(mode)]).save(target, "WEBP", **options)
    assert webp_size(target.getvalue()) == (300, 17)


def test_a_webp_bomb_is_not_even_opened(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    # The head of a lossless WebP of 16383 x 16383: all that it takes for libwebp to fill two gigabytes.
    bits = (16382 | 16382 << 14).to_bytes(4, "little")
    bomb = b"RIFF" + (26).to_bytes(4, "little") + b"WEBPVP8L" + (13).to_bytes(4, "little") + b"\x2f" + bits + bytes(9)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    status, refused = served.post("/score", bomb, "image/webp")
    assert status == 413 and "got 268" in refused["error"]


@pytest.mark.parametrize(
    "data", [b"no image", b"", b"\x89PNG\r\n\x1a\n", b"II*\0nothing", b"RIFF\x10\0\0\0WEBPVP8L", os.urandom(50)]
)
def test_what_is_no_image_is_said_without_a_path(served: Running, data: bytes) -> None:
    for path in ("/score", "/restore"):
        status, refused = served.post(path, data)
        assert status == 422 and set(refused) == {"error"}
        assert "image" in refused["error"] and str(Path.cwd()) not in refused["error"]
        assert "Traceback" not in refused["error"] and "\n" not in refused["error"]


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "words"),
    [
        ("/score", b"x", "text/plain", 415, "text/plain"),
        ("/compare", b"x", "image/png", 415, "multipart/form-data"),
        ("/score", b"x", "multipart/form-data", 400, "boundary"),
        ("/restore?scale=3", b"x", "image/png", 422, "scale"),
        ("/restore?max_steps=-1", b"x", "image/png", 422, "max_steps"),
        ("/restore?time_limit=nan", b"x", "image/png", 422, "time_limit"),
        ("/rank?by=guess", b"x", "image/png", 422, "by"),
    ],
)
def test_wrong_requests(served: Running, path: str, body: bytes, kind: str, status: int, words: str) -> None:
    found, refused = served.post(path, body, kind)
    assert found == status and words in refused["error"] and set(refused) == {"error"}


def test_wrong_forms(served: Running) -> None:
    one = ("file", "a.png", grey(1))
    assert "got 2" in served.form("/score", one, one)[1]["error"]
    assert "'other'" in served.form("/score", ("other", "a.png", grey(1)))[1]["error"]
    assert "'b', got 0" in served.form("/compare", ("a", "a.png", grey(1)))[1]["error"]
    text = b'--edge\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--edge--\r\n'
    assert served.post("/score", text, "multipart/form-data; boundary=edge")[0] == 422


def test_other_paths_and_methods(served: Running) -> None:
    assert served.ask("GET", "/score")[0] == 405
    assert served.ask("GET", "/nowhere")[2] == b'{"error":"Not Found"}'


def test_every_answer_forbids_guessing_its_type_and_none_allows_other_sites(served: Running) -> None:
    for method, path in (("GET", "/health"), ("GET", "/nowhere"), ("POST", "/score")):
        _, headers, _ = served.ask(method, path, Origin="http://elsewhere.example")
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.startswith("access-control")]


def test_the_token() -> None:
    with serving(WatchedCritic(), token=TOKEN) as served:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            for method, path in (("POST", "/score"), ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json")):
                status, headers, body = served.ask(method, path, **header)
                assert status == 401 and headers["www-authenticate"] == "Bearer" and TOKEN.encode() not in body
        assert served.ask("GET", "/health")[0] == 200
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert served.post("/score", grey(9), **right)[0] == 200
        assert served.ask("GET", "/metrics", **right)[0] == 200


def test_a_stranger_uploads_nothing() -> None:
    with serving(WatchedCritic(), token=TOKEN) as served:
        connection = served.connect()
        connection.putrequest("POST", "/score")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 401 and answer.getheader("Connection") == "close"
        connection.close()


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    with serving(WatchedCritic(), limits=Limits(timeout=0.05)) as served:
        connection = served.connect()
        connection.putrequest("POST", "/score")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 408 and b"0.05 s" in answer.read()
        connection.close()


def test_room_counts_requests_and_bytes() -> None:
    room = Room(2, 100)
    first, second = room.enter(60), room.enter(0)
    with pytest.raises(Refusal, match="2 requests"):
        room.enter(0)
    second.take(30)
    with pytest.raises(Refusal, match="uploads hold"):
        second.take(30)
    first.take(60)
    assert room.held == 90
    first.leave()
    second.leave()
    assert (room.taken, room.held) == (0, 0)
    room.enter(100)


def test_a_web_page_from_elsewhere_may_not_ask() -> None:
    """A browser says where a page came from, and what name it asked for; without a token both must be this machine."""
    with serving(WatchedCritic()) as served:
        own = served.address.removeprefix("http://")
        port = own.rpartition(":")[2]
        for origin in ("https://example.org", "null", f"http://localhost.example.org:{port}", "http://127.0.0.1:1"):
            status, answer = served.post("/score", grey(51), "text/plain", Origin=origin)
            assert status == 403 and "token" in answer["error"]
        for host in ("example.org", f"example.org:{port}", "127.0.0.1.example.org", "10.0.0.1", "[::", ""):
            status, _, _ = served.ask("GET", "/metrics", Host=host)
            assert status == (200 if host == "" else 403)
        assert served.post("/score", grey(51), Origin=served.address)[0] == 200  # the page /docs of this server
        for host in (f"localhost:{port}", "LOCALHOST", f"[::1]:{port}", "127.0.0.2"):
            assert served.post("/score", grey(51), Host=host)[0] == 200
        assert served.ask("GET", "/health", Host="example.org")[0] == 200
        assert not served.reports
    with serving(WatchedCritic(), token=TOKEN) as served:
        # A token is more than a browser has; and names of the network are what it is for.
        known = {"Authorization": f"Bearer {TOKEN}", "Host": "example.org", "Origin": "https://example.org"}
        assert served.post("/score", grey(51), **known)[0] == 200
