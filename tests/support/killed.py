"""A process that is killed at a named step: an export, and whatever else leaves files."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
from functools import reduce
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Step(NamedTuple):
    """Before (or after) the `call`-th call of a function."""

    module: str
    function: str
    call: int = 1
    after: bool = False

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.module}.{self.function}, call {self.call}"


# In the order in which an export comes to them.
STEPS = (
    Step("training.export.export", "accept"),
    Step("training.export.garments", "golden_cases"),
    Step("training.export.publish", "remove_leftovers"),
    Step("training.export.publish", "lock_directory"),
    Step("training.export.garments", "write_saved_model"),
    Step("training.export.signatures", "_read"),
    Step("training.export.export", "write_archive"),
    Step("training.export.export", "write_warmup"),
    Step("shutil", "copyfile"),
    Step("training.export.lite", "write_lite_model"),
    Step("training.export.lite", "_with_served_signature"),
    Step("training.export.self_test", "run_self_test"),
    Step("training.export.export", "write_manifest"),
    Step("training.export.export", "publish"),
    Step("delivery.base_path", "sync", call=6),
    Step("pathlib", "Path.rename"),
    Step("pathlib", "Path.rename", after=True),
    Step("training.export.export", "remove_old_versions"),
    Step("pathlib", "Path.rename", call=2),
    Step("pathlib", "Path.rename", call=2, after=True),
)


def export_killed_at(step: Step, run: Path, base: Path) -> None:
    """Exports with copies, keeps one version, and kills its own process at the step; never returns."""
    from tests.support.exports import run_steps_here
    from training.export.export import export_saved_model
    from training.export.trained import load_run

    run_steps_here(pytest.MonkeyPatch())
    kill_at(step)
    export_saved_model(load_run(run), base, max_regression=0.01, with_copies=True, keep=1)
    os._exit(99)


def forks_with(*modules: str) -> ForkServerContext:
    """Processes that find these modules imported, which takes some of them seconds.

    There is one server of forks for all tests of a process, with the modules of whoever came first: it ends here.
    """
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context


def kill_at(step: Step) -> None:
    """Kills this process when it comes to the step."""
    *owner, name = step.function.split(".")
    target: Any = reduce(getattr, owner, importlib.import_module(step.module))
    function = getattr(target, name)
    calls = 0

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < step.call:
            return function(*arguments, **options)
        if step.after:
            function(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    setattr(target, name, wrapped)
