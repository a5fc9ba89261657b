"""tf.distribute for one machine with several devices, and for several machines by TF_CONFIG.

Keras 3's own `fit` takes a MirroredStrategy but no MultiWorkerMirroredStrategy
(https://github.com/keras-team/keras/issues/20585); our loop uses what TensorFlow 2.21 supports for both: a step under
`Strategy.run`, its gradients added up by the optimizer. (https://www.tensorflow.org/guide/distributed_training)
"""

from __future__ import annotations

import json
import os

import tensorflow as tf

from training.errors import TrainingUsageError


def strategy(name: str) -> tf.distribute.Strategy:
    """The strategy `none`, `mirrored` or `multi_worker`; call it before anything else of TensorFlow.

    `multi_worker` waits until every worker of TF_CONFIG's cluster is there. Raises TrainingUsageError for a TF_CONFIG
    that is missing or no cluster of workers.
    """
    if name == "mirrored":
        cpus = [cpu.name for cpu in tf.config.list_logical_devices("CPU")]
        return tf.distribute.MirroredStrategy(None if tf.config.list_logical_devices("GPU") else cpus)
    if name == "multi_worker":
        _worker_index()
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief(name: str) -> bool:
    """Whether this process writes the run: worker 0 of a `multi_worker` strategy, else the only process there is.

    Raises TrainingUsageError as `strategy`.
    """
    return name != "multi_worker" or _worker_index() == 0


def _worker_index() -> int:
    text = os.environ.get("TF_CONFIG", "")
    try:
        content = json.loads(text)
        workers, task = content["cluster"]["worker"], content["task"]
        if task["type"] == "worker" and 0 <= task["index"] < len(workers):
            return int(task["index"])
    except (ValueError, KeyError, TypeError):
        pass  # refused below, as a TF_CONFIG of another cluster is
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    raise TrainingUsageError(f"strategy multi_worker needs a TF_CONFIG such as {example}, not {text!r}")
