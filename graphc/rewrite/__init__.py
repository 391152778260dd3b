"""Passes that replace nodes by equal, better ones."""
