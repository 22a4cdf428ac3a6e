"""The program `ftbc`: words in, an exit code out. What a command does not need is not imported."""

import gc
import sys
from collections.abc import Sequence

from ftbc_lightning.errors import UserError
from ftbc_lightning.version import __version__

SUBCOMMANDS = {
    "fit": "Train the ANN, convert it, calibrate, and compare on the validation split.",
    "validate": "Evaluate the networks of a checkpoint on the validation split.",
    "test": "Evaluate the networks of a checkpoint on the test split.",
    "calibrate": "Convert and calibrate an ANN that is trained already.",
    "compare": "Compare all methods at every T over several calibration draws.",
    "finetune": "Train a calibrated spiking network by back-propagation.",
    "inspect": "Say what each node of a network becomes, or why it cannot be converted.",
    "diagnose": "Say in which layer accuracy is lost, and by which cause.",
    "benchmark": "Measure a calibrated network with NeuroBench's harness.",
    "predict": "Classify samples and write a row for each.",
    "export": "Write a spiking network to a file for another program.",
    "push": "Send a spiking network to the Hugging Face Hub, with a page on it.",
    "report": "Write one page on a finished run.",
    "dashboard": "Create a workspace of Weights & Biases that compares runs.",
    "configs": "List the configurations that come with the package, or copy one.",
}
"""What a person can ask for, in the order in which it is needed."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of the signal."""

HELP = ("-h", "--help")


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and turn a user's mistake into one line; returns the exit code."""
    words = sys.argv[1:] if args is None else list(args)
    try:
        if not words or words[0] in HELP:
            print(overview())
        elif words[0] == "--version":
            print(f"ftbc {__version__}")
        else:
            _run(words, args)
    except KeyboardInterrupt:
        print("ftbc: interrupted; every file that was finished is kept.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        from ftbc_lightning.cli.failures import explain, prefix

        message = explain(error)
        if message is None:
            raise
        print(prefix() + message, file=sys.stderr)
        return 2
    return 0


def _run(words: Sequence[str], args: Sequence[str] | None) -> None:
    if not words[0].startswith("-") and words[0] not in SUBCOMMANDS:
        raise UserError(
            f"There is no subcommand {words[0]}; choose one of {', '.join(SUBCOMMANDS)} "
            "(ftbc --help says more)."
        )
    from ftbc_lightning.cli.file_subcommands import FILE_SUBCOMMANDS, run_on_files

    if words[0] in FILE_SUBCOMMANDS:
        run_on_files(words[0], words[1:])
        return
    from ftbc_lightning.cli.command_line import run

    if args is None:
        # What was imported stays to the end: a full collection need not walk through it again.
        gc.freeze()
    run(args)


def overview() -> str:
    """All subcommands, each with what it does."""
    widest = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:{widest}}  {purpose}" for name, purpose in SUBCOMMANDS.items()]
    return "\n".join(
        [
            "usage: ftbc SUBCOMMAND [options]",
            "",
            "Train an ANN, convert it to an SNN, calibrate it.",
            "",
            *lines,
            "",
            "ftbc SUBCOMMAND --help lists the options, ftbc --version says the version.",
        ]
    )
