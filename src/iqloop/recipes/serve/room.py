"""How many requests are let in, and how many bytes they may hold together."""

from __future__ import annotations

from iqloop.recipes.serve.refusal import Refusal

AGAIN = {"Retry-After": "1"}


class Room:
    """Counts requests and the bytes of their bodies. Raises `Refusal` (503) for one more than there is room for."""

    def __init__(self, places: int, size: int) -> None:
        self.places, self.size = places, size
        self.taken = self.held = 0

    def enter(self, declared: int) -> Visit:
        """Let a request in whose body is ``declared`` bytes long, 0 where nobody says."""
        if self.taken >= self.places:
            raise Refusal(503, f"busy: {self.taken} requests are being answered; try again later", AGAIN)
        self._hold(declared)
        self.taken += 1
        return Visit(self, declared)

    def _hold(self, count: int) -> None:
        if self.held + count > self.size:
            raise Refusal(503, f"busy: uploads hold {self.held / 2**20:.0f} MB; try again later", AGAIN)
        self.held += count


class Visit:
    """One request that was let in."""

    def __init__(self, room: Room, reserved: int) -> None:
        self._room, self._reserved = room, reserved
        self.read = 0
        """Bytes of the body so far."""

    def take(self, count: int) -> None:
        """So many more bytes have come."""
        self.read += count
        if self.read > self._reserved:
            self._room._hold(self.read - self._reserved)
            self._reserved = self.read

    def leave(self) -> None:
        """The request is over."""
        self._room.taken -= 1
        self._room.held -= self._reserved
