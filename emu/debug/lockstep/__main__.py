# Entry of `python -m emu.debug.lockstep`.
import sys

from emu.cpu.models import resolve_cpu
from emu.debug.lockstep.machine import MachineFollower
from emu.debug.lockstep.run import main

sys.exit(main(sys.argv[1:], lambda image, msrs, cpu: MachineFollower(image, msrs, resolve_cpu(cpu).features)))
