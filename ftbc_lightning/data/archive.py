"""What a NumPy archive of samples means: read where there is one way to read it, else refused."""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ftbc_lightning.data.base import check_labels
from ftbc_lightning.errors import UserError

Arrays = dict[str, np.ndarray]

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
NAMES = {
    f"{short}_{part}": f"{split}_{kind}"
    for split, parts in (("train", ["train"]), ("val", ["val", "valid"]), ("test", ["test"]))
    for part in parts
    for short, kind in (("x", "images"), ("y", "labels"))
}
"""Keras's names of our keys, in lower case."""

# what numpy raises on a cut or damaged archive, on pickled objects, on an .npy file
UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, TypeError)

LAYOUTS = "uint8 [N, H, W, 3], [N, H, W, 1] or [N, H, W] is needed"


@dataclass
class Archive:
    """The samples and labels of a file.

    Attributes:
        images: uint8 `[N, C, H, W]` of each split: train, test and, if the file has it, val.
        labels: int64 `[N]` of each split.
        classes: The names of the classes.
        understood: How the file was read, where it is not as the documentation says.
    """

    images: dict[str, Tensor]
    labels: dict[str, Tensor]
    classes: list[str]
    understood: list[str] = field(default_factory=list)


MOST_UNNAMED = 100_000
"""Classes that are numbered without names where samples are fewer: beyond it labels are ids."""


def read_archive(path: Path) -> Archive:
    """Read a file.

    Raises:
        UserError: It is missing, truncated, or what it holds can be meant in no way or in several.
    """
    understood: list[str] = []
    arrays = _named(_load(path), path, understood)
    splits = [split for split in ("train", "val", "test") if f"{split}_images" in arrays]
    samples = {f"{split}_images": arrays[f"{split}_images"] for split in splits}
    for split in splits:
        found, expected = (f"{split}_images", f"{split}_labels")
        if arrays[found].ndim == 0 or 0 in arrays[found].shape[1:]:
            raise UserError(
                f"{path}: {found} has the shape {list(arrays[found].shape)}: no pixels."
            )
        if len(arrays[found]) == 0:
            raise UserError(f"{path}: {found} is empty.")
        if arrays[expected].ndim == 0 or len(arrays[found]) != len(arrays[expected]):
            count = len(arrays[expected]) if arrays[expected].ndim else 0
            raise UserError(f"{path}: {len(arrays[found])} {found} but {count} {expected}.")
    samples = _as_bytes(_channels_last(samples, path, understood), path, understood)
    images = {
        key.removesuffix("_images"): torch.from_numpy(
            np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        )
        for key, values in samples.items()
    }
    given = {f"{split}_labels": arrays[f"{split}_labels"] for split in splits}
    numbers, classes = _as_numbers(given, arrays.get("classes"), path, understood)
    labels = {key.removesuffix("_labels"): values for key, values in numbers.items()}
    for key, values in numbers.items():
        check_labels(values, len(classes), where=f"{path} ({key})")
    return Archive(images, labels, classes, understood)


def _load(path: Path) -> Arrays:
    if not path.is_file():
        raise UserError(f"There is no file {path}; give a .npz file with --data.path.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = {key: _name(key) for key in archive.files}
            known = (*KEYS, "val_images", "val_labels", "classes")
            return {key: archive[key] for key, name in wanted.items() if name in known} or {
                key: archive[key] for key in archive.files
            }
    except UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read as a .npz file ({type(error).__name__}); it is truncated, "
            "of another kind, or holds Python objects. Write it again with numpy.savez."
        ) from error


def _name(key: str) -> str:
    """Our name of a key."""
    return NAMES.get(key.lower(), key.lower())


def _named(arrays: Arrays, path: Path, understood: list[str]) -> Arrays:
    """The arrays under our names; refuses a file in which one is missing or there twice."""
    names = [_name(key) for key in arrays]
    twice = {name for name in names if names.count(name) > 1}
    missing = [key for key in KEYS if key not in names]
    if ("val_images" in names) != ("val_labels" in names):
        missing.append("val_images" if "val_labels" in names else "val_labels")
    if missing or twice:
        held = ", ".join(f"{key} {a.dtype} {list(a.shape)}" for key, a in arrays.items())
        what = (
            f"has no {', '.join(missing)}" if missing else f"has {', '.join(sorted(twice))} twice"
        )
        raise UserError(f"{path} {what}; it needs {', '.join(KEYS)}. It holds {held or 'nothing'}.")
    if any(key.lower() in NAMES for key in arrays):
        understood.append("x_ are images and y_ labels")
    return dict(zip(names, arrays.values(), strict=True))


def _channels_last(samples: Arrays, path: Path, understood: list[str]) -> Arrays:
    """`[N, H, W, C]` with one or three channels, of one shape in all splits."""
    first = [key for key, values in samples.items() if _is_channels_first(values)]
    if len(first) == len(samples):
        understood.append("channels come first")
        samples = {key: values.transpose(0, 2, 3, 1) for key, values in samples.items()}
    elif first:
        raise _refused(first[0], samples[first[0]], path)
    samples = {k: v[..., None] if v.ndim == 3 else v for k, v in samples.items()}
    for key, values in samples.items():
        if values.ndim != 4 or values.shape[3] not in (1, 3, 4):
            raise _refused(key, values, path)
    if all(values.shape[3] == 4 for values in samples.values()):
        for key, values in samples.items():
            alpha = values[..., 3]
            opaque = 1 if alpha.dtype.kind == "f" and alpha.max() <= 1 else _largest(alpha)
            if (alpha != opaque).any():
                raise UserError(
                    f"{path}: {key} is {values.dtype} {list(values.shape)}, and its fourth channel "
                    f"is not {opaque} everywhere; put the samples on a background first."
                )
        understood.append("the fourth channel, opaque everywhere, is left out")
        samples = {key: values[..., :3] for key, values in samples.items()}
    expected = samples["train_images"].shape[1:]
    for key, values in samples.items():
        if values.shape[3] == 4:
            raise _refused(key, values, path)
        if values.shape[1:] != expected:
            raise UserError(
                f"{path}: {key} are {list(values.shape[1:])}, train_images {list(expected)}; both "
                "splits need samples of one shape."
            )
    return samples


def _is_channels_first(values: np.ndarray) -> bool:
    return values.ndim == 4 and values.shape[1] in (1, 3, 4) and values.shape[3] not in (1, 3, 4)


def _largest(values: np.ndarray) -> int:
    """White in this type: 65535 in uint16 that is used, else 255."""
    return 65535 if values.dtype == np.uint16 and values.max() > 255 else 255


def _as_bytes(samples: Arrays, path: Path, understood: list[str]) -> Arrays:
    """uint8, scaled by the range of the type; one range holds for all splits."""
    own = samples["train_images"].dtype
    for key, values in samples.items():
        if values.dtype != own:
            raise UserError(
                f"{path}: {key} is {values.dtype} {list(values.shape)}, train_images {own}; all "
                "splits need one type."
            )
    if own == np.uint8:
        return samples
    if own.kind not in "uif":
        raise _refused("train_images", samples["train_images"], path)
    low = min(values.min() for values in samples.values())
    high = max(values.max() for values in samples.values())
    whole = own.kind != "f" or all((v == np.round(v)).all() for v in samples.values())
    if own.kind == "f" and low >= 0 and high <= 1:
        understood.append(f"{own} samples from 0 to 1 are read as 256 grey levels")
        return {k: np.round(v * 255).astype(np.uint8) for k, v in samples.items()}
    if own == np.uint16 and high > 255:
        understood.append("uint16 samples are scaled from 65535 to 255")
        return {k: np.round(v / 257).astype(np.uint8) for k, v in samples.items()}
    if whole and low >= 0 and 1 < high <= 255:
        understood.append(f"{own} samples hold whole numbers from 0 to 255")
        return {key: values.astype(np.uint8) for key, values in samples.items()}
    raise UserError(
        f"{path}: the samples are {own} from {low:.6g} to {high:.6g}, and which value is white "
        "cannot be known; uint8, uint16, floats from 0 to 1 or whole numbers up to 255 are read."
    )


def _as_numbers(
    labels: Arrays, names: np.ndarray | None, path: Path, understood: list[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Labels as int64 `[N]`, and the names of the classes."""
    if names is not None and names.ndim != 1:
        raise UserError(
            f"{path}: classes has the shape {list(names.shape)}; one name for each class is "
            "needed, [classes]."
        )
    flat = {key: _flat(key, values, path) for key, values in labels.items()}
    if any(labels[key].ndim == 2 and labels[key].shape[1] > 1 for key in labels):
        understood.append("labels are one-hot")
    classes = None if names is None else [_text(name) for name in names.tolist()]
    kinds = {values.dtype.kind for values in flat.values()}
    if kinds & set("US"):
        flat, classes = _numbered(flat, classes, path)
        understood.append("labels are names, numbered " + _order(classes))
    elif "f" in kinds:
        understood.append("labels are whole numbers written as floats")
    if classes is None:
        one_hot = labels["train_labels"]
        wide = one_hot.ndim == 2 and one_hot.shape[1] > 1
        count = one_hot.shape[1] if wide else max(int(flat["train_labels"].max()) + 1, 0)
        if count > max(MOST_UNNAMED, len(one_hot)):
            raise UserError(
                f"{path}: train_labels reach {count - 1} among {len(one_hot)} samples; number the "
                "classes from 0, or give their names as `classes`."
            )
        classes = [str(number) for number in range(count)]
    return {k: torch.from_numpy(v.astype(np.int64)) for k, v in flat.items()}, classes


def _flat(key: str, values: np.ndarray, path: Path) -> np.ndarray:
    """Labels `[N]`: whole numbers or names."""
    found = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if found.ndim == 2 and found.dtype.kind in "uifb":
        one_hot = ((found == 0) | (found == 1)).all() and (found.sum(1) == 1).all()
        found = found.argmax(1) if one_hot else found
    whole = found.dtype.kind in "uib" or (
        found.dtype.kind == "f" and bool((np.isfinite(found) & (found == np.round(found))).all())
    )
    if found.ndim != 1 or not (whole or found.dtype.kind in "US"):
        raise UserError(
            f"{path}: {key} is {values.dtype} {list(values.shape)}; integers [N], one-hot rows or "
            "names are needed."
        )
    return found


def _numbered(
    labels: Mapping[str, np.ndarray], classes: list[str] | None, path: Path
) -> tuple[Arrays, list[str]]:
    """Names as numbers: their places among the classes, or in the order of the alphabet."""
    if any(values.dtype.kind not in "US" for values in labels.values()):
        held = ", ".join(f"{key} {values.dtype}" for key, values in labels.items())
        raise UserError(f"{path}: some labels are names and some are numbers ({held}).")
    words = {key: [_text(name) for name in values.tolist()] for key, values in labels.items()}
    classes = sorted(set(words["train_labels"])) if classes is None else classes
    places = {name: place for place, name in enumerate(classes)}
    for key, names in words.items():
        unknown = sorted(set(names) - places.keys())
        if unknown:
            raise UserError(
                f"{path}: {key} has {', '.join(unknown[:5])}, which is no class; the classes are "
                f"{_order(classes)}."
            )
    numbers = {key: np.array([places[n] for n in names]) for key, names in words.items()}
    return numbers, classes


def _text(name: object) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _order(classes: list[str]) -> str:
    return ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")


def _refused(key: str, values: np.ndarray, path: Path) -> UserError:
    return UserError(f"{path}: {key} is {values.dtype} {list(values.shape)}; {LAYOUTS}.")
