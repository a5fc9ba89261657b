"""A photograph as the data set has it: the garment light on black, trimmed, its longest edge 28 pixels, centred.

Fashion-MNIST was made from product photographs on white (Xiao et al. 2017, https://arxiv.org/abs/1708.07747, section 2
and figure 1): trimmed, resized, sharpened, centred, negated, made gray. On other backgrounds a pixel's distance from
the background, on whichever side, takes the place of the negated gray.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from fashion_common.served_model import IMAGE_SHAPE

_EDGE = IMAGE_SHAPE[0]
# The longest edge, in pixels, of the picture in which the garment is looked for.
_WORK_EDGE = 3 * _EDGE
_WHOLE = 255
# Levels that the frame of a plain background is within of one colour, and those below which there is no garment to see.
_PLAIN, _FAINT = 4, 12
# Shares of the garment's greatest distance from the background: what is garment at all, the greatest step between
# neighbours that a background makes, the most that a shadow reaches.
_GARMENT, _STEP, _SHADOW = 0.05, 0.12, 0.6
# A piece that weighs less than this share of the heaviest is not the garment's; of more pieces, nothing is kept.
_PIECE, _PIECES = 0.08, 60
# The training set's garments have 2 % of their pixels at or below this level, but for flat ones.
_DARKEST = 38
# A cut-out garment of a median luma above this is lost on white.
_LIGHT = 190


def photo_pixels(picture: Image.Image) -> tuple[Image.Image, str]:
    """The garment in a picture, mode L, 28 x 28, and what speaks against the result, or an empty text."""
    doubt = ""
    work = _reduced(picture.convert("RGBA"), _WORK_EDGE)
    # Many pictures have an alpha that hides nothing.
    if _percentile(work.getchannel("A").histogram(), 0.02) < _WHOLE // 2:
        levels, mask = _cut_out(work)
    else:
        levels, mask, doubt = _before_background(work.convert("RGB"))
    levels = _stretched(levels, mask)
    box = _above(levels, 30).getbbox() or (0, 0, *levels.size)
    edge = max(box[2] - box[0], box[3] - box[1])
    if not doubt and 2 * edge < _WORK_EDGE < max(picture.size):
        # Once more, from nearby: a small garment has few pixels.
        scale = max(picture.size) / _WORK_EDGE
        left, top = (round(max(0, side - edge // 3) * scale) for side in box[:2])
        right, bottom = (round((side + edge // 3) * scale) for side in box[2:])
        return photo_pixels(picture.crop((left, top, min(right, picture.width), min(bottom, picture.height))))
    small = _reduced(levels.crop(box), _EDGE).filter(ImageFilter.UnsharpMask(radius=1, percent=60, threshold=0))
    frame = Image.new("L", IMAGE_SHAPE)
    frame.paste(small, ((_EDGE - small.width) // 2, (_EDGE - small.height) // 2))
    return frame, doubt


def _cut_out(picture: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Levels and mask of a garment that has its background cut off: on white, or on black where white swallows it."""
    mask = _above(picture.getchannel("A"), 25)
    is_light = _percentile(picture.convert("L").histogram(mask), 0.5) > _LIGHT
    background = Image.new("RGBA", picture.size, "black" if is_light else "white")
    composite = Image.alpha_composite(background, picture)
    return _distance(composite.convert("RGB"), background.convert("RGB")), mask


def _before_background(picture: Image.Image) -> tuple[Image.Image, Image.Image, str]:
    """Levels and mask of what differs from the background and is not reached from the frame smoothly, and a doubt."""
    background, noise = _background(picture, curved=False)
    if noise > _PLAIN:
        background, noise = _background(picture, curved=True)
    if textured := noise > _PLAIN:
        picture = picture.filter(ImageFilter.MedianFilter(5))
        background, noise = _background(picture, curved=True)
    distance = _distance(picture, background)
    peak = _percentile(distance.histogram(), 0.997)
    different = _above(distance, max(_GARMENT * peak, 3, 2 * noise if noise > 2 else 0))  # noqa: PLR2004 - JPEG's own noise
    # A gradient or a shadow has no edges: its pixels differ little from their neighbours.
    edges = _distance(picture.filter(ImageFilter.MaxFilter(3)), picture.filter(ImageFilter.MinFilter(3)))
    obstacles = ImageChops.lighter(_above(edges, max(_STEP * peak, noise)), _above(distance, _SHADOW * peak))
    reachable = ImageOps.expand(obstacles, 1, 0)
    ImageDraw.floodfill(reachable, (0, 0), _WHOLE // 2)
    reachable = ImageOps.crop(reachable, 1).point([_WHOLE if level == _WHOLE // 2 else 0 for level in range(256)])
    mask = _heavy_pieces(ImageChops.subtract(different, reachable), distance)
    shadow = _count(ImageChops.multiply(different, reachable))
    data = mask.tobytes()
    frame = [data[position] for position in _frame(mask.size)]
    doubt = ""
    if peak < _FAINT:
        doubt = "hardly anything differs from the background"
    elif textured or sum(level == _WHOLE for level in frame) > 0.2 * len(frame):
        doubt = "no plain background, or the garment fills the frame: lay it on one colour, with room round it"
    elif shadow > 0.1 * _count(mask):
        doubt = "a shadow on the background may be taken for the garment, or the reverse: light it evenly"
    return ImageChops.multiply(distance, mask.filter(ImageFilter.MaxFilter(3))), mask, doubt


def _background(picture: Image.Image, *, curved: bool) -> tuple[Image.Image, float]:
    """What fits the frame's colours, as a picture, and its noise: a polynomial in x and y, or one colour.

    Noise: levels that three quarters of the frame's pixels are within of it. Least squares, anew without the pixels
    that are far off: a garment may touch the frame.
    """
    data, positions = picture.tobytes(), _frame(picture.size)
    colours = [data[3 * position : 3 * position + 3] for position in positions]
    width, height = picture.size
    rows = [_terms(position % width / width, position // width / height, curved=curved) for position in positions]
    inliers: Sequence[int] = range(len(rows))
    for _ in range(4):
        fits = _fits([rows[i] for i in inliers], [colours[i] for i in inliers])
        deviations = [
            max(abs(level - _value(fit, row)) for level, fit in zip(colour, fits, strict=True))
            for colour, row in zip(colours, rows, strict=True)
        ]
        limit = max(2.5 * sorted(deviations)[len(deviations) // 2], 3.0)
        inliers = [i for i, deviation in enumerate(deviations) if deviation <= limit]
    surface = Image.new("RGB", IMAGE_SHAPE)
    for x, y in ((x, y) for x in range(_EDGE) for y in range(_EDGE)):
        row = _terms((x + 0.5) / _EDGE, (y + 0.5) / _EDGE, curved=curved)
        surface.putpixel((x, y), tuple(min(_WHOLE, max(0, round(_value(fit, row)))) for fit in fits))
    return surface.resize(picture.size, Image.Resampling.BICUBIC), sorted(deviations)[len(deviations) * 3 // 4]


def _frame(size: tuple[int, int]) -> list[int]:
    """The positions of a picture's outermost pixels, in row-major order."""
    width, height = size
    last = (height - 1) * width
    sides = (position for row in range(width, last, width) for position in sorted({row, row + width - 1}))
    return [*range(width), *sides, *range(max(last, width), width * height)]


def _terms(x: float, y: float, *, curved: bool) -> tuple[float, ...]:
    return (1, x, y, x * x, x * y, y * y) if curved else (1,)


def _value(fit: Sequence[float], terms: Sequence[float]) -> float:
    total: float = sum(map(operator.mul, fit, terms))
    return total


def _fits(rows: Sequence[Sequence[float]], values: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """The least-squares solution for each column of `values`; Gauss-Jordan, since numpy takes long to import."""
    count = len(rows[0])
    columns = [*zip(*rows, strict=True)]
    right = [*columns, *zip(*values, strict=True)]
    matrix = [
        [_value(column, other) + (i == j) * 1e-6 for j, other in enumerate(right)] for i, column in enumerate(columns)
    ]
    for pivot in range(count):
        matrix[pivot] = [value / matrix[pivot][pivot] for value in matrix[pivot]]
        for i in range(count):
            if i != pivot:
                matrix[i] = [a - matrix[i][pivot] * b for a, b in zip(matrix[i], matrix[pivot], strict=True)]
    return [*zip(*(row[count:] for row in matrix), strict=True)]


def _heavy_pieces(mask: Image.Image, distance: Image.Image) -> Image.Image:
    """The mask without the pieces whose distances add up to much less than the heaviest's."""
    pieces: list[tuple[int, Image.Image]] = []
    while (box := mask.getbbox()) and len(pieces) < _PIECES:
        row = mask.crop((0, box[1], mask.width, box[1] + 1)).getbbox() or box
        filled = mask.copy()
        ImageDraw.floodfill(filled, (row[0], box[1]), 0)
        piece, mask = ImageChops.subtract(mask, filled), filled
        pieces.append((sum(level * count for level, count in enumerate(distance.histogram(piece))), piece))
    heaviest = max((weight for weight, _ in pieces), default=0)
    kept = Image.new("L", mask.size)
    for weight, piece in pieces:
        if weight >= _PIECE * heaviest:
            kept = ImageChops.lighter(kept, piece)
    return kept


def _stretched(levels: Image.Image, mask: Image.Image) -> Image.Image:
    """Levels as bright and as dark as the training set's; what is too faint to be a garment, or flat, stays so."""
    inner = mask.filter(ImageFilter.MinFilter(5))
    histogram = levels.histogram(inner if inner.getbbox() else mask)
    high, low = max(_percentile(histogram, 0.99), _FAINT), _percentile(histogram, 0.02)
    darkest = _DARKEST if low > _DARKEST * high // _WHOLE and high - low > _FAINT else _WHOLE * low // high
    table = [
        darkest * level // max(low, 1)
        if level < low
        else darkest + (_WHOLE - darkest) * (level - low) // max(high - low, 1)
        for level in range(256)
    ]
    return levels.point([min(_WHOLE, level) for level in table])


def _reduced(picture: Image.Image, edge: int) -> Image.Image:
    scale = edge / max(picture.size)
    return picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.BOX)


def _distance(picture: Image.Image, other: Image.Image) -> Image.Image:
    """Of each pixel, the greatest of its channels' differences; mode L."""
    red, green, blue = ImageChops.difference(picture, other).split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


def _above(levels: Image.Image, threshold: float) -> Image.Image:
    """A mask: 255 where a level is above the threshold, else 0."""
    return levels.point([_WHOLE if level > threshold else 0 for level in range(256)])


def _count(mask: Image.Image) -> int:
    return mask.histogram()[_WHOLE]


def _percentile(histogram: Sequence[int], share: float) -> int:
    """The level that `share` of a histogram's pixels do not exceed; 0 for none."""
    rest = share * sum(histogram)
    for level, count in enumerate(histogram):
        rest -= count
        if rest < 0:
            return level
    return 0
