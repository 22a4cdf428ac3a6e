"""Files of images: which a folder holds, and what is in them."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import DecompressionBombError
from torchvision.datasets.folder import IMG_EXTENSIONS

EXTENSIONS = (*IMG_EXTENSIONS, ".gif", ".jfif")
"""Of files that are taken for images; of a GIF the first frame is read."""

UNDECODABLE = (OSError, UnidentifiedImageError, DecompressionBombError, SyntaxError, ValueError)
"""What PIL raises on a damaged image, and `read_image` on one with values of no known range."""

NAMED = 5
"""How many of several files a message names."""


class NoKnownRange(ValueError):
    """The values of an image do not tell which of them is black and which white."""


def read_image(path: str | Path) -> Image.Image:
    """An RGB image as a person sees it: upright, and scaled by the range of its own type.

    16 bits are divided by 65535, floats lie in 0 to 1.

    Raises:
        NoKnownRange: Floats or integers of 32 bits with other values.
        OSError, SyntaxError, ValueError: The file is no image or damaged; see `UNDECODABLE`.
    """
    with Image.open(path) as file:
        file.load()
        kind = str(file.format)
        image: Image.Image = file
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "F" or image.mode.startswith("I"):
            image = Image.fromarray(_bytes(np.asarray(image), kind))
        return image.convert("RGB")


def _bytes(values: np.ndarray, kind: str) -> np.ndarray:
    """Values of one channel on the scale of a byte."""
    # PIL holds 16 bits of a PNG or PGM in 32
    if values.dtype.itemsize == 2 or (values.dtype.kind == "i" and kind in ("PNG", "PPM")):
        return np.round(values.clip(0, 65535) / 257).astype(np.uint8)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.round(values * 255).astype(np.uint8)
    what = "floats" if values.dtype.kind == "f" else "integers of 32 bits"
    wanted = "0 to 1" if values.dtype.kind == "f" else "bytes or 16 bits"
    raise NoKnownRange(f"{what} from {low:.6g} to {high:.6g} in place of {wanted}")


def why_unreadable(path: str | Path) -> str | None:
    """What is wrong with a file of an image; None if it can be read."""
    try:
        read_image(path)
    except UNDECODABLE as error:
        return reason(path, error)
    return None


def reason(path: str | Path, error: BaseException) -> str:
    """In words, why an image could not be read."""
    path = Path(path)
    if isinstance(error, NoKnownRange):
        return str(error)
    if not path.exists():
        return "a link to nowhere" if path.is_symlink() else "no such file"
    if path.is_file() and path.stat().st_size == 0:
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, DecompressionBombError):
        return "too many pixels"
    return "damaged or truncated"


def unreadable(paths: Iterable[str]) -> dict[str, str]:
    """The images that cannot be read, and why: each is read once, several at a time.

    >>> unreadable(["nowhere.png"])
    {'nowhere.png': 'no such file'}
    """
    paths = list(paths)
    with ThreadPoolExecutor() as pool:  # PIL decodes without the interpreter's lock
        reasons = zip(paths, pool.map(why_unreadable, paths), strict=True)
        return {path: why for path, why in reasons if why is not None}


def listed(reasons: Mapping[str, str]) -> str:
    """The first few of several files, each with its reason, and how many more there are.

    >>> listed({"a.png": "empty file"})
    'a.png (empty file)'
    """
    first = ", ".join(f"{path} ({why})" for path, why in list(reasons.items())[:NAMED])
    more = len(reasons) - NAMED
    return f"{first} and {more} more" if more > 0 else first


def files_of(folder: str | Path) -> tuple[list[str], Counter[str]]:
    """The images in a folder and those in it, by their names, in order.

    Returns:
        Their paths, and how many other files there are of each kind. A file whose name begins with
        a dot is no image: other programs keep notes there.
    """
    images: list[str] = []
    others: Counter[str] = Counter()
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        real = os.path.realpath(root)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            if suffix in EXTENSIONS and not name.startswith("."):
                images.append(str(Path(root) / name))
            else:
                others[name if name.startswith(".") else suffix or name] += 1
    return images, others


def not_read(folder: str | Path, others: Counter[str]) -> str:
    """One line on the files that are no images by their names.

    >>> not_read("a", Counter({".txt": 2, ".heic": 1}))
    'In a 3 files are no images by their names and were not read (.txt 2, .heic 1).'
    """
    kinds = ", ".join(f"{kind} {count}" for kind, count in others.most_common(NAMED))
    return (
        f"In {folder} {others.total()} files are no images by their names and were not read "
        f"({kinds})."
    )


def sizes(paths: Sequence[str], count: int) -> list[tuple[int, int]]:
    """Width and height of some images, spread evenly, from their headers alone."""
    found = []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        try:
            with Image.open(path) as image:
                turned = image.getexif().get(0x0112, 1) >= 5
                found.append(image.size[::-1] if turned else image.size)
        except UNDECODABLE:
            continue
    return found
