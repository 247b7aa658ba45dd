"""The script that writes tables and references, as a module."""

import importlib.util
import sys

from .chart import HELM

_spec = importlib.util.spec_from_file_location("generate", HELM / "generate.py")
generate = importlib.util.module_from_spec(_spec)
sys.modules["generate"] = generate
_spec.loader.exec_module(generate)
entries = generate.entries
