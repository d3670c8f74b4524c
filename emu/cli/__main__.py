# `python -m emu.cli` is the command `emu`.
from .main import entry

entry()
