"""Public checkpoints: a table that can be true, and fetching against a scripted server. No network."""

from __future__ import annotations

import hashlib
import io
import re
import urllib.request
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from iqloop.critic.known import KNOWN
from iqloop.errors import PrerequisiteError, ToolError, UsageError
from iqloop.restorers import CLASSICAL, Registry, ToolEntry, fetch_weights
from iqloop.restorers.fetch_weights import at_hand, check_possible, fetch, offer, open_https, version_of, weights_folder
from iqloop.restorers.public import PUBLIC, PublicWeights
from iqloop.restorers.registry import builtin_entries
from iqloop.restorers.user_tools import public_info, user_entries

from .test_restorers_spandrel import compact, dncnn, save

DOCUMENT = Path(__file__).parents[2] / "docs" / "tools.md"


@dataclass
class Server:
    """Gives the same bytes for every address, in pieces as they come."""

    content: bytes
    error: Exception | None = None
    breaks_after: int | None = None
    asked: list[str] = field(default_factory=list)
    given: int = 0

    def __call__(self, address: str) -> AbstractContextManager[Server]:
        self.asked.append(address)
        if self.error is not None:
            raise self.error
        self._left = io.BytesIO(self.content)
        return closing(self)

    def read(self, amount: int, /) -> bytes:
        if self.breaks_after is not None and self.given >= self.breaks_after:
            raise ConnectionResetError("connection reset by peer")
        piece = self._left.read(min(amount, 1000))
        self.given += len(piece)
        return piece

    def close(self) -> None:
        pass


def published(monkeypatch: pytest.MonkeyPatch, path: Path, name: str = "tiny", **changes: Any) -> PublicWeights:
    """A row of the table for a file, and a hub that may be asked."""
    content = path.read_bytes()
    weights = PublicWeights(
        name,
        ("low-resolution",),
        "Compact",
        len(content),
        hashlib.sha256(content).hexdigest(),
        "BSD-3-Clause",
        "CC-BY-4.0",
        "Nobody 2026",
        "a tiny network",
        strength=0.5,
        scale=2,
        url=f"https://example.org/files/{path.name}",
    )
    monkeypatch.setitem(PUBLIC, name, replace(weights, **changes))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return PUBLIC[name]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save(tmp_path / "net.pth", compact(2), "params")


@pytest.fixture
def server(file: Path) -> Server:
    return Server(file.read_bytes())


def kept() -> list[str]:
    """Names of all files in the folder of weights, hidden ones too."""
    folder = weights_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_names_are_one_word_and_free() -> None:
    assert len(PUBLIC) >= 12
    taken = {entry.info.name for entry in builtin_entries()} | {info.name for info in CLASSICAL} | set(KNOWN)
    assert not taken & set(PUBLIC)
    Registry(ToolEntry(public_info(w, Path(f"{w.name}-{'0' * 16}{w.suffix}")), lambda: None) for w in PUBLIC.values())  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("weights", PUBLIC.values(), ids=PUBLIC)
def test_a_row_can_be_true(weights: PublicWeights) -> None:
    spandrel = pytest.importorskip("spandrel")
    assert weights.architecture in {known.architecture.id for known in spandrel.MAIN_REGISTRY.architectures()}
    assert weights.address.startswith("https://") and weights.suffix in (".pth", ".safetensors")
    assert bool(weights.url) != bool(weights.repository and weights.filename)
    assert weights.sha256 is None or re.fullmatch("[0-9a-f]{64}", weights.sha256)
    assert 10**6 < weights.bytes < 10**9 and 0 <= weights.strength <= 1
    assert (weights.scale > 1) == (weights.treats == ("low-resolution",))
    assert re.search(r" \d{4}$", weights.paper) and "NC" not in weights.weights_licence
    assert public_info(weights, Path("x-0123456789abcdef.pth")).version == "0123456789abcdef"


def test_every_degradation_is_covered() -> None:
    covered = {(treatment, weights.scale) for weights in PUBLIC.values() for treatment in weights.treats}
    wanted = [
        ("noise", 1),
        ("compression", 1),
        ("blur", 1),
        ("darken", 1),
        ("low-resolution", 2),
        ("low-resolution", 4),
    ]
    assert covered >= set(wanted)


def test_checksums_are_of_different_files() -> None:
    known = [weights.sha256 for weights in PUBLIC.values() if weights.sha256]
    assert len(set(known)) == len(known) == len(PUBLIC) - 1


@pytest.mark.parametrize("weights", PUBLIC.values(), ids=PUBLIC)
def test_the_document_has_it(weights: PublicWeights) -> None:
    treats = ", ".join(weights.treats) + (f" x{weights.scale}" if weights.scale > 1 else "")
    size = f"{weights.bytes / 1e6:.1f} MB"
    row = f"| `{weights.name}` | {treats} | {weights.paper}: {weights.summary} | {weights.code_licence} | "
    row += f"{weights.weights_licence} | {size} |"
    assert row in DOCUMENT.read_text("utf-8").splitlines()


def test_an_offer_asks_nobody(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    weights = published(monkeypatch, file)
    monkeypatch.setattr(fetch_weights, "open_https", lambda address: pytest.fail("asked"))
    what = offer("tiny")
    assert what.here is None and what.to_fetch == weights.bytes and what.free > 0 and kept() == []
    with pytest.raises(UsageError, match="unknown public checkpoint 'fbcn': did you mean fbcnn"):
        offer("fbcn")
    with pytest.raises(UsageError, match="expected one of scunet-psnr, "):
        offer("qqqqqqqq")


def test_a_fetch_is_checked_kept_and_a_tool_afterwards(
    monkeypatch: pytest.MonkeyPatch, file: Path, server: Server
) -> None:
    weights = published(monkeypatch, file)
    told: list[int] = []
    done = fetch(offer("tiny"), told.append, server)
    assert done.checked and done.sha256 == weights.sha256 and done.path.read_bytes() == file.read_bytes()
    assert server.asked == ["https://example.org/files/net.pth"] and sum(told) == weights.bytes
    assert kept() == [f"tiny-{done.sha256[:16]}.pth"] and version_of(done.path) == done.sha256[:16]
    (entry,) = user_entries()
    assert entry.info.name == "tiny" and entry.info.version == done.sha256[:16] and entry.info.scale == 2
    assert (entry.info.code_licence, entry.info.weights_licence) == ("BSD-3-Clause", "CC-BY-4.0")
    tool = entry.load()
    assert tool.info == entry.info and tool.restore(torch.rand(1, 3, 9, 7)).shape == (1, 3, 18, 14)
    again = fetch(offer("tiny"), opener=server)
    assert again == done and len(server.asked) == 1


def test_from_the_hub(monkeypatch: pytest.MonkeyPatch, file: Path, server: Server) -> None:
    weights = published(monkeypatch, file, url="", repository="somebody/nets", filename="a/net.pth", revision="v1")
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example.org")
    fetch(offer("tiny"), opener=server)
    assert server.asked == ["https://hub.example.org/somebody/nets/resolve/v1/a/net.pth"]
    assert weights.origin == "somebody/nets" and weights.suffix == ".pth"


def test_a_wrong_checksum_leaves_nothing(monkeypatch: pytest.MonkeyPatch, file: Path, server: Server) -> None:
    weights = published(monkeypatch, file, sha256="0" * 64)
    with pytest.raises(ToolError, match=rf"tiny: https://\S+ gave a file of sha256 \S+, expected {weights.sha256}"):
        fetch(offer("tiny"), opener=server)
    assert kept() == [] and at_hand(weights) is None


def test_a_file_that_is_cut_off_leaves_nothing(monkeypatch: pytest.MonkeyPatch, file: Path, server: Server) -> None:
    weights = published(monkeypatch, file)
    server.content = server.content[:-7]
    with pytest.raises(ToolError, match=rf"\({weights.bytes - 7} bytes, expected {weights.bytes}\)"):
        fetch(offer("tiny"), opener=server)
    assert kept() == []


def test_a_file_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch, file: Path, server: Server) -> None:
    weights = published(monkeypatch, file)
    monkeypatch.setattr(fetch_weights, "MARGIN", 5000)
    server.content *= 100
    with pytest.raises(ToolError, match=r"gave more than [0-9.]+ kB: nothing was kept"):
        fetch(offer("tiny"), opener=server)
    assert server.given <= weights.bytes + 6000 and kept() == []


@pytest.mark.parametrize(
    ("make", "found"), [(lambda: compact(4), "Compact of scale 4"), (lambda: dncnn(), "DnCNN of scale 1")]
)
def test_another_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, found: str) -> None:
    path = save(tmp_path / "other.pth", make())
    published(monkeypatch, path)
    with pytest.raises(ToolError, match=rf"tiny: expected Compact of scale 2, https://\S+ gave {found}: nothing"):
        fetch(offer("tiny"), opener=Server(path.read_bytes()))
    assert kept() == []


def test_no_network_at_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.pth"
    page.write_text("<html>sign in first</html>")
    published(monkeypatch, page)
    with pytest.raises(ToolError, match=r"gave a file that cannot be used: refused, it is damaged") as raised:
        fetch(offer("tiny"), opener=Server(page.read_bytes()))
    assert kept() == [] and ".part" not in str(raised.value)


def test_without_a_checksum_the_file_says_its_own(monkeypatch: pytest.MonkeyPatch, file: Path, server: Server) -> None:
    weights = published(monkeypatch, file, sha256=None, bytes=len(server.content) - 10)
    done = fetch(offer("tiny"), opener=server)
    assert not done.checked and done.sha256 == hashlib.sha256(server.content).hexdigest()
    assert at_hand(weights) == done.path and fetch(offer("tiny")).sha256 == done.sha256
    assert user_entries()[0].info.version == done.sha256[:16]


def test_a_file_that_was_changed_is_not_used(monkeypatch: pytest.MonkeyPatch, file: Path, server: Server) -> None:
    weights = published(monkeypatch, file)
    done = fetch(offer("tiny"), opener=server)
    changed = bytearray(server.content)
    changed[-1] ^= 1
    done.path.write_bytes(changed)
    with pytest.raises(ToolError, match="has changed since it was fetched: delete it and run  iqloop models pull tiny"):
        fetch(offer("tiny"))
    done.path.write_bytes(save(done.path.with_name("x.pth"), compact(2)).read_bytes()[: weights.bytes])
    if done.path.stat().st_size == weights.bytes:
        (entry,) = user_entries()
        with pytest.raises(ToolError):
            entry.load()
    done.path.write_bytes(b"shorter")
    assert at_hand(weights) is None and user_entries() == []


def test_a_disk_without_room(monkeypatch: pytest.MonkeyPatch, file: Path, server: Server) -> None:
    published(monkeypatch, file)
    with pytest.raises(PrerequisiteError, match="has 3 bytes free: make room, or set IQLOOP_HOME"):
        fetch(replace(offer("tiny"), free=3), opener=server)
    assert server.asked == []


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, file: Path, server: Server) -> None:
    published(monkeypatch, file)
    weights_folder().parent.mkdir(exist_ok=True)
    weights_folder().write_text("a file where the folder should be")
    with pytest.raises(PrerequisiteError, match=r"weights cannot be written .*set IQLOOP_HOME"):
        fetch(offer("tiny"), opener=server)


def test_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch, file: Path, server: Server) -> None:
    published(monkeypatch, file)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        PrerequisiteError, match=r"could not ask https://\S+ because HF_HUB_OFFLINE is set: .* tools add"
    ):
        fetch(offer("tiny"), opener=server)
    assert server.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fetch(offer("tiny"), opener=server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    check_possible(offer("tiny"))  # it is here: nobody has to be asked


@pytest.mark.parametrize("error", [TimeoutError("timed out"), OSError("no route to host,\nreally"), None])
def test_a_connection_that_breaks_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, file: Path, server: Server, error: Exception | None
) -> None:
    published(monkeypatch, file)
    server.error, server.breaks_after = error, 2000
    with pytest.raises(PrerequisiteError, match=r"tried https://\S+ and got no answer \(.+\): connect") as raised:
        fetch(offer("tiny"), opener=server)
    assert kept() == [] and "\n" not in str(raised.value)


def test_an_interrupt_leaves_nothing(monkeypatch: pytest.MonkeyPatch, file: Path, server: Server) -> None:
    published(monkeypatch, file)

    def interrupted(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(offer("tiny"), interrupted, server)
    assert kept() == []


@pytest.mark.parametrize("address", ["http://example.org/x.pth", "file:///etc/passwd", "ftp://example.org/x.pth"])
def test_only_https_is_opened(address: str) -> None:
    with pytest.raises(OSError, match="expected an https address"):
        open_https(address)
    handler = fetch_weights._OnlyHttps()
    request = urllib.request.Request("https://example.org/x.pth")
    with pytest.raises(OSError, match="redirected to"):
        handler.redirect_request(request, io.BytesIO(), 302, "Found", {}, address)  # type: ignore[arg-type]
    on = handler.redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://example.org/y.pth")  # type: ignore[arg-type]
    assert on is not None and on.full_url == "https://example.org/y.pth"
