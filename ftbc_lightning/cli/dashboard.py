"""`ftbc dashboard`: a workspace of Weights & Biases from its definition."""

import json
from pathlib import Path

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.whole_file import write_whole


def dashboard(project: str = "ftbc", *, entity: str | None = None, out: str | None = None) -> None:
    """Create a workspace with the charts of this package in a Weights & Biases project.

    Needs `pip install wandb-workspaces`, the extra `dashboard`, and `wandb login`.

    Args:
        project: The project that runs were logged to.
        entity: Its owner; you if not given.
        out: Write the definition to this JSON file and send nothing.

    Raises:
        UserError: The package is missing, or you are not logged in.
    """
    from ftbc_lightning.report.dashboard import definition  # torch, matplotlib

    workspace = definition(project, entity or "me")
    if out is not None:
        text = json.dumps(workspace._model.model_dump(mode="json"))
        print(write_whole(Path(out), lambda beside: beside.write_text(text)))
        return
    workspace.entity = entity or _owner()
    try:
        workspace.save()
    except Exception as error:  # whatever the client of a remote service may raise
        raise UserError(f"The dashboard was not created: {error}") from error
    print(workspace.url)


def _owner() -> str:
    """The user who is logged in."""
    import wandb

    try:
        return str(wandb.Api().default_entity)
    except Exception as error:  # not logged in, or no network: one advice for both
        raise UserError(
            "`ftbc dashboard` writes to your Weights & Biases project: run `wandb login` first "
            "(or give --out FILE to write the definition without sending it)."
        ) from error
