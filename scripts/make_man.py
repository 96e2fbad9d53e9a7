#!/usr/bin/env python3
"""Writes deploy/man/zapvisor.1 from the commands."""

import pathlib

from daemon.cli import app
from daemon.manual import manual

PAGE = pathlib.Path(__file__).resolve().parents[1] / "deploy" / "man" / "zapvisor.1"

if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(manual(app), encoding="utf-8")
    print(PAGE)
