"""Photographs: garments found on any background, and warnings where an answer would mean nothing."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from client import ImageWarning
from client.pictures.images import read_image
from client.types import Preprocess
from tests.support.photographs import KINDS, PLAIN, RECORDED, photograph, results
from training.data.dataset import Dataset

Pixels = npt.NDArray[np.uint8]
Classify = Callable[[Pixels], npt.NDArray[np.int64]]

_COUNT = 20


def _read(file: bytes, preprocess: Preprocess = "auto") -> tuple[Pixels, list[str]]:
    """The pixels, uint8 [28, 28], and the texts of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels = read_image(io.BytesIO(file), "it", preprocess)
    assert all(issubclass(warning.category, ImageWarning) for warning in caught)
    return np.frombuffer(pixels, np.uint8).reshape(28, 28), [str(warning.message) for warning in caught]


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def classify(real_data: Dataset) -> Classify:
    """The multilayer perceptron after three epochs: uint8 [N, 28, 28] to class ids [N]."""
    import keras

    from training.fit.models import build

    keras.utils.set_random_seed(1)
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(real_data.train_images / np.float32(255), real_data.train_labels, batch_size=256, epochs=3, verbose=0)

    def class_ids(images: Pixels) -> npt.NDArray[np.int64]:
        return np.asarray(model.predict(images / np.float32(255), verbose=0).argmax(axis=1))

    return class_ids


def test_garments_are_recognized_on_backgrounds_of_twelve_kinds(real_data: Dataset, classify: Classify) -> None:
    """Within 3 points of the data set's own images on plain backgrounds; on others within 10, or warned about."""
    plain_losses, plain_warnings = [], []
    for number, kind in enumerate(KINDS):
        generator = np.random.default_rng(number)
        rows = generator.choice(len(real_data.test_labels), _COUNT, replace=False)
        originals, labels = real_data.test_images[rows], real_data.test_labels[rows]
        results = [_read(photograph(image, kind, generator)) for image in originals]
        is_warned = np.array([bool(texts) for _, texts in results])
        is_right = classify(np.stack([pixels for pixels, _ in results])) == labels
        loss = (classify(originals) == labels).mean() - (is_right | is_warned).mean()
        if kind in PLAIN:
            plain_losses.append((classify(originals) == labels).mean() - is_right.mean())
            plain_warnings.append(is_warned.mean())
        assert loss <= 0.1, f"{kind}: {loss:.2f} of the answers are lost without a warning"
    assert np.mean(plain_losses) <= 0.03
    assert np.mean(plain_warnings) <= 0.05


def test_photographs_become_the_pixels_that_they_became() -> None:
    """On every kind of background, to a few levels: who changes this on purpose records it anew."""
    recorded = np.load(RECORDED)
    expected = zip(recorded["kinds"], recorded["pixels"], recorded["texts"], strict=True)
    for (kind, pixels, text), (expected_kind, expected_pixels, expected_text) in zip(results(), expected, strict=True):
        assert (kind, text) == (expected_kind, expected_text)
        # Decoders of JPEG round differently.
        assert np.abs(pixels.astype(int) - expected_pixels).max() <= 3, kind


def test_the_data_sets_own_pictures_are_not_warned_about(real_data: Dataset) -> None:
    """Hardly any: of every fourth one fewer than 1 in 100."""
    images = real_data.test_images[::4]
    assert sum(bool(_read(_png(Image.fromarray(image)))[1]) for image in images) < len(images) / 100


def _shirt(colour: tuple[int, ...], background: tuple[int, ...]) -> Image.Image:
    """A shirt whose folds are halfway between its colour and the background's."""
    picture = Image.new("RGBA" if len(background) > 3 else "RGB", (600, 800), background)
    draw = ImageDraw.Draw(picture)
    sleeves = [(200, 150), (400, 150), (500, 330), (450, 360), (390, 270)]
    draw.polygon([*sleeves, (390, 640), (210, 640), (210, 270), (150, 360), (100, 330)], fill=colour)
    fold = (*((a + b) // 2 for a, b in zip(colour[:3], background, strict=False)), *colour[3:])
    for y in range(330, 620, 60):
        draw.line([(215, y), (385, y)], fill=fold, width=18)
    return picture


@pytest.mark.parametrize(
    ("colour", "background"),
    [
        ((20, 20, 25), (255, 255, 255)),
        ((255, 255, 255), (185, 190, 180)),
        ((0, 0, 0), (70, 75, 80)),
        ((220, 200, 190), (20, 25, 20)),
        ((255, 255, 255, 255), (200, 200, 200, 0)),
        ((30, 30, 40, 255), (255, 255, 255, 0)),
    ],
    ids=["dark on white", "lighter on light", "darker on dark", "light on dark", "white cut out", "dark cut out"],
)
def test_a_garment_is_light_on_black_on_whichever_side_of_its_background_it_is(
    colour: tuple[int, ...], background: tuple[int, ...]
) -> None:
    """The same shirt each time: black corners, a light body, folds that are darker than it."""
    pixels, texts = _read(_png(_shirt(colour, background)))
    assert texts == []
    assert max(pixels[0, 0], pixels[27, 27], pixels[27, 0]) == 0
    assert np.median(pixels[4:26, 10:18]) > 150
    assert pixels[0].max() > 100
    assert pixels[27].max() > 100


def test_a_garment_of_a_third_of_its_picture_is_looked_at_from_nearby() -> None:
    """It becomes what it becomes alone, give or take a pixel of its place."""
    shirt = _shirt((20, 20, 25), (255, 255, 255))
    far = Image.new("RGB", (2000, 2000), "white")
    far.paste(shirt.resize((825, 1100)), (350, 450))
    (alone, _), (small, texts) = _read(_png(shirt)), _read(_png(far))
    assert texts == []
    assert np.abs(alone.astype(int) - small).mean() < 20


def test_a_garment_that_reaches_the_frame_is_found_before_one_colour() -> None:
    """A fifth of the frame is the garment's; no curve is laid through it."""
    picture = Image.new("RGB", (600, 600), (240, 235, 230))
    ImageDraw.Draw(picture).rectangle((100, 300, 499, 599), fill=(30, 30, 40))
    pixels, texts = _read(_png(picture), "photo")
    assert not any("no plain background" in text for text in texts)
    assert pixels[5:23, 1:27].min() == 255


@pytest.mark.parametrize("size", [(4000, 1), (1, 4000)], ids=["wide", "high"])
def test_a_line_is_a_picture_too(size: tuple[int, int]) -> None:
    """However it is reduced, a pixel of its shorter side is left."""
    pixels, _ = _read(_png(Image.new("RGB", size, "white")), "photo")
    assert pixels.shape == (28, 28)


def test_a_garment_of_one_level_stays_so() -> None:
    """There is nothing in it to stretch."""
    bar = Image.new("RGB", (84, 84), "white")
    bar.paste((0, 0, 0), (28, 14, 56, 70))
    pixels, texts = _read(_png(bar), "photo")
    assert texts == []
    assert np.all(pixels[:, 7:21] == 255)
    assert not pixels[:, :7].any()


def test_a_small_garment_is_looked_at_from_nearby() -> None:
    """A hundredth of the picture's area shows the same shirt, its five folds included."""
    shirt = _shirt((20, 20, 25), (255, 255, 255))
    large = Image.new("RGB", (6000, 6000), "white")
    large.paste(shirt, (3000, 4000))
    pixels, texts = _read(_png(large))
    assert texts == []
    for view in (pixels, _read(_png(shirt))[0]):
        assert np.count_nonzero(np.diff((view[8:27, 14] > 190).astype(int))) == 2 * 5


def _noise(spread: int) -> Image.Image:
    levels = np.random.default_rng(1).integers(128 - spread, 128 + spread, (300, 300, 3))
    return Image.fromarray(levels.astype(np.uint8))


def _gray(level: int, size: int = 28) -> Image.Image:
    return Image.new("L", (size, size), level)


@pytest.mark.parametrize(
    ("picture", "preprocess", "text"),
    [
        (Image.new("RGB", (300, 200), (240, 240, 240)), "photo", "hardly anything differs from the background"),
        (Image.new("RGB", (1, 1)), "photo", "hardly anything differs from the background"),
        (_gray(0), "auto", "hardly any contrast: there is no garment to see"),
        (_gray(0, 1), "none", "hardly any contrast: there is no garment to see"),
        (Image.new("RGBA", (90, 90)), "photo", "hardly any contrast: there is no garment to see"),
        (_noise(3), "photo", "hardly anything differs from the background"),
        (_noise(100), "photo", "no plain background, or the garment fills the frame"),
        (
            _shirt((9, 9, 9), (255, 255, 255)).crop((205, 200, 395, 600)),
            "photo",
            "the garment fills the frame: lay it on one colour, with room",
        ),
        (_shirt((9, 9, 9), (255, 255, 255)), "none", "is the background light? --preprocess photo makes it black"),
    ],
)
def test_what_an_answer_would_mean_nothing_for_is_warned_about(
    picture: Image.Image, preprocess: Preprocess, text: str
) -> None:
    """Blank, one pixel, one colour, hardly any contrast, a textured background, a full frame, not the photo recipe."""
    _, [warning] = _read(_png(picture), preprocess)
    assert warning.startswith("it: ")
    assert text in warning


def test_how_a_picture_is_unlike_the_training_set() -> None:
    """Its mean pixel and the share of its pixels that are not black, beside the ranges there."""
    picture = _gray(0)
    # 40 of 784 pixels.
    picture.paste(200, (10, 10, 20, 14))
    _, texts = _read(_png(picture), "none")
    [text] = texts
    assert text == (
        "it: unlike the training set: the mean pixel is 10 (11 to 167 there), and 5% of the pixels are not black "
        "(13% to 87%)"
    )


@pytest.mark.parametrize(("difference", "is_flat"), [(99, True), (100, False)])
def test_contrast_begins_at_a_hundred_levels(difference: int, is_flat: bool) -> None:
    """Between the darkest and the lightest pixel."""
    picture = _gray(10)
    picture.paste(10 + difference, (8, 2, 20, 26))
    _, texts = _read(_png(picture), "none")
    assert any("hardly any contrast" in text for text in texts) is is_flat


def test_a_large_jpeg_is_reduced_while_it_is_decoded() -> None:
    """More pixels than are decoded of any other format; the garment is found as in a small one."""
    small = _shirt((20, 20, 25), (255, 255, 255)).convert("L")
    buffer = io.BytesIO()
    small.resize((9000, 12000), Image.Resampling.NEAREST).save(buffer, "JPEG")
    pixels, texts = _read(buffer.getvalue())
    assert texts == []
    assert np.abs(pixels.astype(int) - _read(_png(small))[0]).mean() < 5


@pytest.mark.parametrize(("level", "is_light"), [(190, False), (191, True)])
def test_a_light_cut_out_is_seen_on_black(level: int, is_light: bool) -> None:
    """White would swallow it: its dark stripe is dark; any other's is what differs most from white."""
    picture = Image.new("RGBA", (84, 84))
    picture.paste((level, level, level, 255), (28, 14, 56, 70))
    picture.paste((100, 100, 100, 255), (28, 38, 56, 46))
    pixels, texts = _read(_png(picture), "photo")
    assert texts == []
    assert (pixels[14, 14] < pixels[4, 14]) == is_light
    assert max(pixels[14, 14], pixels[4, 14]) == 255
