"""Keeps the tests' compiled modules out of the user's cache."""

import os
import tempfile

_folder = tempfile.TemporaryDirectory(prefix="graphc-tests-")
os.environ["GRAPHC_CACHE_DIR"] = _folder.name

# Programs that measure, some of which import what is not installed with the tests.
collect_ignore = ["benchmarks"]
