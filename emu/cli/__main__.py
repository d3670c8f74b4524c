# `python -m emu.cli` is the command `emu`.
import sys

from .main import main

sys.exit(main())
