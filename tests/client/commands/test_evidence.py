"""The evidence of a comparison as text and as a page, with everything that it can have."""

from __future__ import annotations

from client.commands.evidence_page import evidence_page
from client.commands.evidence_text import evidence_text
from fashion_common.evidence import Accuracy, Evidence, Example, Flip, Latency, Side
from fashion_common.served_model import CLASS_NAMES

_EVIDENCE = Evidence(
    model_name="fashion_mnist",
    date="2026-11-29T14:00:00+00:00",
    baseline=Side("stable", "grpc://a:8500", 6),
    candidate=Side("grpc://b:8500", "grpc://b:8500", 7, not_numbers=2, refused=3, refusal="INTERNAL: \x1b[31mred"),
    inputs=("a.npy", "b.npy"),
    sha256="c0ffee",
    compared=12_000,
    agreeing=11_988,
    largest_difference=0.75,
    mean_difference=0.0125,
    accuracy=Accuracy(10_000, 8_800, 20, 5),
    latencies=(Latency(1, 1.0, 2.0, 900, 1.5, 3.0, 800, 1.5),),
    flips=tuple(Flip("Bag", CLASS_NAMES[number % 8], 1) for number in range(12)),
    examples=(
        Example("photos/a<b>.png", "Coat", "Coat", 0.5, "Shirt", 0.625, 0.75),
        Example("r.tfrecord[3]", None, "Bag", 0.5, "NaN", None, None),
    ),
)


def test_the_text_has_every_figure() -> None:
    """Ten pairs of classes, the rest of them as a number; what a terminal would obey is written as escapes."""
    assert evidence_text(_EVIDENCE) == (
        "baseline      stable (version 6) at grpc://a:8500\n"
        "candidate     grpc://b:8500 (version 7)\n"
        "agreement     0.9990 (95 % interval 0.9983 to 0.9994): 11988 of 12000 inputs have the same class\n"
        + "".join(f"                  1 Bag -> {CLASS_NAMES[number % 8]}\n" for number in range(10))
        + "                  2 of 2 other pairs\n"
        "probabilities differ by 0.7500 at most, 0.012500 in the mean\n"
        "no numbers    2 answers of grpc://b:8500 (version 7) are NaN or infinite, and agree with nothing\n"
        "refused       3 inputs by grpc://b:8500 (version 7), and not compared: INTERNAL: \\x1b[31mred\n"
        "accuracy      0.8820 and 0.8805 of 10000; alone right on 20 and 5 inputs, McNemar's p 0.0041\n"
        "latency       p50 1.00 and 1.50 ms (ratio 1.50), p99 2.00 and 3.00 ms, 1 in flight"
    )


def test_the_page_has_every_figure() -> None:
    """The tiles, the tables, and the examples with their labels; an input that is no image has no picture."""
    page = evidence_page(_EVIDENCE, [bytes(784), b""])
    for text in (
        "<b>99.90%</b>agreement",
        "<b>99.83% to 99.94%</b>95 % interval",
        "<b>88.20%</b>accuracy of the baseline",
        "<b>88.05%</b>of the candidate",
        "<b>0.0041</b>McNemar&#x27;s p",
        "<b>1.50</b>ratio of the latencies, 1 in flight",
        "<td>only the baseline right</td><td>20</td>",
        "<td>both wrong</td><td>1175</td>",
        "<td>1</td><td>1.00</td><td>1.50</td><td>2.00</td><td>3.00</td>",
        "<td>stable (version 6) at grpc://a:8500</td>",
        "<td>a.npy, b.npy</td>",
        "<td>c0ffee</td>",
        "<td>0.7500</td>",
        "Coat 0.50 ✓<br>→ Shirt 0.62<br><small>a&lt;b&gt;.png</small>",
        "<div class=none>no picture</div><figcaption>Bag 0.50<br>→ NaN<br><small>r.tfrecord[3]</small>",
        "INTERNAL: \\x1b[31mred",
    ):
        assert text in page, text
    assert page.count("<img ") == 1
    assert "$" not in page
