"""Puts the demo's output and the measured figures into README.md and docs, between `<!-- NAME -->` and its end.

Run by `make readme`, after `make demo`. A block whose source is not there stays as it is.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

README = Path("README.md")
DEMO_OUTPUT = Path("build/demo.txt")
RESULTS = Path("benchmarks/results")


def demo() -> str | None:
    """The output of `make demo`, unchanged."""
    if not DEMO_OUTPUT.is_file():
        return None
    shutil.copyfile("build/demo.png", "docs/demo.png")
    return f"\n```console\n$ make demo\n{DEMO_OUTPUT.read_text().strip()}\n```\n"


def client(result: Mapping[str, Any]) -> str:
    """What `make bench-client` measured."""
    return CLIENT_TABLES.format(**result["single"], **result["bulk"])


CLIENT_TABLES = """
| one picture, the whole process | time | memory |
| --- | --- | --- |
| `fashion predict` | {fashion_seconds:.2f} s | {fashion_megabytes:.0f} MB |
| the same request with `tensorflow-serving-api` | {official_seconds:.2f} s | {official_megabytes:.0f} MB |
| ratio | {time_ratio:.3f} | {memory_ratio:.3f} |

| {images:,} images over gRPC | images a second |
| --- | --- |
| one image a request, in a loop | {loop_images_per_second:,.0f} |
| the same loop with `tensorflow-serving-api` | {official_loop_images_per_second:,.0f} |
| batches of {batch_size:,}, {in_flight} in flight | {pipeline_images_per_second:,.0f} |
| h2load, the same batches | {h2load_images_per_second:,.0f} |
| batches to our loop, to the other one, to h2load | {pipeline_to_loop:.0f}, {pipeline_to_official_loop:.0f}, \
{pipeline_to_h2load:.2f} |
"""


def training(result: Mapping[str, Any]) -> str:
    """What `make bench-training` measured."""
    rows = {key: key for key in ("textbook", "fast", "accurate")} | {"fast_in_the_textbooks_time": "fast --epochs N"}
    lines = [
        f"| `{name}` | {run['epochs']:.0f} | {run['fit_seconds']:.1f} s | {run['validation_accuracy']:.4f} "
        f"| {run['test_accuracy']:.4f} |"
        for key, name in rows.items()
        if (run := result.get(key))
    ]
    return (
        "\n| recipe | epochs | fit | validation accuracy | test accuracy |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(lines)
        + f"\n\n`fast` takes a {result['ratio']:.0f}th of the textbook's time.\n"
    )


def server(result: Mapping[str, Any]) -> str:
    """What `make bench-server` measured under load."""
    servers = list(dict.fromkeys(row["server"] for row in result["medians"]))
    cells: dict[str, dict[str, str]] = {}
    for row in result["medians"]:
        images = f"{row['images']:,} images" if row["images"] > 1 else "1 image"
        case = f"{row['api']}, {images} x {row['connections']}"
        cells.setdefault(case, {})[row["server"]] = f"{row['rate']:,.0f} ({row['p99'] / 1000:.1f} ms)"
    ratios = [f"| {ratio['text']} | {ratio['value']:.2f} |" for ratio in result["ratios"] if ratio["bar"]]
    return "\n".join(
        [
            f"\nMeasured on {result['date']} ({result['machine']}): requests/s, and their 99th percentile.",
            f"\n| | {' | '.join(servers)} |\n|{' --- |' * (len(servers) + 1)}",
            *(f"| {case} | {' | '.join(row.get(name, '') for name in servers)} |" for case, row in cells.items()),
            "\n| the better of the two settings | ratio |\n| --- | --- |",
            *ratios,
            "",
        ]
    )


def runtimes(result: Mapping[str, Any]) -> str:
    """What `make bench-server` measured of a server's start and memory, and of its model alone."""
    runs = {(run["server"], run["images"]): f"{run['us']:,.0f} us" for run in result["runs"]}
    sizes = sorted({images for _, images in runs})
    rows = [
        f"| {start['server']} | {start['seconds']:.2f} s | {start['memory']:.0f} MiB | {start['loaded']:.0f} MiB "
        f"| {' | '.join(runs.get((start['server'], images), '') for images in sizes)} |"
        for start in result["starts"]
    ]
    headers = "".join(f" one run of {images:,} |" for images in sizes)
    return "\n".join(
        [
            f"\nMeasured on {result['date']} ({result['machine']}):",
            f"\n| | start to AVAILABLE | memory then | after the load |{headers}\n|{' --- |' * (4 + len(sizes))}",
            *rows,
            "",
        ]
    )


def hostile(result: Mapping[str, Any]) -> str:
    """What `pytest tests/hostile --hostile-results` measured."""
    rows = [
        f"| {row['attack']} | {row['what']} | {row['grpc_seconds']:.2f} s | {row['rest_seconds']:.2f} s "
        f"| {row['peak_mib']:,} MiB |"
        for row in result["attacks"]
    ]
    return "\n".join(
        [
            f"\nMeasured on {result['date']} ({result['machine']}); memory limited by {result['means']}.",
            "\n| attack | what it is | gRPC | REST | memory |\n| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def loop(result: Mapping[str, Any]) -> str:
    """What `pytest tests/e2e/test_loop.py --loop-results` saw."""
    steps = "\n".join(f"$ {step['command']}\n{step['output'].rstrip()}" for step in result["steps"])
    return f"\n```console\n{steps}\n```\n"


def soak(result: Mapping[str, Any]) -> str:
    """What `make soak` measured."""
    events = ", ".join(f"{count} x {event}" for event, count in sorted(result["events"].items()))
    return SOAK_TABLE.format(**result, happened=events, before=result["second_sixth"], after=result["last_sixth"])


SOAK_TABLE = """
Measured on {date} ({machine}) in {minutes} minutes, with 2 workers: {happened}.

| | |
| --- | --- |
| answers, each checked | {answers:,} |
| wrong, refused | {wrong}, {refused} |
| connections that ended with a killed worker | {broken} |
| longest wait beside an attack | {longest_wait_seconds:.2f} s |
| memory in the second and the last sixth | {before[memory_mib]:,.0f} and {after[memory_mib]:,.0f} MiB |
| descriptors | {before[descriptors]:.0f} and {after[descriptors]:.0f} |
| threads | {before[threads]:.0f} and {after[threads]:.0f} |
"""


def memory(result: Mapping[str, Any]) -> str:
    """What `python -m benchmarks.server_memory` measured."""
    rows = [
        f"| {runtime} | {size['before_mib']:,.1f} MiB | {size['after_mib']:,.1f} MiB |"
        for runtime, size in result["runtimes"].items()
    ]
    return "\n".join(
        [
            f"\nMeasured on {result['date']} ({result['machine']}).",
            f"\n| runtime | after warm-up | {result['requests']:,} requests and {result['reloads']} reloads later |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def recording(result: Mapping[str, Any]) -> str:
    """What `python -m benchmarks.recording` measured."""
    rows = [
        f"| {row['api']} | {row['setting']} | {row['rate']:,.0f} | {row['rate_ratio']:.3f} "
        f"| {row['p99'] / 1000:.1f} ms | {row['cpu']:.0f} us | {row['kept']:,} | {row['dropped']:,} |"
        for row in result["rows"]
    ]
    return "\n".join(
        [
            f"\nMeasured on {result['date']} ({result['machine']}) on {result['runtime']}, {result['rounds']} rounds:",
            "\n| API | | requests/s | to those without | p99 | CPU a request | kept | dropped |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def access(result: Mapping[str, Any]) -> str:
    """What `python -m benchmarks.access` measured."""
    rows = [
        f"| {row['api']} | {row['setting']} | {row['rate']:,.0f} | {row['rate_ratio']:.3f} | {row['cpu']:.0f} us "
        f"| {row['cpu_ratio']:.3f} |"
        for row in result["rows"]
    ]
    return "\n".join(
        [
            f"\nMeasured on {result['date']} ({result['machine']}) on {result['runtime']}, {result['rounds']} rounds:",
            "\n| API | | requests/s, half a core | to plain | CPU a request | to plain |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def scoring(result: Mapping[str, Any]) -> str:
    """What `python -m benchmarks.scoring` measured."""
    engines = [
        f"| {row['engine']} | {row['input']} | {row['rows']:,} | {row['rate']:,.0f} | {row['to_runtime']:.2f} "
        f"| {row['memory_mib']:,} MiB |"
        for row in result["engines"]
    ]
    most = max(row["largest_difference"] for row in result["engines"])
    growth = [
        f"| {row['input']} | {row['rows']:,} | {row['us_a_row']:.2f} us | {row['memory_mib']:,} MiB |"
        for row in result["growth"]
    ]
    return "\n".join(
        [
            f"\nMeasured on {result['date']} ({result['machine']}), Fashion-MNIST repeated, in Parquet:",
            "\n| engine | pictures | rows | rows/s | to the runtime alone | memory |",
            "| --- | --- | --- | --- | --- | --- |",
            *engines,
            SCORING_SAMPLE.format(differences="none" if most == 0 else f"{most:.0e} at most", **result),
            SCORING_PIECES.format(**result),
            "\nHow cost grows, with one worker, in a process that has scored before:",
            "\n| pictures | rows | a row | memory |\n| --- | --- | --- | --- |",
            *growth,
            "\n![Time a row by rows](scoring.svg)",
            "",
        ]
    )


SCORING_SAMPLE = """
Of each job, {sampled_rows:,} rows at random have the classes that a server answers to `connection.predict`; \
differences between probabilities: {differences}."""

SCORING_PIECES = """
A part has {part_bytes_a_row:.0f} bytes a row. Ray hands out {ray_pieces_per_second:.0f} pieces a second, where there \
is next to nothing in them."""


def measured(name: str, block: Callable[[Mapping[str, Any]], str]) -> Callable[[], str | None]:
    """What gives the block of a benchmark's results, or None where there are none."""

    def text() -> str | None:
        file = RESULTS / f"{name}.json"
        return block(json.loads(file.read_text())) if file.is_file() else None

    return text


# By the page that they are in.
PAGES = {
    README: {
        "demo": demo,
        "server": measured("server", server),
        "client": measured("client", client),
        "training": measured("training", training),
    },
    Path("docs/security.md"): {"hostile": measured("hostile", hostile)},
    Path("docs/scoring.md"): {"scoring": measured("scoring", scoring)},
    Path("docs/operations.md"): {
        "loop": measured("loop", loop),
        "runtimes": measured("server", runtimes),
        "memory": measured("memory", memory),
        "recording": measured("recording", recording),
        "access": measured("access", access),
        "soak": measured("soak", soak),
    },
}


def filled(page: Path) -> str:
    """A page's text with every block replaced. Raises ValueError for a block that is not in it."""
    text = page.read_text()
    for name, block in PAGES[page].items():
        content = block()
        if content is None:
            print(f"{name}: nothing to put in, left as it is", file=sys.stderr)
            continue
        match = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
        if not match:
            raise ValueError(f"{page} has no block <!-- {name} --> ... <!-- /{name} -->")
        text = text[: match.start(1)] + content + "\n" + text[match.end(1) :]
    return text


def main() -> None:
    """Fills the pages."""
    for page in PAGES:
        page.write_text(filled(page))


if __name__ == "__main__":
    main()
