from collections.abc import Iterable
from pathlib import Path

from google.protobuf.internal.containers import RepeatedScalarFieldContainer
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue, Int64Value, StringValue

CONFIG_DIR: Path

class SSLConfig(Message):
    server_key: str
    server_cert: str
    custom_ca: str
    client_verify: bool
    def __init__(
        self, *, server_key: str = ..., server_cert: str = ..., custom_ca: str = ..., client_verify: bool = ...
    ) -> None: ...

class PrometheusConfig(Message):
    enable: bool
    path: str
    def __init__(self, *, enable: bool = ..., path: str = ...) -> None: ...

class MonitoringConfig(Message):
    @property
    def prometheus_config(self) -> PrometheusConfig: ...
    def __init__(self, *, prometheus_config: PrometheusConfig | None = ...) -> None: ...

class BatchingParameters(Message):
    @property
    def max_batch_size(self) -> Int64Value: ...
    @property
    def batch_timeout_micros(self) -> Int64Value: ...
    @property
    def max_enqueued_batches(self) -> Int64Value: ...
    @property
    def num_batch_threads(self) -> Int64Value: ...
    @property
    def thread_pool_name(self) -> StringValue: ...
    @property
    def allowed_batch_sizes(self) -> RepeatedScalarFieldContainer[int]: ...
    pad_variable_length_inputs: bool
    @property
    def enable_large_batch_splitting(self) -> BoolValue: ...
    @property
    def max_execution_batch_size(self) -> Int64Value: ...
    def __init__(self, *, allowed_batch_sizes: Iterable[int] = ..., pad_variable_length_inputs: bool = ...) -> None: ...
