"""tf.distribute: two devices in one process, and two processes by TF_CONFIG, learn what one device learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tests.support.interrupted import interrupted_after
from tests.support.live import free_port
from training import runs
from training.data.dataset import Dataset
from training.errors import TrainingUsageError
from training.fit import distributed
from training.fit.evaluate import predict
from training.fit.stages import Watch
from training.recipes import resolve
from training.train import train

SETTINGS = {"dataset": "synthetic", "epochs": 2, "batch_size": 100, "learning_rate": 0.002, "weight_decay": 0.0}
TRAIN = [
    "train",
    *(word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))),
    *("--no-batch-norm", "--no-pictures", "--quiet", "--json"),
]
TWO_DEVICES = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""


# Of gradient descent, in which a gradient of twice the length is a step of twice the length; Adam hides it.
STEPS = """
import keras, numpy as np
from training.config import TrainingConfig
from training.data import synthetic
from training.fit import loop, models

data = synthetic.load({"train": 60, "validation": 10, "test": 10})
indices = np.arange(60, dtype=np.int32).reshape(3, 20)
weights = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        model = models.build("perceptron")
        model.compile(optimizer=keras.optimizers.SGD(0.5))
        model.optimizer.build(model.trainable_variables)
    run = loop._make_steps(model, data, TrainingConfig(model="perceptron", batch_size=20))
    loop._run_epoch(run, indices, np.full_like(indices, 4), 256)
    weights.append(np.concatenate([weight.ravel() for weight in model.get_weights()]))
print(np.abs(weights[0]).max(), np.abs(weights[0] - weights[1]).max())
"""


def begin(arguments: list[str], prologue: str = "", tf_config: object = None) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    if tf_config is not None:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    return subprocess.Popen(
        [sys.executable, "-c", f"{prologue}\nfrom client.cli import main; main()", *TRAIN, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def single(synthetic_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    """What the same run on one device says of the test images."""
    config = resolve("fast", batch_norm=False, **SETTINGS)
    result = train(config, tmp_path_factory.mktemp("runs") / "one", watch=Watch(pictures=False))
    assert result.test.accuracy > 0.9
    return predict(result.model, synthetic_data.test_images)


def assert_same_answers(run_dir: Path, expected: NDArray[np.float32], synthetic_data: Dataset) -> None:
    """Equal but for the order in which gradients are added, which Adam makes a little of over sixty steps."""
    answers = predict(keras.models.load_model(run_dir / runs.MODEL, compile=False), synthetic_data.test_images)
    assert np.abs(answers - expected).mean() < 0.005
    assert np.mean(answers.argmax(axis=1) == expected.argmax(axis=1)) > 0.99


def test_a_step_of_two_devices_is_that_of_one() -> None:
    """The gradient is the mean over the whole batch."""
    program = [sys.executable, "-c", TWO_DEVICES + STEPS]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    largest, difference = map(float, done.stdout.split())
    assert largest > 0.01
    assert difference < 1e-5


def test_mirrored_strategy_learns_what_one_device_learns(
    single: NDArray[np.float32], synthetic_data: Dataset, tmp_path: Path
) -> None:
    """Two logical devices, each half of every batch."""
    process = begin(["--strategy", "mirrored", "--run-dir", str(tmp_path / "run")], TWO_DEVICES)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert_same_answers(tmp_path / "run", single, synthetic_data)


def finish_two_workers(*arguments: list[str]) -> list[dict[str, float]]:
    """The command on two workers of this machine, with arguments for both or for each; what they print."""
    workers = [f"127.0.0.1:{port}" for port in (free_port(), free_port())]
    processes = [
        begin(
            arguments[index % len(arguments)],
            tf_config={"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    return [json.loads(stdout) for stdout, _ in answers]


def test_two_workers_learn_what_one_device_learns(
    single: NDArray[np.float32], synthetic_data: Dataset, tmp_path: Path
) -> None:
    """Two processes on this machine; the chief alone writes the run."""
    directories = [tmp_path / f"worker-{index}" for index in range(2)]
    results = finish_two_workers(
        *(["--strategy", "multi_worker", "--run-dir", str(directory)] for directory in directories)
    )
    assert results[0]["test_loss"] == pytest.approx(results[1]["test_loss"], abs=1e-6)
    assert_same_answers(directories[0], single, synthetic_data)
    assert not directories[1].exists()


def test_two_workers_resume_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both go on from the checkpoint in the directory that they share, to the last epoch."""
    run_dir = tmp_path / "run"
    config = resolve("fast", batch_norm=False, **SETTINGS)
    interrupted_after(1, config, run_dir, monkeypatch)
    runs.write_json(run_dir / "config.json", config.to_json() | {"strategy": "multi_worker"})
    results = finish_two_workers(["--resume", str(run_dir)])
    assert [result["epochs"] for result in results] == [2, 2]
    assert results[0]["test_loss"] == pytest.approx(results[1]["test_loss"], abs=1e-6)
    assert results[0]["test_accuracy"] > 0.9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_multi_worker_needs_a_cluster(text: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TF_CONFIG that is missing or wrong is refused with one that would do."""
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(TrainingUsageError) as error:
        train(resolve("fast", dataset="synthetic", strategy="multi_worker"), run_dir)
    assert str(error.value) == (
        'strategy multi_worker needs a TF_CONFIG such as {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": '
        f'{{"type": "worker", "index": 0}}}}, not {text!r}'
    )
    assert not run_dir.exists()
    with pytest.raises(TrainingUsageError, match="strategy multi_worker needs a TF_CONFIG such as "):
        distributed.strategy("multi_worker")


@pytest.mark.parametrize(("index", "chief"), [(0, True), (1, False), (2, False)])
def test_the_first_worker_is_the_chief(index: int, chief: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those of TF_CONFIG; without workers the only process is."""
    config = {"cluster": {"worker": ["a:1", "b:1", "c:1"]}, "task": {"type": "worker", "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert distributed.is_chief("multi_worker") == chief
    assert distributed.is_chief("mirrored")
    assert distributed.is_chief("none")


def test_one_process_has_the_devices_of_its_machine() -> None:
    """All of them with the mirrored strategy, TensorFlow's default without one."""
    assert distributed.strategy("none") is tf.distribute.get_strategy()
    mirrored = distributed.strategy("mirrored")
    assert isinstance(mirrored, tf.distribute.MirroredStrategy)
    assert mirrored.num_replicas_in_sync == len(
        tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    )
