"""The self-test archive: what is written is read, what is damaged is said to be, and what differs is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.apis.self_test import (
    ArchiveError,
    Array,
    Case,
    MismatchError,
    largest_differences,
    read_archive,
    write_archive,
)

STRINGS = np.array([[b"", b"a\0\0"], [b"\0", b"bcd"]], object)
CASES = {
    "first": Case({"x": STRINGS}, {"y": np.arange(6, dtype=np.int64).reshape(2, 3)}),
    "second": Case({"x": np.ones((2, 2), np.float32)}, {"y": np.full(2, 0.5, np.float32), "names": STRINGS}),
}


def test_the_archive_gives_back_what_was_written(tmp_path: Path) -> None:
    """Strings of any length survive, with the zeros at their ends, and the same cases give the same bytes."""
    for name in ("one", "two"):
        write_archive(tmp_path / name / "self_test.npz", CASES)

    cases = read_archive(tmp_path / "one" / "self_test.npz")

    assert list(cases) == list(CASES)
    for signature, case in CASES.items():
        for tensors, written in zip(cases[signature], case, strict=True):
            assert list(tensors) == list(written)
            for name, tensor in written.items():
                assert tensors[name].dtype == tensor.dtype
                np.testing.assert_array_equal(tensors[name], tensor)
    assert (tmp_path / "one" / "self_test.npz").read_bytes() == (tmp_path / "two" / "self_test.npz").read_bytes()


def test_the_keys_are_those_of_the_format(tmp_path: Path) -> None:
    """Plain arrays, so that any program can read them; a string tensor is its bytes and its lengths."""
    write_archive(tmp_path / "1" / "self_test.npz", CASES)

    with np.load(tmp_path / "1" / "self_test.npz", allow_pickle=False) as archive:
        assert archive.files == [
            "first/inputs/x/bytes",
            "first/inputs/x/lengths",
            "first/outputs/y",
            "second/inputs/x",
            "second/outputs/y",
            "second/outputs/names/bytes",
            "second/outputs/names/lengths",
        ]
        assert archive["first/inputs/x/bytes"].tobytes() == b"a\0\0\0bcd"
        assert archive["first/inputs/x/lengths"].tolist() == [[0, 3], [1, 3]]


@pytest.mark.parametrize(
    "arrays",
    [
        {"first": np.zeros(1)},
        {"first/inputs": np.zeros(1)},
        {"first/sideways/x": np.zeros(1)},
        {"first/inputs/x/lengths": np.zeros(1, np.int64)},
        {"first/inputs/x/bytes": np.zeros(1, np.uint8), "first/inputs/x/lengths": np.zeros(1)},
        {"first/inputs/x": np.array([object()], object)},
    ],
    ids=["one part", "two parts", "side", "no bytes", "float lengths", "pickle"],
)
def test_an_archive_of_another_kind_is_refused(tmp_path: Path, arrays: dict[str, Array]) -> None:
    """Keys and arrays that the format does not have; nothing is unpickled."""
    np.savez(tmp_path / "self_test.npz", allow_pickle=True, **arrays)

    with pytest.raises(ArchiveError):
        read_archive(tmp_path / "self_test.npz")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    """Missing, empty, cut short, or with a byte changed anywhere: an ArchiveError, or all as it was, nothing else."""
    path = tmp_path / "1" / "self_test.npz"
    with pytest.raises(ArchiveError):
        read_archive(path)
    write_archive(path, CASES)
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ArchiveError):
            read_archive(path)
    refused = 0
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            read_archive(path)
        except ArchiveError:
            refused += 1
    assert refused > len(whole) // 7 // 2


def answering(outputs: dict[str, Array]) -> dict[str, float]:
    """The differences of a model that answers the second case with these outputs."""
    return largest_differences({"second": CASES["second"]}, lambda _name, case: case.outputs | outputs)


def test_the_largest_difference_of_each_signature_is_given() -> None:
    """Within the tolerance for floats; outputs that are not in the archive do not matter."""
    y = CASES["second"].outputs["y"]

    differences = largest_differences(
        CASES, lambda _name, case: {**case.outputs, "more": y} if "names" not in case.outputs else {**case.outputs}
    )

    assert differences == {"first": 0.0, "second": 0.0}
    assert answering({"y": y + np.array([0, 4e-6], np.float32)})["second"] == pytest.approx(4e-6, rel=0.05)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (
            {"y": np.array([0.5, 0.50002], np.float32)},
            "output y of second differs by up to 2e-05: at most 1e-05 is allowed",
        ),
        (
            {"y": np.array([np.nan, 0.5], np.float32)},
            "output y of second differs by up to nan: at most 1e-05 is allowed",
        ),
        ({"y": np.full(2, 0.5)}, "output y of second is float64 [2]: expected float32 [2]"),
        ({"y": np.full((1, 2), 0.5, np.float32)}, "output y of second is float32 [1, 2]: expected float32 [2]"),
        ({"names": np.where(STRINGS == b"", b"other", STRINGS)}, "output names of second differs in 1 of 4 elements"),
    ],
    ids=["float", "nan", "dtype", "shape", "strings"],
)
def test_what_differs_is_named(outputs: dict[str, Array], text: str) -> None:
    """The signature, the output, and by how much."""
    with pytest.raises(MismatchError) as caught:
        answering(outputs)
    assert str(caught.value) == text


def test_a_missing_output_is_named() -> None:
    """What the archive promises has to be there."""
    with pytest.raises(MismatchError, match=r"^signature second has no output names$"):
        largest_differences({"second": CASES["second"]}, lambda _name, case: {"y": case.outputs["y"]})


@pytest.mark.parametrize(
    ("expected", "difference", "passes"),
    [
        (np.array([1000, 2], np.float32), 0.009, True),
        (np.array([1000, 2], np.float32), 0.011, False),
        (np.array([-1000, 2], np.float64), 0.011, False),
        (np.array([0.5, 2], np.float16), 0.00195, True),
        (np.array([0.5, 1], np.float16), 0.002, False),
    ],
    ids=["within", "beyond", "negative", "half", "half, beyond"],
)
def test_the_tolerance_is_to_the_greatest_number(expected: Array, difference: float, passes: bool) -> None:
    """A hundred-thousandth of an output's greatest number where that is over 1, and never less than its dtype tells."""
    value = expected + np.array([0, difference], expected.dtype)
    case = {"s": Case({}, {"y": expected})}
    if passes:
        assert largest_differences(case, lambda *_: {"y": value})["s"] == pytest.approx(difference, rel=0.05)
    else:
        with pytest.raises(MismatchError, match=r"^output y of s differs by up to"):
            largest_differences(case, lambda *_: {"y": value})
