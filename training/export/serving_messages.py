"""The few messages of TensorFlow Serving that an export reads or writes; TensorFlow itself ships none of them.

Described here field by field, with the numbers of
https://github.com/tensorflow/serving/tree/master/tensorflow_serving (apis/*.proto, config/model_server_config.proto,
servables/tensorflow/session_bundle_config.proto), in a descriptor pool of their own: the default pool would clash with
the full messages where both are loaded. TensorFlow's own messages inside them (TensorProto, Example) are fields of
bytes here, which is the same on the wire.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from google.protobuf.message import Message

from training.errors import TrainingUsageError

_PACKAGE = "tensorflow.serving"
_INT64 = "google.protobuf.Int64Value"
# name: number and type; a type is a scalar's name or a message's, `*` is repeated, `map` is from string.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelSpec": {"name": (1, "string"), "signature_name": (3, "string")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "map bytes")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "ExampleList": {"examples": (1, "*bytes")},
    "Input": {"example_list": (1, "ExampleList")},
    "ClassificationRequest": {"model_spec": (1, "ModelSpec"), "input": (2, "Input")},
    "ClassifyLog": {"request": (1, "ClassificationRequest")},
    "PredictionLog": {"classify_log": (2, "ClassifyLog"), "predict_log": (6, "PredictLog")},
    "BatchingParameters": {"max_batch_size": (1, _INT64), "allowed_batch_sizes": (6, "*int64")},
    "Specific": {"versions": (1, "*int64")},
    "ServableVersionPolicy": {"specific": (102, "Specific")},
    "ModelConfig": {
        "name": (1, "string"),
        "base_path": (2, "string"),
        "model_version_policy": (7, "ServableVersionPolicy"),
        "version_labels": (8, "map int64"),
    },
    "ModelConfigList": {"config": (1, "*ModelConfig")},
    "ModelServerConfig": {"model_config_list": (1, "ModelConfigList")},
}
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Field.TYPE_STRING, "bytes": _Field.TYPE_BYTES, "int64": _Field.TYPE_INT64}


def message(kind: str, **fields: Any) -> Any:
    """A message of the table above, by its name; typed loosely, since its class is made while the program runs."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{kind}"))(**fields)


def read_text(path: Path, name: str) -> Any:
    """A text protobuf file as the message `name`, passing over fields that are not described here.

    Raises TrainingUsageError when the file cannot be read or is no text protobuf.
    """
    parsed: Message = message(name)
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), parsed, allow_unknown_field=True)
    except OSError as error:
        raise TrainingUsageError(f"Cannot read {path}: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise TrainingUsageError(f"{path} is not a {name} in text protobuf: {error}") from error
    return parsed


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="training/serving_messages.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(described, field, number, kind)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _add_field(described: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    if kind.startswith("map "):
        entry = name.title().replace("_", "") + "Entry"
        nested = described.nested_type.add(name=entry, options=descriptor_pb2.MessageOptions(map_entry=True))
        _add_field(nested, "key", 1, "string")
        _add_field(nested, "value", 2, kind.removeprefix("map "))
        kind = f"*{described.name}.{entry}"
    field = described.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind.startswith("*"):
        field.label = _Field.LABEL_REPEATED
        kind = kind.removeprefix("*")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{kind}" if kind.startswith("google.") else f".{_PACKAGE}.{kind}"


_POOL = _pool()
