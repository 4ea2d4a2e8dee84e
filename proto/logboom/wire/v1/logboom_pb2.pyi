from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FromAgent(_message.Message):
    __slots__ = ("hello", "open", "batch", "end", "ping")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    open: Open
    batch: Batch
    end: End
    ping: Ping
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ...) -> None: ...

class ToAgent(_message.Message):
    __slots__ = ("welcome", "opened", "ack", "resume", "refused", "pong")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    opened: Opened
    ack: Ack
    resume: Resume
    refused: Refused
    pong: Pong
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("oldest_version", "newest_version", "program_version", "node_id", "node_ip", "spool_id", "boot_id")
    OLDEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEWEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_IP_FIELD_NUMBER: _ClassVar[int]
    SPOOL_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    oldest_version: int
    newest_version: int
    program_version: str
    node_id: str
    node_ip: str
    spool_id: str
    boot_id: str
    def __init__(self, oldest_version: _Optional[int] = ..., newest_version: _Optional[int] = ..., program_version: _Optional[str] = ..., node_id: _Optional[str] = ..., node_ip: _Optional[str] = ..., spool_id: _Optional[str] = ..., boot_id: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "program_version", "node_id", "store_id", "batch_limit_bytes", "window_bytes", "min_gap_ms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_BYTES_FIELD_NUMBER: _ClassVar[int]
    MIN_GAP_MS_FIELD_NUMBER: _ClassVar[int]
    version: int
    program_version: str
    node_id: str
    store_id: str
    batch_limit_bytes: int
    window_bytes: int
    min_gap_ms: int
    def __init__(self, version: _Optional[int] = ..., program_version: _Optional[str] = ..., node_id: _Optional[str] = ..., store_id: _Optional[str] = ..., batch_limit_bytes: _Optional[int] = ..., window_bytes: _Optional[int] = ..., min_gap_ms: _Optional[int] = ...) -> None: ...

class Attributes(_message.Message):
    __slots__ = ("id", "kind", "run_id", "process", "rank", "world_size", "local_rank", "pid", "name", "launch_mark", "attempt", "host", "boot_id", "started_boot_ns", "started_unix_ns", "path")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    WORLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_RANK_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_MARK_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_BOOT_NS_FIELD_NUMBER: _ClassVar[int]
    STARTED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    run_id: str
    process: str
    rank: int
    world_size: int
    local_rank: int
    pid: int
    name: str
    launch_mark: str
    attempt: int
    host: str
    boot_id: str
    started_boot_ns: int
    started_unix_ns: int
    path: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., run_id: _Optional[str] = ..., process: _Optional[str] = ..., rank: _Optional[int] = ..., world_size: _Optional[int] = ..., local_rank: _Optional[int] = ..., pid: _Optional[int] = ..., name: _Optional[str] = ..., launch_mark: _Optional[str] = ..., attempt: _Optional[int] = ..., host: _Optional[str] = ..., boot_id: _Optional[str] = ..., started_boot_ns: _Optional[int] = ..., started_unix_ns: _Optional[int] = ..., path: _Optional[str] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("number", "attributes", "lowest_offset", "clock_offset_ns", "clock_error_ns")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    LOWEST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ERROR_NS_FIELD_NUMBER: _ClassVar[int]
    number: int
    attributes: Attributes
    lowest_offset: int
    clock_offset_ns: int
    clock_error_ns: int
    def __init__(self, number: _Optional[int] = ..., attributes: _Optional[_Union[Attributes, _Mapping]] = ..., lowest_offset: _Optional[int] = ..., clock_offset_ns: _Optional[int] = ..., clock_error_ns: _Optional[int] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("number", "path", "durable_offset", "ended")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DURABLE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    number: int
    path: str
    durable_offset: int
    ended: bool
    def __init__(self, number: _Optional[int] = ..., path: _Optional[str] = ..., durable_offset: _Optional[int] = ..., ended: _Optional[bool] = ...) -> None: ...

class Piece(_message.Message):
    __slots__ = ("number", "offset", "length", "xxh3", "spans")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    XXH3_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    number: int
    offset: int
    length: int
    xxh3: int
    spans: bytes
    def __init__(self, number: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., xxh3: _Optional[int] = ..., spans: _Optional[bytes] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("pieces", "raw_length", "compressed")
    PIECES_FIELD_NUMBER: _ClassVar[int]
    RAW_LENGTH_FIELD_NUMBER: _ClassVar[int]
    COMPRESSED_FIELD_NUMBER: _ClassVar[int]
    pieces: _containers.RepeatedCompositeFieldContainer[Piece]
    raw_length: int
    compressed: bytes
    def __init__(self, pieces: _Optional[_Iterable[_Union[Piece, _Mapping]]] = ..., raw_length: _Optional[int] = ..., compressed: _Optional[bytes] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("number", "length", "digest", "why", "boot_ns")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    BOOT_NS_FIELD_NUMBER: _ClassVar[int]
    number: int
    length: int
    digest: bytes
    why: str
    boot_ns: int
    def __init__(self, number: _Optional[int] = ..., length: _Optional[int] = ..., digest: _Optional[bytes] = ..., why: _Optional[str] = ..., boot_ns: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("streams", "min_gap_ms")
    class Stream(_message.Message):
        __slots__ = ("number", "durable_offset", "ended")
        NUMBER_FIELD_NUMBER: _ClassVar[int]
        DURABLE_OFFSET_FIELD_NUMBER: _ClassVar[int]
        ENDED_FIELD_NUMBER: _ClassVar[int]
        number: int
        durable_offset: int
        ended: bool
        def __init__(self, number: _Optional[int] = ..., durable_offset: _Optional[int] = ..., ended: _Optional[bool] = ...) -> None: ...
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    MIN_GAP_MS_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[Ack.Stream]
    min_gap_ms: int
    def __init__(self, streams: _Optional[_Iterable[_Union[Ack.Stream, _Mapping]]] = ..., min_gap_ms: _Optional[int] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("number", "offset")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    number: int
    offset: int
    def __init__(self, number: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("number", "reason", "retry")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    number: int
    reason: str
    retry: bool
    def __init__(self, number: _Optional[int] = ..., reason: _Optional[str] = ..., retry: _Optional[bool] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("sequence", "unix_ns")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    unix_ns: int
    def __init__(self, sequence: _Optional[int] = ..., unix_ns: _Optional[int] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("run_id", "stream", "path", "start", "follow")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    stream: str
    path: str
    start: int
    follow: bool
    def __init__(self, run_id: _Optional[str] = ..., stream: _Optional[str] = ..., path: _Optional[str] = ..., start: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class ReadReply(_message.Message):
    __slots__ = ("offset", "content", "spans", "durable_offset")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    DURABLE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    content: bytes
    spans: bytes
    durable_offset: int
    def __init__(self, offset: _Optional[int] = ..., content: _Optional[bytes] = ..., spans: _Optional[bytes] = ..., durable_offset: _Optional[int] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("run_id", "closed", "streams", "state", "attempts")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    closed: str
    streams: _containers.RepeatedCompositeFieldContainer[RunStream]
    state: str
    attempts: _containers.RepeatedCompositeFieldContainer[RunAttempt]
    def __init__(self, run_id: _Optional[str] = ..., closed: _Optional[str] = ..., streams: _Optional[_Iterable[_Union[RunStream, _Mapping]]] = ..., state: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[RunAttempt, _Mapping]]] = ...) -> None: ...

class RunAttempt(_message.Message):
    __slots__ = ("number", "state", "ended", "reason", "ended_unix_ns")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENDED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    number: int
    state: str
    ended: bool
    reason: str
    ended_unix_ns: int
    def __init__(self, number: _Optional[int] = ..., state: _Optional[str] = ..., ended: _Optional[bool] = ..., reason: _Optional[str] = ..., ended_unix_ns: _Optional[int] = ...) -> None: ...

class RunStream(_message.Message):
    __slots__ = ("attributes", "attempt", "path", "node_id", "node_ip", "durable_offset", "ended", "length", "digest", "corrupt", "status")
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_IP_FIELD_NUMBER: _ClassVar[int]
    DURABLE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CORRUPT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    attributes: Attributes
    attempt: int
    path: str
    node_id: str
    node_ip: str
    durable_offset: int
    ended: bool
    length: int
    digest: bytes
    corrupt: bool
    status: str
    def __init__(self, attributes: _Optional[_Union[Attributes, _Mapping]] = ..., attempt: _Optional[int] = ..., path: _Optional[str] = ..., node_id: _Optional[str] = ..., node_ip: _Optional[str] = ..., durable_offset: _Optional[int] = ..., ended: _Optional[bool] = ..., length: _Optional[int] = ..., digest: _Optional[bytes] = ..., corrupt: _Optional[bool] = ..., status: _Optional[str] = ...) -> None: ...

class EndRunRequest(_message.Message):
    __slots__ = ("run_id", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class EndRunReply(_message.Message):
    __slots__ = ("was_closed",)
    WAS_CLOSED_FIELD_NUMBER: _ClassVar[int]
    was_closed: bool
    def __init__(self, was_closed: _Optional[bool] = ...) -> None: ...
