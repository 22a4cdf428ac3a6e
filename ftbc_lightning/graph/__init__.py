"""A network as a graph: tracing, what each operation becomes, values carried through all steps."""

from ftbc_lightning.graph.tracing import trace

__all__ = ["trace"]
