"""Every op, wholly declared in one place: one module a family."""
