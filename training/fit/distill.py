"""Knowledge distillation: a larger network learns the images first, the model then learns its probabilities.

Hinton, Vinyals and Dean 2015, https://arxiv.org/abs/1503.02531. The teacher learns from the training images alone; it
answers for every shift of each, so that moved images have labels of their own.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fashion_common.served_model import CLASS_NAMES
from training.config import TrainingConfig
from training.data.dataset import Dataset
from training.fit import checkpoint, networks, optimizers
from training.fit.batches import SHIFTS, ImageStore
from training.fit.checkpoint import Checkpoint
from training.fit.stages import Watch, run_stage

TEACHER_CHECKPOINT = "teacher.npz"
ANSWERS = "teacher-answers.npz"
TEACHER = TrainingConfig(
    recipe="teacher", epochs=6, batch_size=256, learning_rate=0.004, warmup=0.2, weight_decay=0.01, shift=1.0
)
_BATCH = 1_000  # images that the teacher answers for at a time


def soft_labels(
    config: TrainingConfig, data: Dataset, run_dir: Path, watch: Watch
) -> tuple[NDArray[np.float32], float]:
    """The teacher's answers and the labels, mixed: the answers' share is `teacher_weight`.

    Gives class probabilities, float32 [9,N,10], by shift and image, and the seconds of the teacher's fit and answers.
    The answers stay in the run directory until the run is complete, so that a resumed run need not ask again. Raises
    OSError where they cannot be written, TrainingUsageError where they or the teacher's checkpoint are damaged.
    """
    path = run_dir / ANSWERS
    if not path.exists():
        checkpoint.write(path, _teach(config, data, run_dir, watch))
        (run_dir / TEACHER_CHECKPOINT).unlink(missing_ok=True)
    state = checkpoint.read(path)
    labels = np.eye(len(CLASS_NAMES), dtype=np.float32)[data.train_labels]
    answers, weight = state.variables[0], np.float32(config.teacher_weight)
    return weight * answers + (1 - weight) * labels, state.fit_seconds


def ask(teacher: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The teacher's class probabilities, float32 [9,N,10], for each shift of uint8 [N,28,28] images."""
    store = ImageStore(images, moving=True)
    answer = tf.function(lambda indices, shifts: teacher(store.gather(indices, shifts), training=False))
    answers = np.empty((SHIFTS, len(images), len(CLASS_NAMES)), np.float32)
    for shift in range(SHIFTS):
        for start in range(0, len(images), _BATCH):
            indices = np.arange(start, min(start + _BATCH, len(images)), dtype=np.int32)
            answers[shift, indices] = answer(tf.constant(indices), tf.fill(indices.shape, shift)).numpy()
    return answers


def _teach(config: TrainingConfig, data: Dataset, run_dir: Path, watch: Watch) -> Checkpoint:
    settings = replace(TEACHER, seed=config.seed)
    keras.utils.set_random_seed(config.seed)
    teacher = networks.teacher()
    teacher.compile(optimizer=optimizers.build(settings, len(data.train_labels)))
    teacher.optimizer.build(teacher.trainable_variables)
    checkpoint_path = run_dir / TEACHER_CHECKPOINT
    history, seconds = run_stage(teacher, settings, data, watch, checkpoint_path=checkpoint_path, label="teacher epoch")
    watch.report("Asking the teacher about every image, moved nine ways")
    start = time.perf_counter()
    answers = ask(teacher, data.train_images)
    return Checkpoint(settings.epochs, seconds + time.perf_counter() - start, history, [answers])
