"""Messages that no installed package ships as descriptors: described by tables, added to the pool of `messages`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from serving.apis import messages

# Message -> its fields: number, name, type; a type that ends in [] is repeated.
Table = Mapping[str, Iterable[tuple[int, str, str]]]

_TYPES = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


def add(file_name: str, package: str, table: Table, *, imports: Iterable[str] = ()) -> None:
    """Adds a proto3 file with the messages of a table."""
    file = FileDescriptorProto(name=file_name, package=package, syntax="proto3", dependency=imports)
    for name, fields in table.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            _add_field(message.field.add(name=field, number=number), kind)
    messages.POOL.Add(file)


def _add_field(field: FieldDescriptorProto, kind: str) -> None:
    repeated = kind.endswith("[]")
    field.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    kind = kind.removesuffix("[]")
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{kind}"
