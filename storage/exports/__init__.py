"""Exports as files: the container, its parts, and the readable forms."""
