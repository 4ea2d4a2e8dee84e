"""The node: what the agent alone says about where its streams come from.

Law
    * The id: the flag, else ``node.json`` in the spool, else variable or configuration, else the
      host's name made a name. The address: the same, else the one that reaches the collector.
    * ``node.json`` keeps the spool's random id for ever, and node id and address, so that every
      agent of this spool says the same. An address that was not said by flag is looked up again
      after a boot: the node may have got another.
    * Never a loopback address where the node has others, unless somebody says so.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import socket
from dataclasses import dataclass
from importlib import metadata

from logboom.agent.custody import write_whole
from logboom.agent.spool import Rights, SpoolError
from logboom.format.errors import UsageError
from logboom.format.ids import check_name, is_id, is_name, make_name
from logboom.format.spool import NODE_JSON

VERSION = 1
_log = logging.getLogger("logboom.agent")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_SOMEWHERE = ("192.0.2.1", "2001:db8::1")  # documentation addresses: nothing is sent there


@dataclass(frozen=True)
class Node:
    """Who this agent is, to the collector."""

    id: str
    ip: str
    spool_id: str
    boot_id: str
    program: str


@dataclass(frozen=True)
class Said:
    """What somebody said of the node: by flag, and otherwise (variable, configuration)."""

    flag_id: str = ""
    flag_ip: str = ""
    other_id: str = ""
    other_ip: str = ""


def check_address(value: str) -> str:
    """Return an IP address in its shortest form. Raises ``UsageError``."""
    try:
        found = ipaddress.ip_address(value)
    except ValueError as error:
        raise UsageError(
            f"node address {value!r} is no IP address", "give one such as 10.0.0.5"
        ) from error
    if getattr(found, "scope_id", None):
        raise UsageError(f"node address {value!r} has a zone", "give an address without one")
    return str(found)


def boot_id() -> str:
    """Return the id of this boot, or nothing where the kernel does not say."""
    try:
        with open(_BOOT_ID) as file:
            return file.read().strip()
    except OSError:
        return ""


def program_version() -> str:
    """Return this logboom's version."""
    try:
        return metadata.version("logboom")
    except metadata.PackageNotFoundError:
        return "unknown"


def address_towards(collector: str) -> str:
    """Return the address of this node that reaches the collector; a loopback one only at need."""
    host, _, port = collector.rpartition(":")
    found = _source_address(host.strip("[]"), int(port))
    for other in _SOMEWHERE:
        if found and not ipaddress.ip_address(found).is_loopback:
            break
        towards = _source_address(other, 9)
        if towards and not ipaddress.ip_address(towards).is_loopback:
            found = towards
    return found or "127.0.0.1"


def _source_address(host: str, port: int) -> str:
    try:
        known = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError:
        return ""
    for family, kind, protocol, _, address in known:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(address)
                return str(ipaddress.ip_address(str(probe.getsockname()[0]).partition("%")[0]))
        except (OSError, ValueError):
            continue
    return ""


def make_node(spool: str, rights: Rights, said: Said, collector: str, random: bytes) -> Node:
    """Return who we are, and keep it in ``node.json``. Call it with the agent's lock held.

    ``random``: 16 bytes, for a spool that has no id yet. Raises ``UsageError`` on a bad id or
    address, ``SpoolError`` where ``node.json`` cannot be read.
    """
    for what in (said.flag_id, said.other_id):
        if what:
            check_name("node id", what)
    for what in (said.flag_ip, said.other_ip):
        if what:
            check_address(what)
    path = os.path.join(spool, NODE_JSON)
    kept = _read(path)
    here = boot_id()
    kept_ip = kept.get("node_ip", "")
    if not kept.get("is_ip_said") and kept.get("boot_id") != here:
        kept_ip = ""
    ip = said.flag_ip or kept_ip or said.other_ip or address_towards(collector)
    found = {
        "version": VERSION,
        "spool_id": kept.get("spool_id") or random.hex(),
        "node_id": said.flag_id or kept.get("node_id") or said.other_id or make_name(_host_name()),
        "node_ip": check_address(str(ip)),
        "is_ip_said": bool(said.flag_ip or kept.get("is_ip_said")),
        "boot_id": here,
    }
    if found != kept:
        _write(path, found, rights)
    return Node(
        str(found["node_id"]), str(found["node_ip"]), str(found["spool_id"]), here,
        program_version(),
    )  # fmt: skip


def _host_name() -> str:
    return socket.gethostname() or "node"


def _read(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read())
        sound = (
            found["version"] == VERSION
            and is_id(found["spool_id"])
            and is_name(found["node_id"])
            and check_address(found["node_ip"])
        )
        if not sound:
            raise ValueError("it is not of this version")
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, UsageError) as error:
        # Made up anew, the spool's id would make of one node two.
        raise SpoolError(
            f"{path} cannot be read ({error})", "mend it, or remove it to make this a new node"
        ) from error
    except OSError as error:
        raise SpoolError(f"{path} cannot be read: {error.strerror}") from error
    return dict(found)


def _write(path: str, found: dict[str, object], rights: Rights) -> None:
    folder_fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        content = json.dumps(found, indent=1).encode() + b"\n"
        write_whole(folder_fd, NODE_JSON, content, rights)
    except OSError as error:
        # A full disk gets room by shipping. Without a kept id the next agent may be another node.
        _log.warning("%s cannot be written: %s", path, error.strerror)
    finally:
        os.close(folder_fd)
