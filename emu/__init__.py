# The package: its version, and the classes that users import, loaded when first asked for (the command line starts in a blink).
__version__ = "0.1.0"
_HOMES = {"Machine": ".machine.machine", "Exit": ".machine.machine", "Hypervisor": ".hypervisor.pool", "Spec": ".hypervisor.spec",
          "Cpu": ".hypervisor.spec"}


def __getattr__(name: str):
    if name in _HOMES:
        import importlib
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module 'emu' has no attribute {name!r}")
