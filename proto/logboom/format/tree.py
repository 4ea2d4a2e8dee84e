"""The canonical tree: where each stream lies in its run's folder (LAYOUT.md).

Law
    * A path here is relative to the run's folder, with ``/``, and made only of names that were
      checked. Attempt 0 is the run's folder itself; attempt n is ``retry_00n/``.
    * A process's paths follow from its attributes alone. Any other path that is taken in its
      attempt gets ``_1``, ``_2``, ... before its suffix.
    * ``.logboom/`` is ours and stands once, in the run's folder.
"""

from __future__ import annotations

import ipaddress

from logboom.format.errors import BadName
from logboom.format.stream import Kind, StreamAttributes

RUNS = "runs"
LATEST = "latest"
OURS = ".logboom"
JOURNAL = OURS + "/journal.jsonl"
RUN_JSON = OURS + "/run.json"
SPANS = OURS + "/spans"
EVENTS = OURS + "/events"
METRICS = OURS + "/metrics"
PROCESS_INFO = "azureml-logs/process_info.json"
PROCESS_STATUS = "azureml-logs/process_status.json"
EXECUTION_LOG = "logs/azureml/executionlogs.txt"
STDOUT_LOG = "logs/azureml/stdoutlogs.txt"
STDERR_LOG = "logs/azureml/stderrlogs.txt"


def attempt_folder(attempt: int) -> str:
    """Return an attempt's folder in the run's: ``""`` for 0, else ``retry_00n/``."""
    return "" if attempt == 0 else "retry_%03d/" % attempt


def is_ranked(attributes: StreamAttributes) -> bool:
    """Say whether the process is one of several, so that its rank stands in its paths."""
    return attributes.rank is not None and attributes.world_size > 1


def _rank_of(attributes: StreamAttributes, form: str) -> str:
    return form % attributes.rank if is_ranked(attributes) else ""


def process_name(attributes: StreamAttributes) -> str:
    """Return the name of a process in process_info.json and process_status.json."""
    if attributes.name:
        return attributes.name
    return "worker_%d" % (attributes.rank or 0)


def control_log(attributes: StreamAttributes, pid: int) -> str:
    """Return where a process's control log lies, in its attempt's folder."""
    return "logs/azureml/%s%d_azureml.log" % (_rank_of(attributes, "%d_"), pid)


def node_folder(node_ip: str) -> str:
    """Return a node's folder in its attempt's, ``<node_ip>/``; "" where it has no address.

    An IPv6 address is compressed, with ``-`` for ``:``, and without its zone.
    """
    try:
        address = ipaddress.ip_address(node_ip.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address).replace(":", "-") + "/"


def flat_path(path: str) -> str:
    """Return where the file at a path of a node's folder lies in the flat tree.

    Both are in the run's folder. Other paths come back as they are.
    """
    parts = path.split("/")
    at = 1 if parts[0].startswith("retry_") else 0
    if (
        at < len(parts)
        and parts[at]
        and parts[at] + "/"
        in (
            node_folder(parts[at]),
            node_folder(parts[at].replace("-", ":")),
        )
    ):
        del parts[at]
    return "/".join(parts)


def link_target(path: str, depth: int) -> str:
    """Return the relative target of a link to ``path`` that lies ``depth`` folders deeper."""
    folders = path.count("/") + depth
    return "../" * folders + path


def stream_path(attributes: StreamAttributes, node_id: str) -> str:
    """Return where a stream lies, in its attempt's folder. Raises ``BadName``.

    Events and metrics lie below ``.logboom/`` of the run's folder, whatever the attempt:
    ``is_per_run`` says so.
    """
    kind = attributes.kind
    if kind is Kind.DRIVER:
        rank = _rank_of(attributes, "_%d")
        return "azureml-logs/70_driver_log%s.txt" % rank
    if kind is Kind.EVENTS:
        return "%s/%s.jsonl" % (EVENTS, attributes.process)
    if kind is Kind.METRICS:
        return "%s/%s.jsonl" % (METRICS, attributes.process or attributes.id)
    if kind is Kind.PIPE:
        if attributes.name == "azureml" or attributes.name.startswith("rank_"):
            raise BadName("name %r is one that the tree uses itself" % attributes.name)
        return "logs/%s.txt" % (attributes.name or "pipe")
    if kind is Kind.FILE:
        rank = _rank_of(attributes, "rank_%d/")
        return "logs/%s%s" % (rank, "/".join(check_parts(attributes.path)))
    return {
        Kind.MPI: "azureml-logs/70_mpi_log.txt",
        Kind.LAUNCHER: "logs/azureml/launcher-%s.txt" % node_id,
        Kind.IMAGE_BUILD: "azureml-logs/20_image_build_log.txt",
        Kind.EXECUTION: "azureml-logs/55_azureml-execution-%s.txt" % node_id,
        Kind.JOB_PREP: "azureml-logs/65_job_prep-%s.txt" % node_id,
        Kind.JOB_POST: "azureml-logs/75_job_post-%s.txt" % node_id,
        Kind.START_CMS: "logs/azureml/sidecar/%s/start_cms.txt" % node_id,
        Kind.PREP_CMD: "logs/azureml/sidecar/%s/prep_cmd.txt" % node_id,
        Kind.RELEASE_CMD: "logs/azureml/sidecar/%s/release_cmd.txt" % node_id,
    }[kind]


def is_per_run(kind: Kind) -> bool:
    """Say whether streams of this kind lie in the run's folder whatever their attempt."""
    return kind in (Kind.EVENTS, Kind.METRICS)


def check_parts(path: str) -> list[str]:
    """Return the parts of a user's path. Raises ``BadName`` where it could leave its folder.

    At most 32 parts of 1 to 255 bytes, UTF-8, no control characters, no ``.`` or ``..``. A first
    part that the tree uses itself (``azureml...``, ``rank_...``) gets ``_`` before it.
    """
    parts = path.split("/")
    for part in parts:
        size = len(part.encode("utf-8", "surrogatepass"))
        if (
            not 1 <= size <= 255
            or part in (".", "..")
            or any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in part)
        ):
            raise BadName("path %r is not one we can store" % path[:200])
    if len(parts) > 32:
        raise BadName("path %r has more than 32 parts" % path[:200])
    if parts[0] == "azureml" or parts[0].startswith("rank_"):
        parts[0] = "_" + parts[0]
    return parts


def numbered(path: str, number: int) -> str:
    """Return ``path`` with ``_<number>`` before its suffix: the way out where it is taken."""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    return "%s%s%s_%d%s%s" % (folder, slash, stem, number, dot, suffix)


def spans_path(path: str) -> str:
    """Return where the spans of the stream at ``path`` (in the run's folder) lie."""
    return "%s/%s" % (SPANS, path)
