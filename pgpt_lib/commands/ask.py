"""`python -m pgpt_lib ask`: ask a trained model about any picture."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..data.sample import VIS, Sample, Turn
from ..errors import InputError
from ..regions import Region, mask_to_rle, rle_to_mask
from ._output import JsonFlag, results

if TYPE_CHECKING:
    from ..generation import Answer
    from ..model import PerceptionGPT

MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO")
"""What is read; not EPS, for which Pillow would start Ghostscript on a stranger's file."""
DRAWN_SIDE = 1600  # larger pictures are thinned out before they are drawn
WHITE = (255, 255, 255, 255)


def ask(
    checkpoint: Annotated[Path, typer.Option(help="A step_N, or a folder of them: then the last complete one.")],
    image: Annotated[Path, typer.Option(help="A picture of any kind that Pillow reads, at most 50 megapixels.")],
    question: Annotated[str, typer.Option(help="What to ask; <vis> stands for the region of --box.")],
    box: Annotated[str | None, typer.Option(help="x,y,w,h in pixels of the upright picture, for <vis>.")] = None,
    out: Annotated[Path | None, typer.Option(help="Draw the answer's regions into this PNG.")] = None,
    json: JsonFlag = False,
) -> None:
    """Print a trained model's answer about a picture, with its regions in pixels."""
    with results(json) as emit:
        if out is not None and out.suffix.lower() != ".png":
            raise InputError(f"--out {out}: the drawing is a PNG, so its name must end with .png")
        picture = read_picture(image)
        height, width = picture.shape[:2]
        given = parse_box(box, height, width)
        text, regions = answer(checkpoint, picture, make_turn(question, given))
        found = [{**region.to_coco(height, width), "depth": region.depth} for region in regions]
        if out is not None:
            draw(out, picture, regions, f"{question}\n{text}")
        size = {"width": width, "height": height}
        lines = [text]
        for i, region in enumerate(found):
            x_y_w_h = "  ".join(f"{value:.1f}" for value in region["bbox"] or ())
            lines.append(f"region {i + 1}, x y w h in pixels: {x_y_w_h or 'no box'}")
        emit({"question": question, "answer": text, "regions": found, **size}, "\n".join(lines))


def answer(checkpoint: Path, picture: np.ndarray, turn: Turn) -> tuple[str, list[Region]]:
    """A trained model's words and regions.

    Args:
        checkpoint: as for `checkpoint.find_checkpoint`.
        picture: uint8 (height, width, 3), RGB.
        turn: the question.
    """
    from ..checkpoint import load_checkpoint

    model, _ = load_checkpoint(checkpoint)
    _, given = reply_to(model, picture, turn)
    return given.text, given.regions


def reply_to(model: PerceptionGPT, picture: np.ndarray, turn: Turn) -> tuple[Sample, Answer]:
    """The dialogue as a loaded model reads it, and its answer; arguments as for `answer`."""
    from ..evaluation.predictions import TowerFeatures, max_new_tokens
    from ..generation import generate

    if model.chat.template.closed_words:  # a word-level tokenizer knows signs only when they stand alone
        turn = Turn(turn.role, re.sub(r"\s*([?.!,;:])(?=\s|$)", r" \1", turn.text).strip(), turn.regions)

    class OnePicture:
        """The picture under every key."""

        def load_image(self, image_id: str) -> np.ndarray:
            return picture

    sample = Sample("ask", "ask", (picture.shape[0], picture.shape[1]), (turn,))
    limit = max_new_tokens("spot_caption", model.chat.region_tokens)
    [given] = generate(model, [sample], TowerFeatures(model.tower, OnePicture()), max_new_tokens=limit)
    return sample, given


def make_turn(question: str, region: Region | None) -> Turn:
    """The question, with the given region in the place of its `<vis>`.

    Raises:
        InputError: no words, `<vis>` without a box, a box without `<vis>`, or several `<vis>`.
    """
    if not question.strip():
        raise InputError("--question is empty; ask something, as --question 'where is the red circle ?'")
    slots = question.count(VIS)
    if slots and region is None:
        raise InputError(f"--question {question!r} has {VIS}, but no --box x,y,w,h says what it stands for")
    if slots != (region is not None):
        raise InputError(f"--question {question!r} must have {VIS} once, where --box stands, as 'what is {VIS} ?'")
    return Turn("user", question, (region,) if region is not None else ())


def parse_box(text: str | None, height: int, width: int) -> Region | None:
    """`x,y,w,h` in pixels as a region of a picture; None for None.

    Raises:
        InputError: not four finite numbers, no area, or outside the picture.
    """
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--box {text!r} is not four numbers x,y,w,h") from None
    try:
        region = Region.from_coco(numbers, None, height, width)
    except InputError as error:
        raise InputError(f"--box {text!r}: {error}") from None
    x1, y1, x2, y2 = region.box or (0.0,) * 4
    if x1 >= x2 or y1 >= y2:
        raise InputError(f"--box {text!r} has no area within the picture of {width} x {height} pixels")
    return region


def read_picture(path: Path) -> np.ndarray:
    """Any picture as uint8 (height, width, 3), RGB, turned upright as its EXIF orientation says.

    Greyscale (of 8 or 16 bits), palette and CMYK pictures are converted, transparent ones laid on white; of several
    frames the first is taken.

    Raises:
        InputError: missing, empty, not of `FORMATS`, damaged, or larger than 50 megapixels.
    """
    if not path.is_file():
        raise InputError(f"--image {path}: no such file")
    with path.open("rb") as file:
        return open_picture(file, f"--image {path}")


def open_picture(file: IO[bytes], name: str) -> np.ndarray:
    """An open file as `read_picture` reads it; `name` is what messages call it."""
    from PIL import Image, ImageOps

    if file.seek(0, io.SEEK_END) == 0:
        raise InputError(f"{name} is empty (0 bytes)")
    file.seek(0)
    with refusing(name), Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise InputError(f"{name} is {width} x {height}, over 50 megapixels; scale it down first")
        return to_rgb(ImageOps.exif_transpose(image))


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turn whatever goes wrong while a picture is read into an InputError that names the file."""
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes above our own limit, and of damage: either is an error here
        try:
            yield
        except InputError:
            raise
        except Image.DecompressionBombError:
            raise InputError(f"{name} is far over 50 megapixels; scale it down first") from None
        except UnidentifiedImageError:
            raise InputError(f"{name} is not a picture of a known kind; save it as PNG or JPEG first") from None
        except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files
            raise InputError(f"{name} cannot be read, it is damaged or cut off: {error}") from None


def to_rgb(image: Any) -> np.ndarray:
    """A Pillow image of any mode as uint8 (height, width, 3)."""
    from PIL import Image

    if image.mode[0] in "IF":  # 16 bits or more, or floating point: Pillow's own conversion would cut off, not scale
        values = np.asarray(image, dtype=np.float64)
        least = 65535.0 if image.mode[0] == "I" else 1.0  # what white is; of 32 bits, and beyond 1, the brightest value
        top = max(least, float(np.nanmax(values)))
        grey = np.clip(np.nan_to_num(values) * (255 / top), 0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba)
    return np.array(image.convert("RGB"))


def draw(path: Path, picture: np.ndarray, regions: list[Region], title: str) -> None:
    """The picture with the regions over it, as PNG, written whole or not at all."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from ..files import replacing
    from ..plots import draw_regions

    shown, thin = thinned(picture, regions, DRAWN_SIDE)
    fig, ax = plt.subplots(figsize=(6, 6), layout="constrained")
    draw_regions(shown, thin, [str(i + 1) for i in range(len(thin))], ax)
    ax.set_title(title, fontsize=10, wrap=True, parse_math=False)
    with replacing(path) as temporary:
        fig.savefig(temporary, format="png", dpi=120)
    plt.close(fig)


def thinned(picture: np.ndarray, regions: list[Region], side: int) -> tuple[np.ndarray, list[Region]]:
    """A picture and its regions with rows and columns left out, so that no side is above `side` pixels."""
    stride = -(-max(picture.shape[:2]) // side)
    masks = [r.mask and mask_to_rle(rle_to_mask(r.mask)[::stride, ::stride]) for r in regions]
    thin = [Region(r.box, mask, r.depth) for r, mask in zip(regions, masks, strict=True)]
    return picture[::stride, ::stride], thin
