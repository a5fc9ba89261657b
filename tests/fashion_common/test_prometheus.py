"""Samples in the text that Prometheus reads."""

from __future__ import annotations

from fashion_common.prometheus import samples

_TEXT = """# HELP requests Requests.
# TYPE requests counter
requests{model_name="m",status="OK"} 3
requests{model_name="a \\"b\\" } c",status="INTERNAL"} 1.5e3 1700000000
requests{model_name="x"} many
requests{model_name="x"}\x20
requests 7
requests_total{model_name="m"} 9
other{model_name="m"} 8
requests{} 2
"""


def test_the_samples_of_a_name() -> None:
    """With their labels, and without their times; those of other names, and what has no number, are passed over."""
    assert list(samples(_TEXT, "requests")) == [
        ({"model_name": "m", "status": "OK"}, 3.0),
        ({"model_name": 'a \\"b\\" } c', "status": "INTERNAL"}, 1500.0),
        ({}, 2.0),
    ]
    assert list(samples(_TEXT, "nothing")) == []
