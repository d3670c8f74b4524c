# From the bytes of an image to a plan for booting it.
from emu.boot.identify import BOOTABLE, identify, refuse
from emu.boot.plan import BootPlan, Platform


def load(name: str, data: bytes, platform: Platform) -> BootPlan:
    """The plan that boots the image `data`, of whatever bootable kind it is.

    `name` is the subject of errors. Raises ImageError where the image is empty, truncated, corrupt or of a kind that
    cannot be booted, BootError where it is good and this machine cannot boot it.
    """
    identity = identify(data)
    if identity.kind not in BOOTABLE:
        raise refuse(name, data, identity)
    if identity.kind == "bzimage":
        from emu.boot.linux import load_linux
        return load_linux(name, data, platform)
    if identity.kind in ("multiboot1", "multiboot2"):
        from emu.boot.multiboot import load_multiboot
        return load_multiboot(name, data, platform)
    if identity.kind == "disk":
        from emu.boot.bootsector import load_bootsector
        return load_bootsector(name, data, platform)
    from emu.boot.elf import load_elf
    return load_elf(name, data, platform)
