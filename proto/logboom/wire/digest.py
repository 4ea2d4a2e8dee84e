"""A stream's digest: the BLAKE3 over the BLAKE3s of its 16 MiB blocks.

The digest joins the raw 32-byte hashes of the blocks, the last block as long as it is, none for
an empty stream; so a restart rehashes one block, not the stream.
"""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from logboom.format.spool import BLOCK_BYTES


def block_hash(content: bytes | memoryview) -> bytes:
    """Return the 32-byte hash of one block."""
    return blake3(content).digest()


def stream_digest(block_hashes: Iterable[bytes]) -> bytes:
    """Return the 32-byte digest of a stream from the hashes of its blocks, in order."""
    return blake3(b"".join(block_hashes)).digest()


class Digester:
    """Takes a stream's bytes in order, in pieces of any size, and gives its digest."""

    def __init__(self) -> None:
        self.length = 0
        self._hashes: list[bytes] = []
        self._block = blake3()

    def update(self, content: bytes | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(content)
        while len(view):
            room = BLOCK_BYTES - self.length % BLOCK_BYTES
            taken = view[:room]
            self._block.update(taken)
            self.length += len(taken)
            if self.length % BLOCK_BYTES == 0:
                self._hashes.append(self._block.digest())
                self._block = blake3()
            view = view[room:]

    def digest(self) -> bytes:
        """Return the digest of what was taken so far."""
        tail = [self._block.digest()] if self.length % BLOCK_BYTES else []
        return stream_digest(self._hashes + tail)
