"""safetensors: every tensor of the network, and its description as JSON in the file's header."""

import json
from pathlib import Path

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.interchange.description import FORMAT, Description, from_header
from ftbc_lightning.interchange.rebuild import rebuild
from ftbc_lightning.snn.network import SpikingNetwork


def write_safetensors(description: Description, path: Path) -> None:
    """Write a network; its description is the entry `ftbc-snn` of the file's metadata."""
    from safetensors.torch import save_file

    metadata = {FORMAT: json.dumps(description.header())}  # one entry: several have no fixed order
    tensors = description.tensors()

    def write(beside: Path) -> None:
        beside.touch()
        mode = beside.stat().st_mode  # save_file leaves a file that only its owner may read
        save_file(tensors, beside, metadata=metadata)
        beside.chmod(mode)

    write_whole(path, write)


def read_safetensors(path: Path) -> Description:
    """Read what `write_safetensors` wrote.

    Raises:
        UserError: The file is missing, damaged, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"There is no file {path}; give a network that `ftbc export` has written.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata.get(FORMAT, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a safetensors file ({type(error).__name__}); it may be "
            "truncated. Copy or export it again."
        ) from error
    return from_header(header, tensors, str(path))


def load(path: str | Path) -> SpikingNetwork:
    """Load a network that was exported with `format="safetensors"`.

    Needs torch, safetensors and NumPy: neither Lightning nor the code of the ANN.

    Args:
        path: The file.

    Returns:
        The network; `simulate(snn, images)` gives logits `[T, B, classes]`.

    Raises:
        UserError: The file is missing, damaged, of a later version, or holds something else.
    """
    return rebuild(read_safetensors(Path(path)))
