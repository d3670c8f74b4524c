# Bytes as text for people to read. The spelling is capstone's; what the processor does with the bytes is not decided here.
from collections.abc import Iterator

BAD = "(bad)"


def disassemble(data: bytes, mode: int, address: int) -> Iterator[tuple[int, bytes, str]]:
    """The instructions in `data`, one after the other.

    mode: 16, 32 or 64; address: of the first byte. Gives (address, bytes, text); a byte with which no instruction begins
    stands alone as "(bad)". Addresses wrap at the width of the mode's instruction pointer.
    """
    import capstone

    machine = capstone.Cs(capstone.CS_ARCH_X86, {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[mode])
    wrap = (1 << mode) - 1
    at = 0
    while at < len(data):
        for found in machine.disasm_lite(data[at:], (address + at) & wrap):
            _, size, mnemonic, operands = found
            yield (address + at) & wrap, data[at:at + size], f"{mnemonic} {operands}".rstrip()
            at += size
        if at < len(data):
            yield (address + at) & wrap, data[at:at + 1], BAD
            at += 1
