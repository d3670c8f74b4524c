# The package: its version, and the classes that users import, loaded when first asked for (the command line starts in a blink).
__version__ = "0.1.0"


def __getattr__(name: str):
    if name == "Machine":
        from .machine.machine import Machine
        return Machine
    if name == "Exit":
        from .machine.machine import Exit
        return Exit
    raise AttributeError(f"module 'emu' has no attribute {name!r}")
