"""`fashion verify`: whether versions are what a trusted key signed."""

from __future__ import annotations

import json
from pathlib import Path

import click

from delivery.errors import DeliveryUsageError, SignatureError
from fashion_common.errors import EXIT_FAILED
from fashion_common.layout import MODEL_FILES, SIGNATURE_FILE, version_directories

_EXAMPLES = """Example: fashion verify models/fashion_mnist/3 --public-key release.pub

\b
fashion verify models/fashion_mnist --public-key old.pub --public-key new.pub
"""


@click.command(epilog=_EXAMPLES)
@click.argument("path", metavar="VERSION", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    "keys",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    required=True,
    metavar="FILE",
    help="A trusted key, in PEM; again for more: one of them must have signed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(*, path: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Hold every file of VERSION to its signature: model.sig, as `fashion export --sign` writes it.

    VERSION is a version's directory, or a model base path: all its versions, oldest first. Exit code 1 when one does
    not verify.
    """
    from delivery.verification import public_keys, verify_version

    trusted = public_keys(keys)
    results = []
    for version in _versions(path):
        try:
            key, files = verify_version(version, trusted)
            results.append({"path": str(version), "verified": True, "key": key, "files": files, "reason": None})
        except SignatureError as error:
            results.append({"path": str(version), "verified": False, "key": None, "files": 0, "reason": str(error)})
    if as_json:
        click.echo(json.dumps(results, indent=2))
    else:
        for result in results:
            good = f"{result['files']} files as signed with {result['key']}"
            click.echo(f"{result['path']}: {good if result['verified'] else result['reason']}")
    if not all(result["verified"] for result in results):
        click.get_current_context().exit(EXIT_FAILED)


def _versions(path: Path) -> list[Path]:
    """The version's directory, or those of a model base path, oldest first. Raises DeliveryUsageError for neither."""
    if any((path / name).is_file() for name in (*MODEL_FILES, SIGNATURE_FILE)):
        return [path]
    try:
        directories = version_directories(path)
    except OSError as error:
        raise DeliveryUsageError(f"{path} cannot be read: {error.strerror}") from error
    if not directories:
        raise DeliveryUsageError(f"{path} is neither a version nor a model base path: name one such as {path / '1'}")
    return [directories[number] for number in sorted(directories)]
