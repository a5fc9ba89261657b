"""TF Serving's wire API without TensorFlow, and what the files beside a model mean, for training, client and servers.

`messages` and `services`, the `tensors` codec, the `status` codes, the `self_test` archive and `recordings`. Source:
https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""

from pathlib import Path

# models.config, batching.config and monitoring.config, which every server uses unless it is told otherwise.
CONFIG_DIR = Path(__file__).parents[1] / "config"
