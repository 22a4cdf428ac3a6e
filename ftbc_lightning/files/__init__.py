"""Writing files whole, rows of plain values in CSV."""
