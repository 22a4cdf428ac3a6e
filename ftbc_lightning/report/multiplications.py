"""How much of a network spikes, in multiplications that have become additions."""

from ftbc_lightning.report.rows import Measurements
from ftbc_lightning.report.style import label_of


def multiplications_saved(measured: Measurements) -> str:
    """How much of the network that is shown spikes, in one sentence; empty without counts."""
    rows = {(row.method, row.timesteps): row for row in measured.operations}
    ann, shown = rows.get(("ann", 1)), rows.get((measured.shown, measured.timesteps))
    if ann is None or shown is None:
        return ""
    before, after = (row.macs_once + row.function_products for row in (ann, shown))
    share = f"{after / before:.1%}" if before else "none"
    said = (
        f"Where the ANN multiplies {before:,.0f} times a sample, {label_of(shown.method)} at "
        f"T = {shown.timesteps} multiplies {after:,.0f} times ({share}) and adds {shown.acs:,.0f} "
        "times"
    )
    if not shown.function_values:
        return f"{said}."
    return (
        f"{said}; {shown.function_products:,.0f} of these multiplications, and "
        f"{shown.function_values:,.0f} evaluations of functions (the ANN: "
        f"{ann.function_values:,.0f}), are in functions that do not spike."
    )
