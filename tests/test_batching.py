"""What the daemon writes in pieces arrives whole and in order, however little the other side takes at a time."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from paho.mqtt.enums import CallbackAPIVersion

from config_daemon.daemon.batching import PIECE_BYTES, BatchingClient


@pytest.fixture
def ends() -> Iterator[tuple[BatchingClient, socket.socket]]:
    """Yield a client whose socket takes little at a time, and the other end."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setblocking(False)
    theirs.setblocking(False)
    client = BatchingClient(CallbackAPIVersion.VERSION2)
    client._sock = ours
    yield client, theirs
    ours.close()
    theirs.close()


def taken(theirs: socket.socket) -> bytes:
    try:
        return theirs.recv(1 << 20)
    except BlockingIOError:
        return b""


def written(client: BatchingClient, theirs: socket.socket, pieces: list[bytes]) -> bytes:
    """Write as paho does: what is not taken is offered again."""
    found = b""
    for piece in pieces:
        while True:
            try:
                assert client._sock_send(piece) == len(piece)
                break
            except BlockingIOError:
                found += taken(theirs)
    client.gathers = False
    while client.want_write():
        client.flush()
        found += taken(theirs)
    return found


def test_what_is_gathered_arrives_in_order(ends: tuple[BatchingClient, socket.socket]) -> None:
    client, theirs = ends
    client.gathers = True
    pieces = [bytes([number % 256]) * 1900 for number in range(400)]
    assert written(client, theirs, pieces) == b"".join(pieces)


def test_nothing_is_kept_back_by_who_does_not_gather(ends: tuple[BatchingClient, socket.socket]) -> None:
    client, theirs = ends
    client._sock_send(b"one")
    assert taken(theirs) == b"one"
    client.gathers = True
    client._sock_send(b"two")
    assert taken(theirs) == b""
    assert client.want_write()
    client.gathers = False
    client._sock_send(b"three")
    assert taken(theirs) == b"twothree"
    assert not client.want_write()


def test_no_more_than_a_piece_is_kept_back(ends: tuple[BatchingClient, socket.socket]) -> None:
    client, _theirs = ends
    client.gathers = True
    with pytest.raises(BlockingIOError):  # nobody reads: paho keeps the rest
        for _ in range(1000):
            client._sock_send(b"x" * 1000)
    assert len(client._gathered) <= PIECE_BYTES + 1000


def test_a_good_bye_is_said_before_the_socket_closes(ends: tuple[BatchingClient, socket.socket]) -> None:
    client, theirs = ends
    client.gathers = True
    client._sock_send(b"good-bye")
    client._sock_close()
    assert taken(theirs) == b"good-bye"


def test_what_was_read_ahead_is_told_and_given_in_any_size(
    ends: tuple[BatchingClient, socket.socket],
) -> None:
    client, theirs = ends
    sent = bytes(range(256)) * 200
    theirs.setblocking(True)
    theirs.sendall(sent[:1000])
    assert client._sock_recv(1) == sent[:1]
    assert client.has_ahead
    assert client._sock_recv(700) == sent[1:701]
    assert client._sock_recv(700) == sent[701:1000]  # what there is, as a socket does
    assert not client.has_ahead
    with pytest.raises(BlockingIOError):
        client._sock_recv(1)
    theirs.sendall(sent[1000:])
    assert client._sock_recv(PIECE_BYTES * 4) == sent[1000:]
    theirs.close()
    assert client._sock_recv(1) == b""
