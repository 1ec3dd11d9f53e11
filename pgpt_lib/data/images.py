"""Pictures from files, always as the same array, whatever the file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import InputError


def read_image(path: Path) -> np.ndarray:
    """A picture as uint8 (height, width, 3), RGB; greyscale, palette and CMYK files are converted.

    The pixels are taken as stored: COCO's annotations refer to them so, whatever an EXIF orientation says.

    Raises:
        InputError: no such file, no picture, or a truncated one.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"no picture {path}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a picture: {error}") from None
