"""The optimizer and the learning-rate schedule that a configuration names."""

from __future__ import annotations

import keras

from training.config import TrainingConfig

_WARMUP_FROM = 0.1  # of the highest rate


def build(config: TrainingConfig, train_images: int) -> keras.optimizers.Optimizer:
    """Adam, or AdamW with the decay on kernels alone (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101).

    train_images: how many there are, for a schedule that goes by steps.
    """
    rate = learning_rate(config, train_images)
    if not config.weight_decay:
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def learning_rate(config: TrainingConfig, train_images: int) -> float | keras.optimizers.schedules.CosineDecay:
    """The learning rate by optimizer step, or the one of every step; an exponential schedule changes it by epoch."""
    if config.schedule != "cosine":
        return config.learning_rate
    steps = config.epochs * max(train_images // config.batch_size, 1)
    warmup = int(steps * config.warmup)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        config.learning_rate * _WARMUP_FROM, steps - warmup, warmup_target=config.learning_rate, warmup_steps=warmup
    )
