"""A network as a folder with its file and a page, on the Hugging Face Hub or on disk."""

import shutil
import tempfile
from pathlib import Path

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.hub import check_repo, fetched, imported_hub, send
from ftbc_lightning.files.whole_file import make_folder, write_whole
from ftbc_lightning.interchange.formats import export
from ftbc_lightning.interchange.model_card import LIBRARY, model_card
from ftbc_lightning.interchange.tensors_file import load
from ftbc_lightning.snn.network import SpikingNetwork

FILE, CARD = "model.safetensors", "README.md"


def push_to_hub(
    snn: SpikingNetwork,
    repo: str,
    *,
    about: str | None = None,
    license: str | None = None,
    private: bool = False,
    out: str | Path | None = None,
) -> str:
    """Send a spiking network to the Hugging Face Hub: its safetensors file and a page on it.

    Needs the extra `hub` and a token (`hf auth login`, or HF_TOKEN).

    Args:
        snn: A network with thresholds set; left as it is.
        repo: The repository, OWNER/NAME; made if it is not there.
        about: What the page says of the network, in Markdown; what it tells of itself if None.
        license: An identifier of the hub, such as `apache-2.0`; left out if None.
        private: Whether a repository that is made is private.
        out: Write the folder that would be sent to this place, and send nothing.

    Returns:
        The address of the repository, or the folder.

    Raises:
        UserError: The network cannot be exported, or nothing was sent; the folder stays then, and
            the message says where.

    >>> import tempfile, torch
    >>> from ftbc_lightning import convert, from_pretrained, push_to_hub, simulate
    >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> samples = torch.rand(16, 2)
    >>> snn = convert(ann, samples[:1], [samples], timesteps=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     twin = from_pretrained(push_to_hub(snn, "me/net", out=f"{folder}/net"))
    >>> torch.allclose(simulate(twin, samples), simulate(snn, samples), atol=1e-5)
    True
    """
    card = model_card(snn, check_repo(repo), about=about, license=license)
    if out is not None:
        return str(_written(snn, Path(out), card))
    imported_hub()
    parent = Path(tempfile.mkdtemp(prefix="ftbc-"))
    folder = parent / repo.rpartition("/")[2]
    try:
        _written(snn, folder, card)
    except BaseException:
        shutil.rmtree(parent)
        raise
    address = send(folder, repo, private=private)
    shutil.rmtree(parent)
    return address


def _written(snn: SpikingNetwork, folder: Path, card: str) -> Path:
    """Write the folder that is sent; a page that this program has not written is left alone."""
    page = folder / CARD
    if page.exists() and LIBRARY not in page.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"{folder} has a {CARD} of its own; give another folder.")
    make_folder(folder)
    export(snn, folder / FILE)
    write_whole(page, lambda beside: beside.write_text(card, encoding="utf-8"))
    return folder


def from_pretrained(folder_or_repo: str | Path, revision: str | None = None) -> SpikingNetwork:
    """Load what `push_to_hub` or `ftbc push` has left; data alone is read, nothing executed.

    Args:
        folder_or_repo: A folder, or a repository of the hub (OWNER/NAME; needs the extra `hub`),
            whose file is fetched once.
        revision: Branch, tag or commit of the repository.

    Returns:
        The network; `simulate(snn, images)` gives logits `[T, B, classes]`.

    Raises:
        UserError: There is no such folder or repository, or it holds something else.

    >>> from_pretrained("no folder")
    Traceback (most recent call last):
    ftbc_lightning.errors.UserError: There is no folder 'no folder', and it is no OWNER/NAME.
    """
    folder = Path(folder_or_repo)
    if folder.is_dir():
        return load(folder / FILE)
    try:
        repo = check_repo(str(folder_or_repo))
    except UserError:
        raise UserError(
            f"There is no folder {str(folder_or_repo)!r}, and it is no OWNER/NAME."
        ) from None
    return load(fetched(repo, FILE, revision))
