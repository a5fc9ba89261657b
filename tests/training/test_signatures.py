"""The four signatures, as a plain `tf.saved_model.load` of the exported directory answers them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from exports import encoded, pictures, tiny_model
from PIL import Image

from training.dataset import CLASS_NAMES
from training.signatures import gray, write_saved_model


@pytest.fixture(scope="module")
def model():
    """The textbook's model."""
    return tiny_model()


@pytest.fixture(scope="module")
def signatures(model, tmp_path_factory: pytest.TempPathFactory):
    """Its signatures, saved and loaded."""
    path = tmp_path_factory.mktemp("models") / "1"
    write_saved_model(model, path)
    loaded = tf.saved_model.load(str(path))
    return loaded.signatures


def keras_probabilities(model, images):
    """What the model gives for raw pixels."""
    return model.predict(images / np.float32(255), verbose=0)


def test_names_shapes_and_dtypes_are_the_design_s(signatures) -> None:
    """Every signature has exactly the tensors of the table."""
    described = {
        name: (
            {key: (spec.dtype.name, tuple(spec.shape)) for key, spec in function.structured_input_signature[1].items()},
            {key: (spec.dtype.name, tuple(spec.shape)) for key, spec in function.structured_outputs.items()},
        )
        for name, function in signatures.items()
    }
    three = {
        "probabilities": ("float32", (None, 10)),
        "class_ids": ("int64", (None,)),
        "class_names": ("string", (None,)),
    }
    assert described == {
        "serving_default": ({"images": ("uint8", (None, 28, 28))}, three),
        "encoded_images": ({"image_bytes": ("string", (None,))}, three),
        "float_images": ({"images": ("float32", (None, 28, 28))}, {"probabilities": ("float32", (None, 10))}),
        "classify": (
            {"inputs": ("string", (None,))},
            {"classes": ("string", (None, 10)), "scores": ("float32", (None, 10))},
        ),
    }


def test_float_images_is_the_keras_model(model, signatures) -> None:
    """256 scaled images give Keras's probabilities within 1e-6."""
    images = pictures(256) / np.float32(255)
    answer = signatures["float_images"](images=tf.constant(images))
    np.testing.assert_allclose(answer["probabilities"], model.predict(images, verbose=0), rtol=0, atol=1e-6)


def test_serving_default_scales_in_the_graph_and_names_the_class(model, signatures) -> None:
    """Raw pixels give Keras's probabilities, the best class's number and its name."""
    images = pictures(32)
    answer = signatures["serving_default"](images=tf.constant(images))
    expected = keras_probabilities(model, images)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-6)
    assert answer["class_ids"].numpy().tolist() == expected.argmax(axis=1).tolist()
    assert answer["class_names"].numpy().tolist() == [CLASS_NAMES[row].encode() for row in expected.argmax(axis=1)]


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP"])
def test_encoded_images_sees_the_pixels_of_the_file(model, signatures, form: str) -> None:
    """A 28 x 28 gray file without loss gives the probabilities of its pixels."""
    images = pictures(5)
    files = tf.constant([encoded(image, form) for image in images])
    answer = signatures["encoded_images"](image_bytes=files)
    np.testing.assert_allclose(answer["probabilities"], keras_probabilities(model, images), rtol=0, atol=1e-6)


def test_encoded_images_mixes_formats_and_sizes_in_one_request(model, signatures) -> None:
    """Rows keep their order whatever they are: here a large JPEG, a small GIF, a wide BMP and a plain PNG."""
    image = pictures(1)[0]
    flat = np.full((280, 280), 200, np.uint8)
    wide = np.zeros((28, 28), np.uint8)
    wide[7:21] = 200  # 140 x 280 becomes 14 x 28, centred on black
    files = [encoded(flat, "JPEG"), encoded(flat[:14, :14], "GIF"), encoded(flat[:140], "BMP"), encoded(image, "PNG")]
    probabilities = signatures["encoded_images"](image_bytes=tf.constant(files))["probabilities"]
    expected = keras_probabilities(model, np.stack([flat[:28, :28], flat[:28, :28], wide, image]))
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6)


def test_an_empty_request_gives_an_empty_answer(signatures) -> None:
    """No rows in, no rows out, in every signature."""
    assert signatures["serving_default"](images=tf.zeros([0, 28, 28], tf.uint8))["class_names"].shape == (0,)
    assert signatures["encoded_images"](image_bytes=tf.constant([], tf.string))["probabilities"].shape == (0, 10)
    assert signatures["classify"](inputs=tf.constant([], tf.string))["classes"].shape == (0, 10)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"not an image",
        b"\x89PNG",
        b"BM",
        encoded(pictures(1)[0], "PNG")[:-30],
        encoded(pictures(1)[0], "GIF")[:60],
    ],
    ids=["empty", "text", "png-magic", "bmp-magic", "png-cut", "gif-cut"],
)
def test_one_bad_image_fails_its_request_and_is_named(signatures, bad: bytes) -> None:
    """The error says which row it was."""
    good = encoded(pictures(1)[0], "PNG")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        signatures["encoded_images"](image_bytes=tf.constant([good, bad, good]))
    assert "image_bytes[1] of 3 is not a whole PNG, JPEG, GIF or BMP image" in caught.value.message


def test_classify_gives_every_class_with_its_score(model, signatures) -> None:
    """A tf.Example with the file's bytes gives all names in label order and the probabilities."""
    images = pictures(3)
    answer = signatures["classify"](inputs=tf.constant([example(encoded(image, "PNG")) for image in images]))
    assert answer["classes"].numpy().tolist() == [[name.encode() for name in CLASS_NAMES]] * 3
    np.testing.assert_allclose(answer["scores"], keras_probabilities(model, images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP"])
def test_colours_become_the_gray_that_pillow_makes(form: str) -> None:
    """A client that decodes with Pillow and a graph that decodes itself see the same pixels."""
    colours = np.random.default_rng(1).integers(0, 256, (31, 17, 3), dtype=np.uint8)
    file = encoded(colours, form)
    np.testing.assert_array_equal(gray(tf.constant(file)), np.asarray(Image.open(io.BytesIO(file)).convert("L")))


def example(file: bytes) -> bytes:
    """A serialized tf.Example around an image file."""
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file]))
    return tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature})).SerializeToString()
