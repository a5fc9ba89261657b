"""Any Keras model as it is served: `serving_default` with the inputs and outputs that Keras has, by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from tensorflow.saved_model.experimental import TrackableResource

from training.errors import TrainingError, TrainingUsageError
from training.export.garments import describe
from training.export.golden_file import Specs, read_golden
from training.export.keras_files import keras_errors
from training.export.own_signatures import OwnSignatures
from training.export.signatures import save

SIGNATURE = "serving_default"
_Tensors = dict[str, tf.Tensor]


class Signature(NamedTuple):
    """A model's `serving_default`: its inputs and outputs by name, and the traced function."""

    inputs: Specs
    outputs: Specs
    function: Any


class KerasModel(OwnSignatures):
    """A `Form`. signature: as `trace` gives it, with the same class names. golden: as in `read_golden`."""

    lite_required = False

    def __init__(
        self, model: keras.Model, signature: Signature, class_names: Sequence[str] = (), golden: Path | None = None
    ) -> None:
        self.model = model
        self.class_names = class_names
        inputs = {SIGNATURE: signature.inputs}
        cases = read_golden(golden, inputs, {SIGNATURE: signature.outputs}) if golden else {}
        super().__init__({SIGNATURE: signature.function}, inputs, cases)

    def write(self, path: Path) -> None:
        """Writes the SavedModel. Raises OSError, OpError, and TrainingError for state that Keras does not know of."""
        try:
            save(path, self.functions(), self.model.variables, _resources(self.model))
        except AssertionError as error:
            raise TrainingError(
                f"Not exported: TensorFlow cannot save {self.model.name} ({str(error).splitlines()[0]}): keep what a "
                "custom layer needs in its attributes"
            ) from error

    def describe(self) -> dict[str, Any]:
        """Name, layers and number of parameters."""
        return describe(self.model)


def trace(model: keras.Model, file: Path, class_names: Sequence[str] = ()) -> Signature:
    """The signature of a model: the inputs and outputs that it has in Keras, with their names, dtypes and shapes.

    file: named in errors. class_names: of the one output that has as many columns, none for no classes. With them the
    signature has `class_ids`, int64 [N], and `class_names`, string [N], beside the model's own outputs: of the greatest
    column, or, with two names for one column, of less than 0.5 and the rest. Raises TrainingUsageError for a model that
    cannot be run, and for names that fit no output.
    """
    with keras_errors("run", file):
        inputs, call = _call(model, file)
        function = _traced(call, inputs)
        if class_names:
            output = _class_output(file, function.structured_outputs, class_names)
            function = _traced(_classified(call, output, class_names), inputs)
    return Signature(inputs, function.structured_outputs, function)


def input_specs(model: keras.Model, file: Path) -> tuple[Any, dict[str, tf.TensorSpec]]:
    """The structure in which a model takes its inputs, its leaves their names; and each input by its name.

    A name has letters, digits and underscores, a letter first: what else is in Keras's becomes an underscore, and `in_`
    goes before the name. A subclassed model has one input, `inputs`, of the shape that it was built with. Raises
    TrainingUsageError where there is none, and for sparse inputs.
    """
    tensors = getattr(model, "inputs", None)
    if not tensors:
        shape = (model.get_build_config() or {}).get("input_shape")
        if not shape or not all(size is None or isinstance(size, int) for size in shape):
            raise TrainingUsageError(
                f"{file} does not say what it takes: make it of keras.Input, or call it on one array before it is saved"
            )
        return "inputs", {"inputs": tf.TensorSpec([None, *shape[1:]], tf.float32, "inputs")}
    structure = tensors[0] if isinstance(model, keras.Sequential) else model.input
    names = (
        {id(tensor): key for key, tensor in structure.items()}
        if isinstance(structure, dict)
        else {id(tensor): tensor.name for tensor in tensors}
    )
    specs: dict[str, tf.TensorSpec] = {}
    for tensor in tensors:
        name = re.sub(r"\W", "_", names.get(id(tensor), tensor.name), flags=re.ASCII)
        names[id(tensor)] = name = name if name[:1].isalpha() else f"in_{name}"
        if tensor.sparse:
            raise TrainingUsageError(
                f"{file}: input {name} is sparse, which no API of a server can carry: make it dense"
            )
        specs[name] = tf.TensorSpec(tensor.shape, tensor.dtype, name)
    return keras.tree.map_structure(lambda tensor: names[id(tensor)], structure), specs


def _call(model: keras.Model, file: Path) -> tuple[dict[str, tf.TensorSpec], Callable[..., _Tensors]]:
    structure, specs = input_specs(model, file)

    def serving_default(**tensors: tf.Tensor) -> _Tensors:
        outputs = model(keras.tree.map_structure(tensors.__getitem__, structure), training=False)
        return _named(model, outputs)

    return specs, serving_default


def _named(model: keras.Model, outputs: Any) -> _Tensors:
    """The outputs by name: a dictionary's keys, else the names of the layers that give them, as Keras has it."""
    if isinstance(outputs, dict):
        return {str(name): tf.convert_to_tensor(output) for name, output in outputs.items()}
    tensors = keras.tree.flatten(outputs)
    sequential = isinstance(model, keras.Sequential)
    names = [model.layers[-1].name] if sequential else list(getattr(model, "output_names", ()))
    if len(set(names)) != len(tensors):
        names = [f"output_{number}" for number in range(len(tensors))]
    return {name: tf.convert_to_tensor(tensor) for name, tensor in zip(names, tensors, strict=True)}


def _traced(call: Callable[..., _Tensors], specs: Mapping[str, tf.TensorSpec]) -> Any:
    return tf.function(call, autograph=False).get_concrete_function(**specs)


def _class_output(file: Path, outputs: Specs, class_names: Sequence[str]) -> str:
    """The output that the class names are of. Raises TrainingUsageError where none or several fit."""
    count = len(class_names)
    columns = (count, 1) if count == 2 else (count,)  # noqa: PLR2004 - yes or no in one column
    fitting = [
        name
        for name, spec in outputs.items()
        if spec.dtype.is_floating and spec.shape.rank == 2 and spec.shape[1] in columns  # noqa: PLR2004 - rows, columns
    ]
    if len(fitting) != 1 or {"class_ids", "class_names"} & outputs.keys():
        shapes = ", ".join(f"{name} {spec.dtype.name} {spec.shape.as_list()}" for name, spec in outputs.items())
        raise TrainingUsageError(
            f"--class-names has {count} names, for one output [N, {count}] of {file}: it has {shapes}"
        )
    return fitting[0]


def _classified(call: Callable[..., _Tensors], output: str, class_names: Sequence[str]) -> Callable[..., _Tensors]:
    names = tf.constant(list(class_names))

    def serving_default(**tensors: tf.Tensor) -> _Tensors:
        outputs = call(**tensors)
        scores = outputs[output]
        if scores.shape[1] == 1:
            class_ids = tf.cast(scores[:, 0] >= 0.5, tf.int64)  # noqa: PLR2004 - a half
        else:
            class_ids = tf.argmax(scores, axis=1, output_type=tf.int64)
        return {**outputs, "class_ids": class_ids, "class_names": tf.gather(names, class_ids)}

    return serving_default


def _resources(model: keras.Model) -> list[Any]:
    """What the graph refers to besides Keras's variables: lookup tables, and variables that a custom layer made."""
    own = {id(variable.value) for variable in model.variables}
    return [
        child
        for layer in [model, *model._flatten_layers()]  # noqa: SLF001 - Keras's own export walks the layers so too
        for child in vars(layer).values()
        if isinstance(child, TrackableResource | tf.Variable) and id(child) not in own
    ]
