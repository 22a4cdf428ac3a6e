"""An ANN and the spiking networks that it is converted to, without a Trainer."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from ftbc_lightning.analysis.network_variants import Phase, Variant, headline, saved_networks
from ftbc_lightning.snn.conversion import reconvert
from ftbc_lightning.snn.network import SpikingNetwork, shortened, sibling
from ftbc_lightning.training.saved_state import check_state, check_whole


class ConvertedNetworks(nn.Module):
    """An ANN and the spiking networks that it is converted to.

    Attributes:
        ann: The network.
        phase: "ann" while there is no spiking network, "converted" when their structure is there,
            "calibrated" when thresholds and biases are set.
        variants: What each spiking network is, by its key.
        snns: The spiking networks by the keys of their variants.
    """

    ann: nn.Module
    phase: Phase
    variants: dict[str, Variant]
    snns: nn.ModuleDict

    def reset(self) -> None:
        """Drop the spiking networks."""
        self.phase, self.variants, self.snns = "ann", {}, nn.ModuleDict()

    def adopt(self, first: SpikingNetwork, variants: Iterable[Variant]) -> None:
        """Take in a network for each variant.

        Args:
            first: A network of the ANN, with the structure of all.
            variants: What is wanted.
        """
        self.reset()
        for variant in variants:
            self.variants[variant.key] = variant
            network = sibling(
                first,
                timesteps=variant.timesteps,
                own_layers=variant.own_layers,
                neurons=variant.neurons,
            )
            if variant.stages.membranes:
                network.correct_membranes()
            self.snns[variant.key] = network

    def network(self, variant: Variant) -> SpikingNetwork:
        """The spiking network of a variant; the first steps of one that serves several T."""
        serving = (v for v in self.variants.values() if v.method == variant.method)
        key = next((v.key for v in serving if variant.timesteps in v.reported), variant.key)
        network = self.snns[key]
        assert isinstance(network, SpikingNetwork)
        if network.timesteps == variant.timesteps:
            return network
        return shortened(network, variant.timesteps)

    def every_variant(self) -> list[Variant]:
        """The variants, one for each T that has a result."""
        return [one for variant in self.variants.values() for one in variant.each]

    def headline(self) -> Variant:
        """The variant that stands for all: exact (else the last method) at the largest T."""
        return headline(self.variants.values())

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Make the structure follow a file, before its weights are loaded.

        Raises:
            UserError: The file holds another network, or is damaged.
        """
        check_state(self.ann, checkpoint)
        phase, networks = saved_networks(checkpoint)
        self.reset()
        variants = [Variant.of(entry) for entry in networks]
        if variants:
            self.adopt(reconvert(self.ann, networks[0]["map"]), variants)
        check_whole(self.state_dict(), checkpoint["state_dict"])
        self.phase = phase
