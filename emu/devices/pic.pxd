# The pair of 8259A interrupt controllers of a PC, with the chipset's edge/level control registers.
# Source: Intel 8259A datasheet (order 231468); edge/level registers: Intel 82371SB (PIIX3) datasheet, 3.2.4.
from emu.base.line cimport Line, LineOutput
from emu.base.types cimport u8
from emu.memory.space cimport Region


cdef struct Chip:
    u8 irr                   # requests: latched rising edges whose input is still high, or the level itself
    u8 isr                   # in service
    u8 imr                   # masked
    u8 inputs                # levels of IR7..IR0 now
    u8 level_triggered       # ELCR: 1 = level, 0 = edge
    u8 all_level             # ICW1 LTIM
    u8 expected              # initialization command word expected next, 2..4; 0: none
    u8 ready                 # initialized: requests are taken (datasheet, figure 9)
    u8 single                # ICW1 SNGL
    u8 needs_icw4            # ICW1 IC4
    u8 vector_base           # ICW2, bits 7:3
    u8 icw3
    u8 auto_eoi              # ICW4 AEOI
    u8 special_fully_nested  # ICW4 SFNM
    u8 rotate_on_auto_eoi
    u8 special_mask
    u8 read_isr              # OCW3: reads give ISR, not IRR
    u8 poll                  # OCW3: the next read is a poll
    u8 lowest                # the input that has the lowest priority, 0..7


cdef struct PicState:
    Chip chip[2]             # 0: master, 1: slave on the master's IR2
    Line output              # INT of the master


cdef int pic_acknowledge(void* owner) noexcept nogil
cdef void pic_set_input(void* owner, int number, int level) noexcept nogil


cdef class Pic:
    cdef PicState state
    cdef readonly object fields
    cdef readonly Region master, slave, elcr
    cdef readonly LineOutput output
