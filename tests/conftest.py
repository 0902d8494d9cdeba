"""Puts the root on the import path: tests share helpers as tests.<folder>.<name>."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
