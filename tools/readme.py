"""Puts what was really printed and measured into README.md, between `<!-- NAME -->` and `<!-- /NAME -->`.

Run by `make readme`, after `make demo`. A block whose source is not there stays as it is.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

README = Path("README.md")
DEMO_OUTPUT = Path("build/demo.txt")


def demo() -> str | None:
    """What `make demo` printed, as it is."""
    if not DEMO_OUTPUT.is_file():
        return None
    shutil.copyfile("build/demo.png", "docs/demo.png")
    return f"\n```console\n$ make demo\n{DEMO_OUTPUT.read_text().strip()}\n```\n"


BLOCKS = {"demo": demo}


def filled(text: str) -> str:
    """The README with every block made anew. Raises ValueError for a block that is not in it."""
    for name, make in BLOCKS.items():
        content = make()
        if content is None:
            print(f"{name}: nothing to put in, left as it is", file=sys.stderr)
            continue
        found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
        if not found:
            raise ValueError(f"README.md has no block <!-- {name} --> ... <!-- /{name} -->")
        text = text[: found.start(1)] + content + "\n" + text[found.end(1) :]
    return text


def main() -> None:
    """Fills README.md."""
    README.write_text(filled(README.read_text()))


if __name__ == "__main__":
    main()
