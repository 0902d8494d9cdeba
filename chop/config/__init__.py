"""TOML files and overrides, read into checked, frozen values."""

from chop.config.load import load_config
from chop.config.schema import Config, PassCall

__all__ = ["Config", "PassCall", "load_config"]
