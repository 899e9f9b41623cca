"""The one place the version is written; the wheel, the CLI and the load's parser version read it."""

__version__ = "0.1.0"
