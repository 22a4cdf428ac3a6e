"""Networks of timm, by their names."""

from typing import Any

from torch import nn

from ftbc_lightning.errors import UserError, check_counts, imported

PREFIX = "timm/"
"""Before a name where others could stand: `--model.network timm/resnet18d`."""


def timm_network(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    image_size: int | None = None,
) -> nn.Module:
    """A network of timm with random weights.

    Weights are loaded apart (`ftbc_lightning.training.pretrained.load_pretrained`), so that nothing
    is fetched when a checkpoint is read.

    Args:
        name: As `timm.list_models()` has it, such as `resnet18d`.
        num_classes: Number of outputs; 1000, or what the network was made for, if None.
        in_channels: Channels of a sample; 3 if None.
        image_size: Height and width of a sample, for networks made for one size, as transformers
            are; the one that it was made for if None.

    Raises:
        UserError: timm is not installed, has no such network, or it takes samples of any size.
    """
    if image_size is not None:
        check_counts(image_size=image_size)
    settings = {"num_classes": num_classes, "in_chans": in_channels, "img_size": image_size}
    given = {key: value for key, value in settings.items() if value is not None}
    timm, plain = imported_timm(), name.partition(".")[0]
    if not timm.is_model(plain):
        alike = ", ".join(timm.list_models(f"{plain[:6]}*")[:5])
        hint = f"; names that begin alike: {alike}" if alike else ""
        raise UserError(f"timm has no network {name!r}{hint}. `timm.list_models()` lists them.")
    try:
        network: nn.Module = timm.create_model(plain, pretrained=False, **given)
    except TypeError as error:
        if image_size is None or "img_size" not in str(error):
            raise
        raise UserError(f"timm's {plain} takes no image_size; leave it out.") from error
    return network


def imported_timm() -> Any:
    """The module timm.

    Raises:
        UserError: It is not installed.
    """
    return imported("timm", "Networks of timm need", "timm")
