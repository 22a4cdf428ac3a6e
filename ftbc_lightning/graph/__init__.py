"""A network as a graph: tracing, what each operation becomes, values carried through all steps."""
