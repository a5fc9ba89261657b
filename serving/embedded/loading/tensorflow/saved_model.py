"""A loaded SavedModel as a servable.

It is loaded as TF Serving loads it: the graph and its signatures in one session, so that exports of TensorFlow 1 and 2
behave alike. Calls go through `Session::MakeCallable`, which costs a tenth of the signature function's time.
"""

from __future__ import annotations

import gc
import importlib
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from serving.apis import messages
from serving.apis.status import Code
from serving.apis.tensors import Array
from serving.embedded.loading.tensorflow import graphs
from serving.embedded.models.storage import VersionDirectory
from serving.errors import ServingError

# A client may ask for any subset of the outputs; beyond this many, callables are made for one use.
_MAX_CALLABLES = 64
_UNKNOWN_OPERATION = "Op type not registered"
_QUANTIZED = (messages.DT_QINT8, messages.DT_QUINT8, messages.DT_QINT16, messages.DT_QUINT16, messages.DT_QINT32)


class SavedModel:
    """A loaded SavedModel: `signatures` by name, and `run`. Threads may share it."""

    def __init__(self, path: Path, tags: Sequence[str], session_config: bytes) -> None:
        config = config_pb2.ConfigProto.FromString(session_config)
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                meta_graph_def = tf.compat.v1.saved_model.loader.load(self._session, list(tags), str(path))
        except BaseException:
            self._session.close()
            raise
        meta_graph = messages.MetaGraphDef.FromString(meta_graph_def.SerializeToString())
        self.signatures: Mapping[str, messages.SignatureDef] = dict(meta_graph.signature_def)
        self.runtime = "TF1"
        outputs = [info.name for signature in self.signatures.values() for info in signature.outputs.values()]
        self.loop_free = graphs.loop_free(meta_graph.graph_def, outputs)
        self._quantized = _quantized_tensors(self.signatures)
        self._callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of the tensors `fetches` when the tensors named by `feeds` have these values.

        Raises ServingError with TensorFlow's own code and text.
        """
        try:
            values: list[Array | bytes] = self._callable(tuple(feeds), tuple(fetches))(*self._fed(feeds))
        except tf.errors.OpError as error:
            raise serving_error(error) from error
        except (TypeError, ValueError, RuntimeError) as error:
            raise ServingError(str(error), Code.INVALID_ARGUMENT) from error
        return [_array(value) for value in values]

    def close(self) -> None:
        """Frees the session; nothing may run any more."""
        with self._lock:
            self._callables.clear()
        self._session.close()
        # A graph is full of cycles: without this its memory would wait for the next full collection.
        gc.collect()

    def _fed(self, feeds: Mapping[str, Array]) -> Collection[Array]:
        if not self._quantized:
            return feeds.values()
        return [feed.view(self._quantized[name]) if name in self._quantized else feed for name, feed in feeds.items()]

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:  # TensorFlow's callables are untyped
        key = (feeds, fetches)
        function = self._callables.get(key)
        if function is None:
            # One at a time: for each the graph is optimized anew, and first calls may come by dozens.
            with self._lock:
                function = self._callables.get(key) or self._session._make_callable_from_options(  # noqa: SLF001 - the public make_callable takes 5 times as long
                    config_pb2.CallableOptions(feed=feeds, fetch=fetches)
                )
                if len(self._callables) < _MAX_CALLABLES:
                    self._callables[key] = function
        return function


def _array(value: Array | bytes) -> Array:
    """What the session gave as an array: TensorFlow gives a single string as it is."""
    if isinstance(value, bytes):
        return np.array(value, object)
    # TensorFlow's quantized types have numpy dtypes of their own, with one field.
    return value.view(value.dtype[0]) if value.dtype.names else value


def _quantized_tensors(signatures: Mapping[str, messages.SignatureDef]) -> dict[str, np.dtype[Any]]:
    """The inputs of a quantized type, by tensor name, and the numpy dtype that TensorFlow wants them in."""
    return {
        info.name: np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype)
        for signature in signatures.values()
        for info in signature.inputs.values()
        if info.dtype in _QUANTIZED
    }


def serving_error(error: tf.errors.OpError) -> ServingError:
    """TensorFlow's error with its own code and text."""
    return ServingError(error.message or str(error), Code(error.error_code))


def load(directory: VersionDirectory, *, tags: Sequence[str] = ("serve",), session_config: bytes = b"") -> SavedModel:
    """Loads the SavedModel in a version's directory. Raises ServingError with TensorFlow's code and text.

    tags: of the graph. session_config: a serialized tensorflow.ConfigProto.
    """
    path = directory.local_path()
    try:
        return _with_text_operations(path, tags, session_config)
    except tf.errors.OpError as error:
        raise serving_error(error) from error
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ServingError(f"{path} cannot be loaded: {error}", Code.INVALID_ARGUMENT) from error
    except Exception as error:  # protobuf's DecodeError has no public base of its own
        raise ServingError(f"{path} cannot be loaded: {type(error).__name__}: {error}", Code.INTERNAL) from error


def _with_text_operations(path: Path, tags: Sequence[str], session_config: bytes) -> SavedModel:
    """TF Serving has TensorFlow Text's operations built in; here they come when a graph asks for them."""
    try:
        return SavedModel(path, tags, session_config)
    except tf.errors.NotFoundError as error:
        if not error.message.startswith(_UNKNOWN_OPERATION):
            raise
        try:
            importlib.import_module("tensorflow_text")
        except ImportError as import_error:
            cause = error.message.partition(". ")[0]
            hint = f"{cause}: if it is one of TensorFlow Text's, install tensorflow-text ({import_error})"
            raise tf.errors.NotFoundError(None, None, hint) from error
    return SavedModel(path, tags, session_config)


def library_version() -> str:
    """TensorFlow's version, for `--version`."""
    return str(tf.__version__)
