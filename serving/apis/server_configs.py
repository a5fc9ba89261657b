"""The server's own configuration files: where the default ones are, and the messages that they hold.

tensorflow-serving-api does not ship these messages: they are made by hand, in the private pool of `messages`; numbers
and names are TF Serving's: config/ and servables/tensorflow/session_bundle_config.proto in
https://github.com/tensorflow/serving/tree/master/tensorflow_serving
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf import wrappers_pb2

from serving.apis import handmade, messages

# models.config, batching.config and monitoring.config, which every server uses unless it is told otherwise.
CONFIG_DIR = Path(__file__).parents[1] / "config"

_PACKAGE = "tensorflow.serving"
_INT64 = "google.protobuf.Int64Value"
_BOOL = "google.protobuf.BoolValue"

_MESSAGES = {
    "SSLConfig": (
        (1, "server_key", "string"),
        (2, "server_cert", "string"),
        (3, "custom_ca", "string"),
        (4, "client_verify", "bool"),
    ),
    "PrometheusConfig": ((1, "enable", "bool"), (2, "path", "string")),
    "MonitoringConfig": ((1, "prometheus_config", f"{_PACKAGE}.PrometheusConfig"),),
    "BatchingParameters": (
        (1, "max_batch_size", _INT64),
        (2, "batch_timeout_micros", _INT64),
        (3, "max_enqueued_batches", _INT64),
        (4, "num_batch_threads", _INT64),
        (5, "thread_pool_name", "google.protobuf.StringValue"),
        (6, "allowed_batch_sizes", "int64[]"),
        (7, "pad_variable_length_inputs", "bool"),
        (8, "enable_large_batch_splitting", _BOOL),
        (9, "max_execution_batch_size", _INT64),
    ),
}


handmade.add("serving/apis/server_configs.proto", _PACKAGE, _MESSAGES, imports=[wrappers_pb2.DESCRIPTOR.name])

SSLConfig = messages.message_class(f"{_PACKAGE}.SSLConfig")
PrometheusConfig = messages.message_class(f"{_PACKAGE}.PrometheusConfig")
MonitoringConfig = messages.message_class(f"{_PACKAGE}.MonitoringConfig")
BatchingParameters = messages.message_class(f"{_PACKAGE}.BatchingParameters")
