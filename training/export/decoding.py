"""The graph's image decoder: PNG, JPEG, GIF or BMP files to the pixels that the model was trained on."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from fashion_common.served_model import IMAGE_SHAPE, MAX_PIXELS

IMAGE_SIZE, _ = IMAGE_SHAPE  # square

# ITU-R BT.601 luma in 16 bit fixed point, as Pillow's convert("L") rounds it: the same photograph gives the same gray
# whether the client or the graph decodes it. The three add up to 2**16, so gray stays as it is.
_LUMA = (19595, 38470, 7471)


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """string [N], each a PNG, JPEG, GIF (first frame) or BMP -> uint8 [N, 28, 28].

    A file that cannot be decoded fails the call with InvalidArgumentError: `image 3 of 5, counted from 0, is not ...`.
    """
    # Only a data set that ignores errors tells which row failed; it takes 2 ms a call to set up, which a single image,
    # whose error needs no number, does without.
    decode_row = tf.function(pixels, autograph=False)
    single = tf.equal(tf.size(image_bytes), 1)
    images = tf.cond(
        single, lambda: decode_row(image_bytes[0])[tf.newaxis], lambda: _decode_rows(decode_row, image_bytes)
    )
    return tf.ensure_shape(images, [None, IMAGE_SIZE, IMAGE_SIZE])


def pixels(file: tf.Tensor) -> tf.Tensor:
    """One file's bytes -> uint8 [28, 28]: in gray on black, the data set's background.

    The longest edge becomes 28 pixels and the picture is centred, as in https://arxiv.org/abs/1708.07747, section 2.
    """
    image = gray(file)
    right_size = tf.reduce_all(tf.equal(tf.shape(image), IMAGE_SIZE))
    return tf.ensure_shape(tf.cond(right_size, lambda: image, lambda: _resize(image)), [IMAGE_SIZE, IMAGE_SIZE])


def gray(file: tf.Tensor) -> tf.Tensor:
    """One file's bytes -> uint8 [height, width]: luma of the colours, alpha laid on black, 16 bit cut to 8."""
    magic = tf.strings.substr(file, 0, 2)
    image = tf.case(
        [
            (magic == b"\x89P", lambda: _png(file)),
            (magic == b"\xff\xd8", lambda: _jpeg(file)),
            (magic == b"GI", lambda: _gif(file)),
            (magic == b"BM", lambda: _bmp(file)),
        ],
        default=_unknown,
    )
    red, green, blue, alpha = (
        tf.cast(channel, tf.int32) for channel in tf.unstack(tf.ensure_shape(image, [None, None, 4]), axis=-1)
    )
    luma = (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue + 2**15) // 2**16
    return tf.cast((luma * alpha + 127) // 255, tf.uint8)


def _decode_rows(decode_row: Callable[[tf.Tensor], tf.Tensor], image_bytes: tf.Tensor) -> tf.Tensor:
    count = tf.size(image_bytes, tf.int64)
    files = tf.data.Dataset.from_tensor_slices(image_bytes).enumerate()
    images = files.map(lambda row, file: (row, decode_row(file))).ignore_errors()
    # One more row than there are files: the batch is never empty, and the first missing row is always found.
    end = tf.data.Dataset.from_tensors((count, tf.zeros([IMAGE_SIZE, IMAGE_SIZE], tf.uint8)))
    rows, batch = images.concatenate(end).batch(count + 1).get_single_element()
    first_missing = tf.argmax(tf.not_equal(rows, tf.range(tf.size(rows, tf.int64))))
    message = tf.strings.format(
        "image {} of {}, counted from 0, is not a whole PNG, JPEG, GIF or BMP image "
        f"of at most {MAX_PIXELS} pixels",
        (first_missing, count),
    )
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(tf.size(rows, tf.int64), count + 1), [message])]):
        return batch[:-1]


def _resize(image: tf.Tensor) -> tf.Tensor:
    shape = tf.shape(image)
    sides = tf.maximum((2 * IMAGE_SIZE * shape + tf.reduce_max(shape)) // (2 * tf.reduce_max(shape)), 1)
    picture = tf.image.resize(image[..., tf.newaxis], sides, antialias=True)[..., 0]
    margin = (IMAGE_SIZE - sides) // 2
    margins = tf.stack([margin, IMAGE_SIZE - sides - margin], axis=1)
    return tf.pad(tf.saturate_cast(tf.round(picture), tf.uint8), margins)


def _unknown() -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.Assert(False, ["not a PNG, JPEG, GIF or BMP image"])]):
        return tf.zeros([1, 1, 4], tf.uint8)


def _png(file: tf.Tensor) -> tf.Tensor:
    with _area_limit(_integers(file, 16, 8, tf.int32, little_endian=False)):
        image = tf.io.decode_png(file, channels=4)
    # A file of 1, 2 or 4 bit has no alpha; TensorFlow fills it with that depth's greatest number, not with 255.
    depth = tf.cast(_integers(file, 24, 1, tf.uint8)[0], tf.int32)
    greatest = tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1
    no_alpha = tf.reduce_all(tf.equal(tf.cast(image[..., 3], tf.int32), greatest))
    return tf.cond(no_alpha, lambda: _opaque(image[..., :3]), lambda: image)


def _jpeg(file: tf.Tensor) -> tf.Tensor:
    with _area_limit(tf.io.extract_jpeg_shape(file)[:2]):
        # The accurate transform is what Pillow uses: both decoders then give the same pixels.
        return _opaque(tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE"))


def _gif(file: tf.Tensor) -> tf.Tensor:
    with _area_limit(_integers(file, 6, 4, tf.uint16)):
        return _opaque(tf.io.decode_image(file, channels=3, expand_animations=False))


def _bmp(file: tf.Tensor) -> tf.Tensor:
    """TensorFlow decodes 8 bit BMP to indices into its palette; the fourth byte of 32 bit BMP is padding."""
    with _area_limit(_integers(file, 18, 8, tf.int32)):
        image = tf.io.decode_bmp(file)
    return _opaque(tf.cond(tf.equal(tf.shape(image)[-1], 1), lambda: _colours(file, image), lambda: image[..., :3]))


def _colours(file: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    # https://learn.microsoft.com/windows/win32/api/wingdi/ns-wingdi-bitmapinfoheader: the pixels' offset is at byte 10,
    # the size of the header that the palette follows at byte 14; an entry is blue, green, red and an unused byte.
    pixels_start, header_size = tf.unstack(_integers(file, 10, 8, tf.int32), num=2)
    start = tf.clip_by_value(14 + header_size, 0, tf.strings.length(file))
    palette = tf.io.decode_raw(tf.strings.substr(file, start, tf.maximum(pixels_start - start, 0)), tf.uint8)
    return tf.gather(tf.reshape(palette, [-1, 4])[:, 2::-1], tf.cast(indices[..., 0], tf.int32))


def _integers(file: tf.Tensor, position: int, length: int, dtype: tf.DType, *, little_endian: bool = True) -> tf.Tensor:
    # Zeros replace what a cut file lacks: substr's own error would quote the file's bytes, which are no text.
    head = tf.strings.substr(file, 0, position + length) + b"\0" * (position + length)
    return tf.io.decode_raw(tf.strings.substr(head, position, length), dtype, little_endian=little_endian)


def _area_limit(sides: tf.Tensor) -> tf.control_dependencies:
    area = tf.reduce_prod(tf.abs(tf.cast(sides, tf.int64)))
    return tf.control_dependencies(
        [tf.debugging.Assert(area <= MAX_PIXELS, [f"an image may have {MAX_PIXELS} pixels, not", area])]
    )


def _opaque(image: tf.Tensor) -> tf.Tensor:
    return tf.pad(image, [[0, 0], [0, 0], [0, 1]], constant_values=255)
