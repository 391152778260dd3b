"""What generated code calls: it works jitted and as plain Python on NumPy arrays."""
