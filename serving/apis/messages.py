"""The API's protobuf messages, made on first use from `descriptors.binpb`: `messages.PredictRequest()`.

They live in a private `DescriptorPool`: TensorFlow registers the same file names in the default one, and two
registrations in one process clash. `messages.pyi` gives type checkers their fields. Every top-level message and enum
value of the files that `tools/generate_apis.py` lists is an attribute, under its short name.
"""

from __future__ import annotations

from importlib import resources

from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

_PACKAGES = ("tensorflow.serving", "tensorflow", "google.rpc")


def _load() -> tuple[DescriptorPool, dict[str, int]]:
    pool = DescriptorPool()
    enum_values = {}
    for file in FileDescriptorSet.FromString((resources.files(__package__) / "descriptors.binpb").read_bytes()).file:
        pool.Add(file)
        for enum in file.enum_type:
            enum_values.update({value.name: value.number for value in enum.value})
    return pool, enum_values


POOL, _ENUM_VALUES = _load()


def message_class(full_name: str) -> type[Message]:
    """The class of a message of the private pool, by its full name (`tensorflow.TensorProto`).

    Raises KeyError when the API has no such message.
    """
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))


def service(full_name: str) -> ServiceDescriptor:
    """The descriptor of a service, by its full name (`tensorflow.serving.PredictionService`)."""
    return POOL.FindServiceByName(full_name)


def __getattr__(name: str) -> object:
    if name in _ENUM_VALUES:
        return _ENUM_VALUES[name]
    for package in _PACKAGES:
        try:
            message = message_class(f"{package}.{name}")
        except KeyError:
            continue
        globals()[name] = message
        return message
    raise AttributeError(f"the TF Serving API has no message or enum value {name!r}")
