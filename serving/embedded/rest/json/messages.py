"""Whole messages as JSON, laid out as TF Serving lays them out."""

from __future__ import annotations

import json

from google.protobuf import json_format
from google.protobuf.message import Message

from serving.apis.messages import GetModelMetadataResponse, SignatureDefMap
from serving.embedded.inference import info


def message_json(message: Message) -> str:
    """The fields of a message under their own names, those with their default value too."""
    fields = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(fields, indent=1) + "\n"


def metadata_json(response: GetModelMetadataResponse) -> str:
    """The metadata of a model: two messages in a frame of their own."""
    signatures = SignatureDefMap()
    response.metadata[info.SIGNATURE_DEF].Unpack(signatures)
    return (
        f'{{\n"model_spec":{message_json(response.model_spec)},\n'
        f'"metadata": {{"signature_def": {message_json(signatures)}}}\n}}\n'
    )
