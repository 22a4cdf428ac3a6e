"""`ftbc push`: a network of a finished run to the Hugging Face Hub."""

from pathlib import Path

from ftbc_lightning.errors import UserError


def push(
    run: str,
    *,
    repo: str | None = None,
    method: str | None = None,
    timesteps: int | None = None,
    license: str | None = None,
    private: bool = False,
    out: str | None = None,
) -> None:
    """Send one spiking network of a run to the Hugging Face Hub, with a page made from the run.

    Needs the extra `hub` and a token (`hf auth login`, or HF_TOKEN).

    Args:
        run: The run's folder, as `ftbc fit` or `ftbc calibrate` wrote it.
        repo: The repository, OWNER/NAME; made if it is not there.
        method: Whose calibration is taken; exact, or the last in the file, if not given.
        timesteps: For which T; the largest if not given.
        license: Of the network, by the hub's identifier (apache-2.0, mit, ...); left out if not
            given.
        private: Whether a repository that is made is private.
        out: Write the folder that would be sent to this place, and send nothing.

    Raises:
        UserError: There is no such run or network, it cannot be exported, or nothing was sent.
    """
    if repo is None:
        raise UserError("Give the repository with --repo OWNER/NAME.")
    from ftbc_lightning.interchange.hub import push_to_hub  # torch, matplotlib
    from ftbc_lightning.report.run_card import about
    from ftbc_lightning.report.run_folder import read_run
    from ftbc_lightning.training.finished_networks import choose, finished_networks

    finished = read_run(Path(run))
    networks = finished_networks(finished.folder / "snn.ckpt")
    variant = choose(networks, method=method, timesteps=timesteps)
    snn = networks.network(variant)
    said = about(finished, variant, snn)
    place = push_to_hub(snn, repo, about=said, license=license, private=private, out=out)
    sent = "" if out is None else " (written; nothing was sent)"
    print(f"{variant.method}, T = {variant.timesteps}: {place}{sent}")
