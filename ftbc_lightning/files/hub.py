"""The Hugging Face Hub: files are fetched and folders sent where somebody asks for it."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ftbc_lightning.errors import UserError, imported

PREFIX = "hf://"
"""Before a file of the hub where others could stand: `hf://owner/repo@revision/file`."""

REPO = r"[\w.-]+/[\w.-]+"

PLACE = re.compile(rf"{PREFIX}({REPO})(?:@([^/]+))?/(.+)")


def check_repo(repo: str) -> str:
    """Raise `UserError` unless a name is that of a repository; returns it.

    >>> check_repo("me/digits-snn")
    'me/digits-snn'
    """
    if re.fullmatch(REPO, repo) is None:
        raise UserError(f"{repo!r} is no name of a repository; give OWNER/NAME.")
    return repo


def place(address: str) -> tuple[str, str, str | None]:
    """Repository, file and revision of an address; a slash in a revision is written `%2F`.

    >>> place("hf://me/net@v1/weights/ann.safetensors")
    ('me/net', 'weights/ann.safetensors', 'v1')

    Raises:
        UserError: It is none.
    """
    found = PLACE.fullmatch(address)
    if found is None:
        raise UserError(
            f"{address} names no file of the Hugging Face Hub; write {PREFIX}OWNER/NAME/FILE, or "
            f"{PREFIX}OWNER/NAME@REVISION/FILE."
        )
    repo, revision, file = found.groups()
    return repo, file, revision and unquote(revision)


def fetched(repo: str, file: str, revision: str | None = None) -> Path:
    """A file of a repository, out of the cache if it is there and up to date or nothing answers.

    Raises:
        UserError: huggingface_hub is missing, or the file cannot be had.
    """
    hub = imported_hub()
    try:
        return Path(hub.hf_hub_download(repo, file, revision=revision))
    except Exception as error:  # it has errors of its own, and of several libraries
        raise UserError(
            f"{PREFIX}{repo}{f'@{revision}' if revision else ''}/{file} cannot be fetched "
            f"({_said(error)}). Fetch the file elsewhere and give its path."
        ) from error


def send(folder: Path, repo: str, *, private: bool = False) -> str:
    """Make a repository if it is not there, and send a folder to it; returns its address.

    Raises:
        UserError: huggingface_hub or a token is missing, or the hub does not take it.
    """
    hub = imported_hub()
    if hub.get_token() is None:
        raise _not_sent(folder, repo, "no token: run `hf auth login`, or set HF_TOKEN")
    try:
        client = hub.HfApi()
        made = client.create_repo(repo, private=private or None, exist_ok=True)
        client.upload_folder(repo_id=repo, folder_path=folder, commit_message="A spiking network")
    except Exception as error:  # as above
        raise _not_sent(folder, repo, _said(error)) from error
    return str(made)


def imported_hub() -> Any:
    """The module huggingface_hub.

    Raises:
        UserError: It is not installed.
    """
    return imported("huggingface_hub", "The Hugging Face Hub needs", "hub")


def _not_sent(folder: Path, repo: str, why: str) -> UserError:
    return UserError(f"Nothing was sent to {repo} ({why}). What would be sent is in {folder}.")


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}".rstrip(".")
