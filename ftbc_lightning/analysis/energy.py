"""From operations to joules, by named cost tables: an estimate, never a bare number."""

from dataclasses import dataclass

from ftbc_lightning.analysis.quantized_ann import bits
from ftbc_lightning.analysis.sample_cost import FirstLayer, OperationCount
from ftbc_lightning.errors import UserError


@dataclass(frozen=True)
class CostTable:
    """What one operation costs; memory traffic, control and leakage are in none of them.

    A MAC is a product and a sum: the two figures of the source are added, and nothing is scaled to
    another process.

    Attributes:
        name: How it is called in files and charts.
        mac: A multiply and an add, in pJ.
        ac: An add, in pJ.
        source: Where the figures come from.
    """

    name: str
    mac: float
    ac: float
    source: str


_HOROWITZ = "Horowitz, Computing's energy problem, ISSCC 2014; 45 nm, 0.9 V"

COST_TABLES: dict[str, CostTable] = {
    table.name: table
    for table in (
        CostTable("45nm-fp32", 3.7 + 0.9, 0.9, _HOROWITZ),
        CostTable("45nm-fp16", 1.1 + 0.4, 0.4, _HOROWITZ),
        CostTable("45nm-int32", 3.1 + 0.1, 0.1, _HOROWITZ),
        CostTable("45nm-int8", 0.2 + 0.03, 0.03, _HOROWITZ),
    )
}
"""45nm-fp32 is the one that papers on spiking networks use: MAC 4.6 pJ, AC 0.9 pJ."""

DEFAULT_TABLE = "45nm-fp32"


def cost_table(name: str) -> CostTable:
    """The table of that name.

    Raises:
        UserError: There is none.
    """
    if name not in COST_TABLES:
        known = ", ".join(COST_TABLES)
        raise UserError(f"Cost table {name!r} is unknown; choose one of {known}.")
    return COST_TABLES[name]


@dataclass(frozen=True)
class Energy:
    """The estimate for one sample, and what it rests on.

    Attributes:
        synapses: Of MACs and ACs, in nJ.
        additions: Of biases and of spikes that enter a sum without a layer, in nJ.
        neurons: Of what neurons do beyond charge, one comparison and reset, in nJ: the leak's
            products, further comparisons, which are additions, and the counters of signed ones.
        functions: Of multiplications in functions that do not spike, in nJ; what else they do is
            not counted.
        table: The cost table.
        first_layer: Whether analog inputs are multiplied once or at every step.
    """

    synapses: float
    additions: float
    table: CostTable
    first_layer: FirstLayer
    neurons: float = 0.0
    functions: float = 0.0

    @property
    def products(self) -> float:
        """Of synapses and functions, in nJ."""
        return self.synapses + self.functions

    def __str__(self) -> str:
        neurons = f"+ {_three(self.neurons)} nJ in neurons " if self.neurons else ""
        functions = f"+ {_three(self.functions)} nJ in functions " if self.functions else ""
        first_layer = self.first_layer.replace("_", " ")
        return (
            f"{_three(self.synapses)} nJ in synapses + {_three(self.additions)} nJ in additions "
            f"{neurons}{functions}({self.table.name}, first layer {first_layer})"
        )


def _three(number: float) -> str:
    """Three digits, without an exponent.

    >>> _three(1183.2), _three(4.161)
    ('1,180', '4.16')
    """
    return f"{float(f'{number:.3g}'):,g}"


def energy(count: OperationCount, table: CostTable, *, first_layer: FirstLayer = "once") -> Energy:
    """Energy of one sample in a spiking network or an ANN.

        E = MACs * E_mac + ACs * E_ac

    A product with the leak costs E_mac - E_ac.

    Args:
        count: From `ftbc_lightning.analysis.operation_counts`.
        table: What an operation costs.
        first_layer: Convention for layers that read the analog sample.
    """
    synapses = count.macs(first_layer) * table.mac + count.acs() * table.ac
    additions = (count.bias_adds(first_layer) + sum(count.shortcut_adds)) * table.ac
    updates, plain = count.updates, sum(count.neurons.values()) * count.timesteps
    further = max(updates.comparisons - plain, 0) + updates.counter_adds
    neurons = updates.products * (table.mac - table.ac) + further * table.ac
    functions = count.function_products() * table.mac
    return Energy(
        synapses / 1000, additions / 1000, table, first_layer, neurons / 1000, functions / 1000
    )


def quantized_energy(
    count: OperationCount, table: CostTable, *, timesteps: int, levels: int = 1
) -> Energy:
    """Energy of the ANN whose activations have ceil(log2(T * K + 1)) bits, in one pass.

    A product with a b-bit activation is b additions of the weight, bit by bit, and never costs
    more than the table's MAC. Layers that read the analog sample pay full MACs.

    Args:
        count: Of the quantised ANN (`count_ann_operations(..., quantized=True)`).
        table: What an operation costs.
        timesteps: T.
        levels: K.
    """
    product = min(bits(timesteps * levels) * table.ac, table.mac)
    first = sum(sum(layer.effective) for layer in count.layers if layer.inputs == "analog")
    synapses = first * table.mac + (count.macs() - first) * product
    additions, functions = count.bias_adds() * table.ac, count.function_products() * table.mac
    return Energy(synapses / 1000, additions / 1000, table, "once", functions=functions / 1000)
