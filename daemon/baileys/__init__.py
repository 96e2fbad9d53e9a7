"""Takes over the credentials of a system that is built on Baileys: see docs/migration.md.

Written from the form of the files alone; nothing of them is ever changed.
"""
