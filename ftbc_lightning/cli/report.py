"""`ftbc report`: from the folder of a run to one page."""

from pathlib import Path

from ftbc_lightning.files.whole_file import make_folder, write_whole


def report(run: str, *, out: str | None = None) -> None:
    """Write one self-contained page on a finished run: which T to use, which layer is worst.

    Args:
        run: The run's folder, as `ftbc fit` or `ftbc calibrate` wrote it.
        out: Where the page goes; `report.html` in the run's folder if not given.

    Raises:
        UserError: The folder is missing or holds no results.
    """
    from ftbc_lightning.report.page import page  # torch, matplotlib
    from ftbc_lightning.report.run_folder import read_run

    folder = Path(run)
    path = Path(out) if out else folder / "report.html"
    text = page(read_run(folder))
    make_folder(path.parent)
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))
    print(path)
