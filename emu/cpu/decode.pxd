# The decoder: bytes -> a decoded instruction, by the packed instruction table; and the table of handlers.
from emu.base.types cimport i8, i16, i32, i64, u8, u16, u32, u64
from emu.cpu.state cimport Insn, handler_t


cdef packed struct RowInfo:      # as packed by isa/generate.py (ROW_FORMAT)
    i16 fixed                    # whole ModRM byte, or -1
    i8 digit                     # ModRM.reg, or -1
    u8 prefix                    # 0 any, 1 none of 66 F2 F3, 2 66, 3 F3, 4 F2, 5 none of F2 F3
    u8 modrm                     # bit 0: has one, 1: register form legal, 2: memory form legal
    u8 size_rule                 # 0, 1: d64, 2: f64
    u8 size_mask                 # operand sizes for which the row holds: 1, 2, 4 for 16, 32, 64 bits
    u8 attributes                # ROW_*
    u8 dst                       # where the register operands come from: PLACE_*
    u8 src
    u8 immediate                 # IMM_*
    u8 aux
    u8 feature
    u8 special                   # SPECIAL_*
    u16 handler[6]               # [operand size 16, 32, 64][register, memory]
    u16 number

cdef enum:
    ROW_I64 = 1
    ROW_O64 = 2
    ROW_PROTECTED = 4
    ROW_LOCK = 8
    ROW_END = 16
    ROW_W0 = 32
    ROW_W1 = 64
    ROW_REP_END = 128

cdef enum:
    SPECIAL_ANY_MOD = 1          # ModRM.mod is not looked at
    SPECIAL_SEGMENT = 2          # ModRM.reg must name a segment register ...
    SPECIAL_NOT_CS = 4           # ... other than CS
    SPECIAL_CONTROL = 8          # ModRM.reg must name a control register
    SPECIAL_DEBUG = 16           # ModRM.reg must name a debug register
    SPECIAL_REGISTER = 30        # any of the four
    SPECIAL_B0 = 32              # only without REX.B

cdef enum:                       # what decode_one gives besides a length
    DECODE_MORE = 0              # the bytes end before the instruction does
    DECODE_BAD = -1              # #UD
    DECODE_LONG = -2             # more than 15 bytes: #GP(0)

cdef struct Decoded:
    Insn insn                    # fn, operands, opsize, flags (address size, REP, LOCK); seg: segment register 0..5
    const RowInfo* row           # NULL where DECODE_BAD
    int length
    bint memory                  # has a memory operand through ModRM
    bint rip_relative
    bint segment_override
    bint branch                  # imm is a relative displacement, from the end of the instruction
    u8 modrm
    u8 rex                       # 0: none
    u8 prefix                    # 0, 0x66, 0xF2, 0xF3: as it selected the row

cdef handler_t handlers[4096]
cdef void register_handler(int number, handler_t handler)
cdef int decode_one(const u8* bytes, int available, u32 mode, const u64* features, Decoded* out) noexcept nogil
