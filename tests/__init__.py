"""Tests. Where a run is measured, each of its processes that imports them takes part (`tests/line_coverage.py`)."""

import os
from importlib import import_module

if "TESTS_LINE_COVERAGE" in os.environ:
    import_module("tests.line_coverage").begin()
