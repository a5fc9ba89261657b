from google.protobuf.message import Message

SERVICE: str

class ProfileOptions(Message):
    host_tracer_level: int
    device_tracer_level: int
    python_tracer_level: int
    def __init__(
        self, *, host_tracer_level: int = ..., device_tracer_level: int = ..., python_tracer_level: int = ...
    ) -> None: ...

class ProfileRequest(Message):
    duration_ms: int
    @property
    def opts(self) -> ProfileOptions: ...
    repository_root: str
    session_id: str
    host_name: str
    emit_xspace: bool
    def __init__(
        self,
        *,
        duration_ms: int = ...,
        opts: ProfileOptions | None = ...,
        repository_root: str = ...,
        session_id: str = ...,
        host_name: str = ...,
        emit_xspace: bool = ...,
    ) -> None: ...

class ProfileResponse(Message):
    empty_trace: bool
    xspace: bytes
    def __init__(self, *, empty_trace: bool = ..., xspace: bytes = ...) -> None: ...

class TerminateRequest(Message):
    session_id: str
    def __init__(self, *, session_id: str = ...) -> None: ...

class TerminateResponse(Message):
    def __init__(self) -> None: ...
