"""Which runtime loads a version, and why. A runtime is imported when it is first needed, and not at all otherwise."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

from fashion_common.imports import collections_paused
from fashion_common.installation import install_command
from fashion_common.layout import LITE_MODEL_FILE, SAVED_MODEL_FILE, SAVED_MODEL_TEXT_FILE
from fashion_common.runtimes import EXTRAS, LITERT, TENSORFLOW, installed_runtimes
from serving.embedded.event_log import RUNTIME_CHOSEN, log_event
from serving.embedded.inference.model import Servable
from serving.embedded.models.storage import VersionDirectory
from serving.errors import ServerConfigError

Load = Callable[[VersionDirectory], Servable]


class RuntimeOptions(NamedTuple):
    """What the flags say of the runtimes.

    forced: the only runtime, if any. prefer_lite: whether a version that LiteRT can serve is served by it. tags,
    session_config: of TensorFlow. pools, interpreters_per_pool: of LiteRT; 0 for its defaults.
    """

    forced: str = ""
    prefer_lite: bool = False
    tags: tuple[str, ...] = ("serve",)
    session_config: bytes = b""
    pools: int = 0
    interpreters_per_pool: int = 0


def runtime_load(options: RuntimeOptions) -> Load:
    """What makes a version's directory a servable of the runtime that is chosen for it.

    Raises ServerConfigError when a runtime that the options need is not installed.
    """
    installed = installed_runtimes()
    needed = options.forced or (LITERT if options.prefer_lite or TENSORFLOW not in installed else TENSORFLOW)
    if needed not in installed:
        raise ServerConfigError(f"{needed} is not installed: {install_command(EXTRAS[needed])}")
    loads: dict[str, Load] = {needed: _imported(needed, options)}

    def load(directory: VersionDirectory) -> Servable:
        runtime, reason = choose(options, installed, directory)
        log_event(RUNTIME_CHOSEN, directory=directory, runtime=runtime, reason=reason)
        if runtime not in loads:
            loads[runtime] = _imported(runtime, options)
        return loads[runtime](directory)

    return load


def choose(options: RuntimeOptions, installed: Collection[str], directory: VersionDirectory) -> tuple[str, str]:
    """The runtime for a version, and the reason for the log."""
    if options.forced:
        return options.forced, f"--runtime={options.forced}"
    if TENSORFLOW not in installed:
        return LITERT, "TensorFlow is not installed"
    if directory.file(LITE_MODEL_FILE) is None:
        return TENSORFLOW, f"the version has no {LITE_MODEL_FILE}"
    if options.prefer_lite:
        return LITERT, "--prefer_tflite_model"
    if LITERT in installed and not any(map(directory.file, (SAVED_MODEL_FILE, SAVED_MODEL_TEXT_FILE))):
        return LITERT, f"the version has no {SAVED_MODEL_FILE}"
    return TENSORFLOW, "it is installed, and --prefer_tflite_model is not given"


def _imported(runtime: str, options: RuntimeOptions) -> Load:
    load: Load
    with collections_paused():
        if runtime == LITERT:
            from serving.embedded.loading.litert import lite_model

            load = partial(lite_model.load, pools=options.pools, interpreters_per_pool=options.interpreters_per_pool)
        else:
            from serving.embedded.loading.tensorflow import saved_model

            load = partial(saved_model.load, tags=options.tags, session_config=options.session_config)
        # A runtime's own objects stay for ever: collections need not look at them.
        gc.freeze()
    return load
