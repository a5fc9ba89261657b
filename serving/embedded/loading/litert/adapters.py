"""Signatures of the exported model that need TensorFlow's decoders, on LiteRT, which has none.

A version whose `serving_default` is the export's, by names, dtypes and shapes, is given `encoded_images` and `classify`
as its SavedModel has them: files are decoded by Pillow and go through `serving_default`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from fashion_common.served_model import CLASS_NAMES, IMAGE_SHAPE
from serving.apis.messages import (
    DT_FLOAT,
    DT_INT64,
    DT_STRING,
    DT_UINT8,
    Example,
    SignatureDef,
    TensorInfo,
    TensorShapeProto,
)
from serving.apis.signatures import DEFAULT_SIGNATURE
from serving.apis.tensors import Array
from serving.embedded.inference.model import Servable
from serving.embedded.inference.predict import CLASSIFY_METHOD, PREDICT_METHOD
from serving.errors import InvalidArgument

_CLASSES = len(CLASS_NAMES)
_IMAGES = {"images": (DT_UINT8, (-1, *IMAGE_SHAPE))}
_ANSWER = {
    "probabilities": (DT_FLOAT, (-1, _CLASSES)),
    "class_ids": (DT_INT64, (-1,)),
    "class_names": (DT_STRING, (-1,)),
}
_FEATURE = "image/encoded"
_Tensors = Mapping[str, tuple[int, tuple[int, ...]]]


class _Adapter(NamedTuple):
    """A signature that is added.

    files: gives the image files of its input. outputs: the output of serving_default that each of its own is, by tensor
    name; None for the class names of every row.
    """

    definition: SignatureDef
    input: str
    files: Callable[[Array], Iterable[bytes]]
    outputs: Mapping[str, str | None]


def with_pictures(model: Servable) -> Servable:
    """A model with the signatures that its `serving_default` allows."""
    definition = model.signatures.get(DEFAULT_SIGNATURE)
    if definition is None or _tensors(definition.inputs) != _IMAGES or _tensors(definition.outputs) != _ANSWER:
        return model
    return _PictureModel(model, definition)


class _PictureModel:
    """A servable with `encoded_images` and `classify` beside the signatures of its model.

    Their outputs are not among those that may run on the event loop: a file decides how long it takes.
    """

    def __init__(self, model: Servable, default: SignatureDef) -> None:
        # Pillow is imported for models of pictures only.
        from serving.embedded.loading.litert.pictures import read_pictures

        self._read_pictures = read_pictures
        self._model = model
        self._images = default.inputs["images"].name
        names = {alias: info.name for alias, info in default.outputs.items()}
        self._adapters = {
            "encoded_images": _adapter(
                "encoded_images", PREDICT_METHOD, "image_bytes", np.ndarray.tolist, _ANSWER, names
            ),
            "classify": _adapter(
                "classify",
                CLASSIFY_METHOD,
                "inputs",
                _example_files,
                {"classes": (DT_STRING, (-1, _CLASSES)), "scores": _ANSWER["probabilities"]},
                {"classes": None, "scores": names["probabilities"]},
            ),
        }
        self._inputs = frozenset(adapter.input for adapter in self._adapters.values())
        added = {name: adapter.definition for name, adapter in self._adapters.items()}
        self.signatures: Mapping[str, SignatureDef] = {**model.signatures, **added}
        self.runtime = model.runtime
        self.loop_free = model.loop_free
        self.close = model.close

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """As the model's, with the tensors of the signatures that are added. Raises InvalidArgument."""
        if self._inputs.isdisjoint(feeds):
            return self._model.run(feeds, fetches)
        values: dict[str, Array] = {}
        for adapter in self._adapters.values():
            if wanted := [name for name in fetches if name in adapter.outputs]:
                values.update(self._run(adapter, feeds, wanted))
        if others := [name for name in fetches if name not in values]:
            own = {name: array for name, array in feeds.items() if name not in self._inputs}
            values.update(zip(others, self._model.run(own, others), strict=True))
        return [values[name] for name in fetches]

    def _run(self, adapter: _Adapter, feeds: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        if adapter.input not in feeds:
            raise InvalidArgument(f"You must feed a value for the tensor {adapter.input}")
        if feeds[adapter.input].ndim != 1:
            raise InvalidArgument(f"Input {adapter.input} takes the shape [?], not {list(feeds[adapter.input].shape)}")
        images = self._read_pictures(list(adapter.files(feeds[adapter.input])))
        names = {name: output for name in wanted if (output := adapter.outputs[name]) is not None}
        fetches = list(dict.fromkeys(names.values()))
        outputs = dict(zip(fetches, self._model.run({self._images: images}, fetches), strict=True)) if fetches else {}
        classes = np.tile(np.array([name.encode() for name in CLASS_NAMES], object), (len(images), 1))
        return {name: outputs[names[name]] if name in names else classes for name in wanted}


def _adapter(
    name: str,
    method_name: str,
    alias: str,
    files: Callable[[Array], Iterable[bytes]],
    outputs: _Tensors,
    sources: Mapping[str, str | None],
) -> _Adapter:
    definition = SignatureDef(method_name=method_name)
    for tensors, infos in (({alias: (DT_STRING, (-1,))}, definition.inputs), (outputs, definition.outputs)):
        for key, (data_type, sizes) in tensors.items():
            shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
            infos[key].CopyFrom(TensorInfo(name=f"{name}/{key}", dtype=data_type, tensor_shape=shape))
    return _Adapter(definition, f"{name}/{alias}", files, {f"{name}/{key}": source for key, source in sources.items()})


def _example_files(examples: Array) -> list[bytes]:
    """The image file of each serialized tf.Example."""
    return [_example_file(row, example) for row, example in enumerate(examples.tolist())]


def _example_file(row: int, serialized: bytes) -> bytes:
    try:
        example = Example.FromString(serialized)
    except DecodeError as error:
        raise InvalidArgument(f"Example {row}, counted from 0, cannot be parsed") from error
    if _FEATURE not in example.features.feature:
        raise InvalidArgument(
            f"Example {row}, counted from 0: feature {_FEATURE} (data type: string) is required but could not be found"
        )
    values = example.features.feature[_FEATURE].bytes_list.value
    if len(values) != 1:
        raise InvalidArgument(f"Example {row}, counted from 0: feature {_FEATURE} has {len(values)} strings, not one")
    return bytes(values[0])


def _tensors(infos: Mapping[str, TensorInfo]) -> _Tensors:
    """DataType and shape of each tensor, by alias."""
    return {alias: (info.dtype, tuple(dim.size for dim in info.tensor_shape.dim)) for alias, info in infos.items()}
