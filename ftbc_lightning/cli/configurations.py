"""The configurations that come with the package, and their names on the command line."""

import os
from collections.abc import Sequence
from pathlib import Path

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.whole_file import write_whole

OPTIONS = ("--config", "-c")
"""What a configuration is given with."""


def folder() -> Path:
    """Where the configurations lie: inside an installed package, beside it in a checkout.

    A wheel takes them along as `ftbc_lightning/configs` (setup.py); an editable installation and
    a checkout without one read the repository's `configs/`.
    """
    package = Path(__file__).parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def names() -> list[str]:
    """The names of all configurations: experiments first, then parts such as `trainer/ddp`."""
    found = [path.relative_to(folder()).with_suffix("") for path in folder().rglob("*.yaml")]
    return [path.as_posix() for path in sorted(found, key=lambda path: (len(path.parts), path))]


def purpose(name: str) -> str:
    """One line on a configuration: the first comment of its file.

    >>> purpose("trainer/cpu")
    'One process on the CPU.'
    """
    with _file(name).open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").rstrip()


def find(given: str) -> str:
    """The path of a configuration that is given by a path of one's own or by its name.

    A file of one's own goes before a name. What may be an address or the text of a configuration
    is left to the parser.

    Args:
        given: What stands at `--config`.

    Returns:
        A path, or `given` itself.

    Raises:
        UserError: It is neither a file nor a name; all names are listed.

    >>> Path(find("digits_cnn")).name, find("{timesteps: 4}")
    ('digits_cnn.yaml', '{timesteps: 4}')
    """
    if not given or Path(given).is_file() or any(sign in given for sign in ":{\n"):
        return given
    return str(_file(given))


def with_paths(words: Sequence[str]) -> list[str]:
    """A command with a path in place of each configuration's name.

    >>> with_paths(["fit", "--config=digits_cnn", "--timesteps", "4"])[1].endswith("_cnn.yaml")
    True
    """
    written = []
    for before, word in zip(["", *words], words, strict=False):
        option, sign, value = word.partition("=")
        if before in OPTIONS:
            word = find(word)
        elif sign and option in OPTIONS:
            word = f"{option}={find(value)}"
        written.append(word)
    return written


def configs(copy: str | None = None) -> None:
    """List the configurations that `--config NAME` takes, or copy one to edit.

    Args:
        copy: Name of the configuration to write into this folder, such as digits_cnn.

    Raises:
        UserError: There is no such name, or a file in its place.
    """
    if copy is not None:
        path = copied(copy, Path())
        print(f"{path.resolve()}\nEdit it, then: ftbc fit --config {path}")
        return
    width = max(len(name) for name in names())
    for name in names():
        print(f"{name:{width}}  {purpose(name)}")
    print("Take one with ftbc fit --config NAME; ftbc configs --copy NAME writes one to edit.")


def copied(name: str, into: Path) -> Path:
    """Write a configuration into a folder, where no file of that name may be; returns its path."""
    source = _file(name)
    path = into / source.name
    if path.exists():
        raise UserError(
            f"There is a file {path.resolve()} already; move it, or go to another folder."
        )
    if not os.access(into, os.W_OK):
        raise UserError(f"{into.resolve()} cannot be written; go to a folder of your own.")
    return write_whole(path, lambda beside: beside.write_bytes(source.read_bytes()))


def _file(name: str) -> Path:
    """The file of a name."""
    if name not in names():
        missing = "" if Path(name).is_file() else f"There is no file {name}. "
        raise UserError(
            f"{missing}The package has no configuration {name}; it has {', '.join(names())}. "
            "`ftbc configs` says what each is."
        )
    return folder() / f"{name}.yaml"
