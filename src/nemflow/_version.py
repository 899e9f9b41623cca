"""The one place the version is written; the wheel, the CLI and the store's loads read it."""

__version__ = "0.1.0"
