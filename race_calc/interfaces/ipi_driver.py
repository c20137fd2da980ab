"""The other end of a socket of i-PI: structures come, energies, forces, virials and extras go.

Why not the `i-pi-py_driver` of i-PI 3.3.1: it never notices that i-PI is gone, and turns in a loop then.
"""

import re
import socket
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase.calculators.socketio import IPIProtocol, SocketClosed, actualunixsocketname

Results = Sequence[tuple[float, np.ndarray, np.ndarray, str]]


def serve(driver: Callable[[list, list], Results], unix: str | None, address: str, port: int) -> None:
    """Answer i-PI until it ends. unix: name of a socket with mode 'unix'; None: address and port of one with mode 'inet'.

    driver: cells (B, 3, 3) and positions (B, N, 3) in bohr → energies, forces, virials, extras, in atomic units. Where i-PI asks for
    `batch_size` structures at once, B is that, else 1. Raises ValueError where no i-PI answers.
    """
    where = unix or f"{address}:{port}"
    with socket.socket(socket.AF_INET if unix is None else socket.AF_UNIX) as end:
        try:
            end.connect((address, port) if unix is None else actualunixsocketname(unix))
        except OSError as error:
            raise ValueError(f"no i-PI answers at {where} ({error}): start it first, and give the address of its ffsocket") from error
        try:
            _answer(IPIProtocol(end), driver)
        except (SocketClosed, ConnectionError):
            return  # i-PI is gone


def _answer(protocol: IPIProtocol, driver: Callable[[list, list], Results]) -> None:
    batch, state, atoms = 1, "NEEDINIT", 0
    results: Results = ()
    while (message := protocol.recvmsg()) != "EXIT":
        if message == "STATUS":
            protocol.sendmsg(state)
        elif message == "INIT":
            _, text = protocol.recvinit()
            batch, state = _batch_size(text), "READY"
        elif message == "POSDATA":
            cells, positions = _received(protocol, batch)
            results, atoms, state = driver(cells, positions), positions[0].shape[0], "HAVEDATA"
        elif message == "GETFORCE":
            _send(protocol, results, atoms)
            state = "READY"
        else:
            raise ValueError(f"i-PI sent {message!r}, which is not understood: its version is another one than this driver was written for")


def _batch_size(text: np.ndarray) -> int:
    found = re.search(r"batch_size\s*:\s*(\d+)", text.tobytes().decode("utf-8", errors="replace"))
    return int(found[1]) if found else 1


def _received(protocol: IPIProtocol, batch: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """One structure: cell, inverse, number of atoms, positions; several: number first, then all cells, all positions."""
    if batch > 1:
        n = int(protocol.recv(1, np.int32)[0])
        return list(protocol.recv((batch, 2, 3, 3), np.float64)[:, 0]), list(protocol.recv((batch, n, 3), np.float64))
    cell, _ = protocol.recv((2, 3, 3), np.float64)
    n = int(protocol.recv(1, np.int32)[0])
    return [cell], [protocol.recv((n, 3), np.float64)]


def _send(protocol: IPIProtocol, results: Results, atoms: int) -> None:
    energies, forces, virials, extras = zip(*results)
    protocol.sendmsg("FORCEREADY")
    protocol.send(energies, np.float64)
    protocol.send(atoms, np.int32)
    protocol.send(forces, np.float64)
    protocol.send(virials, np.float64)
    for extra in extras:
        told: Any = np.frombuffer(extra.encode("utf-8"), np.byte)
        protocol.send(len(told), np.int32)
        protocol.send(told, np.byte)
