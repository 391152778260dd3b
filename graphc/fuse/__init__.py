"""Which nodes become one gate, and which values must exist in memory."""
