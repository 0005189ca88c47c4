"""Cellwatch watches a factory cell and acts on what it sees."""

__version__ = "0.1.0"
