# The pair of 8259A interrupt controllers of a PC, with the chipset's edge/level control registers.
# Source: Intel 8259A datasheet (order 231468); edge/level registers: Intel 82371SB (PIIX3) datasheet, 3.2.4.
import cython

from emu.base.errors import SnapshotError
from emu.base.line cimport drive, line_input, line_output
from emu.base.state cimport declare_state
from emu.base.types cimport u8, u64
from emu.devices.narrow cimport read_bytes, write_bytes
from emu.memory.space cimport region

cdef enum:
    MASTER = 0
    SLAVE = 1
    CASCADE = 2                      # the master's input that the slave drives
    ICW1 = 0x10
    ICW1_IC4 = 0x01
    ICW1_SNGL = 0x02
    ICW1_LTIM = 0x08
    ICW4_AEOI = 0x02
    ICW4_SFNM = 0x10
    OCW3 = 0x08
    OCW3_RIS = 0x01
    OCW3_RR = 0x02
    OCW3_POLL = 0x04
    OCW3_SMM = 0x20
    OCW3_ESMM = 0x40
    POLL_INTERRUPT = 0x80
    SPURIOUS = 7                     # "default IR7", datasheet, edge and level triggered modes


cdef inline int _highest(Chip* chip, u8 bits) noexcept nogil:
    """The input of highest priority among `bits`, -1: none."""
    cdef int k, number
    for k in range(1, 9):
        number = (chip.lowest + k) & 7
        if bits & (1 << number):
            return number
    return -1


cdef int _resolve(Chip* chip, bint master) noexcept nogil:
    """The request that would be acknowledged now, -1: none."""
    cdef int k, number
    cdef u8 requests = chip.irr & ~chip.imr
    cdef u8 blocking = chip.isr
    if requests == 0 or not chip.ready:
        return -1
    if chip.special_mask:                            # a level that is masked while in service blocks nobody
        blocking &= ~chip.imr
    if master and chip.special_fully_nested:         # further requests of the slave are taken while one is in service
        blocking &= ~(1 << CASCADE)
    for k in range(1, 9):
        number = (chip.lowest + k) & 7
        if blocking & (1 << number):
            return -1
        if requests & (1 << number):
            return number
    return -1


cdef inline u8 _levels(Chip* chip) noexcept nogil:
    return 0xFF if chip.all_level else chip.level_triggered


cdef void _chip_input(Chip* chip, int number, int level) noexcept nogil:
    cdef u8 bit = 1 << number
    if level:
        if not chip.inputs & bit or _levels(chip) & bit:
            chip.irr |= bit
        chip.inputs |= bit
    else:
        # An edge request too must stay high until it is acknowledged (datasheet, edge triggered mode).
        chip.inputs &= ~bit
        chip.irr &= ~bit


cdef void _update(PicState* pic) noexcept nogil:
    """Drives the INT outputs from what is pending."""
    _chip_input(&pic.chip[MASTER], CASCADE, _resolve(&pic.chip[SLAVE], False) >= 0)
    drive(&pic.output, _resolve(&pic.chip[MASTER], True) >= 0)


cdef void pic_set_input(void* owner, int number, int level) noexcept nogil:
    """Input `number` 0..15 (2 is the cascade's own: ignored) goes to `level`."""
    cdef PicState* pic = <PicState*>owner
    if number == CASCADE or number < 0 or number > 15:
        return
    _chip_input(&pic.chip[number >> 3], number & 7, level)
    _update(pic)


cdef void _take(Chip* chip, int number) noexcept nogil:
    """The acknowledge cycle of one chip: the request goes into service, or is done with at once (automatic EOI)."""
    cdef u8 bit = 1 << number
    if not _levels(chip) & bit:
        chip.irr &= ~bit
    if not chip.auto_eoi:
        chip.isr |= bit
    elif chip.rotate_on_auto_eoi:
        chip.lowest = number


cdef int _acknowledge_slave(PicState* pic) noexcept nogil:
    cdef int number = _resolve(&pic.chip[SLAVE], False)
    if number < 0:
        number = SPURIOUS
    else:
        _take(&pic.chip[SLAVE], number)
    # INT falls at the end of the acknowledge, so that a further request makes an edge at the master.
    _chip_input(&pic.chip[MASTER], CASCADE, 0)
    return number


cdef int pic_acknowledge(void* owner) noexcept nogil:
    """The interrupt acknowledge cycles of the CPU: the vector; that of IR7 where the request has gone."""
    cdef PicState* pic = <PicState*>owner
    cdef Chip* chip = &pic.chip[MASTER]
    cdef int number = _resolve(chip, True)
    cdef int vector
    if number < 0:
        return chip.vector_base | SPURIOUS
    _take(chip, number)
    # DEVIATES: the cascade is wired at IR2, whatever ICW3 says of it; a wrong ICW3 would leave the bus floating.
    if number == CASCADE and not chip.single:
        vector = pic.chip[SLAVE].vector_base | _acknowledge_slave(pic)
    else:
        vector = chip.vector_base | number
    _update(pic)
    return vector


cdef u8 _poll(PicState* pic, int which) noexcept nogil:
    """A read after the poll command acknowledges as INTA would, and gives the level instead of a vector."""
    cdef Chip* chip = &pic.chip[which]
    cdef int number = _resolve(chip, which == MASTER)
    chip.poll = 0
    if number < 0:
        return SPURIOUS
    _take(chip, number)
    if which == SLAVE:
        _chip_input(&pic.chip[MASTER], CASCADE, 0)
    _update(pic)
    return POLL_INTERRUPT | <u8>number


cdef u8 _chip_read(PicState* pic, int which, u64 offset) noexcept nogil:
    cdef Chip* chip = &pic.chip[which]
    if chip.poll:
        return _poll(pic, which)
    if offset & 1:
        return chip.imr
    return chip.isr if chip.read_isr else chip.irr


cdef void _icw1(Chip* chip, u8 value) noexcept nogil:
    chip.all_level = value & ICW1_LTIM
    chip.single = value & ICW1_SNGL
    chip.needs_icw4 = value & ICW1_IC4
    # The edge sense circuit is reset: an input must rise again to make a request.
    chip.irr = chip.inputs & _levels(chip)
    chip.imr = 0
    chip.isr = 0
    chip.lowest = 7
    chip.icw3 = 7
    chip.special_mask = 0
    chip.read_isr = 0
    chip.poll = 0
    chip.auto_eoi = 0
    chip.special_fully_nested = 0
    chip.rotate_on_auto_eoi = 0
    chip.ready = 0
    chip.expected = 2


cdef void _icw(Chip* chip, u8 value) noexcept nogil:
    """The initialization command word that is expected; when it was the last one, requests are taken from now on."""
    if chip.expected == 2:
        chip.vector_base = value & 0xF8
        chip.expected = 3 if not chip.single else 4 if chip.needs_icw4 else 0
    elif chip.expected == 3:
        chip.icw3 = value
        chip.expected = 4 if chip.needs_icw4 else 0
    else:
        # DEVIATES: MCS-80/85 mode (uPM = 0) is kept as 8086 mode; its CALL opcode means nothing to this CPU.
        chip.auto_eoi = value & ICW4_AEOI
        chip.special_fully_nested = value & ICW4_SFNM
        chip.expected = 0
    chip.ready = chip.expected == 0


cdef void _ocw2(Chip* chip, u8 value) noexcept nogil:
    cdef u8 command = value >> 5
    cdef int number = value & 7
    if command == 0 or command == 4:                 # rotate in automatic EOI mode: clear, set
        chip.rotate_on_auto_eoi = command == 4
    elif command == 1 or command == 5:               # non-specific EOI
        # In special mask mode a level that is masked is left in service.
        number = _highest(chip, chip.isr & ~chip.imr if chip.special_mask else chip.isr)
        if number >= 0:
            chip.isr &= ~(1 << number)
            if command == 5:
                chip.lowest = number
    elif command == 3 or command == 7:               # specific EOI
        chip.isr &= ~(1 << number)
        if command == 7:
            chip.lowest = number
    elif command == 6:                               # set priority
        chip.lowest = number


cdef void _chip_write(PicState* pic, int which, u64 offset, u8 value) noexcept nogil:
    cdef Chip* chip = &pic.chip[which]
    if offset & 1:
        if chip.expected:
            _icw(chip, value)
        else:
            chip.imr = value
    elif value & ICW1:
        _icw1(chip, value)
    elif value & OCW3:
        if value & OCW3_ESMM:
            chip.special_mask = value & OCW3_SMM
        if value & OCW3_POLL:
            chip.poll = 1
        if value & OCW3_RR:
            chip.read_isr = value & OCW3_RIS
    else:
        _ocw2(chip, value)
    _update(pic)


cdef u8 _master_read_byte(void* owner, u64 offset) noexcept nogil:
    return _chip_read(<PicState*>owner, MASTER, offset)


cdef void _master_write_byte(void* owner, u64 offset, u8 value) noexcept nogil:
    _chip_write(<PicState*>owner, MASTER, offset, value)


cdef u8 _slave_read_byte(void* owner, u64 offset) noexcept nogil:
    return _chip_read(<PicState*>owner, SLAVE, offset)


cdef void _slave_write_byte(void* owner, u64 offset, u8 value) noexcept nogil:
    _chip_write(<PicState*>owner, SLAVE, offset, value)


cdef u8 _elcr_read_byte(void* owner, u64 offset) noexcept nogil:
    return (<PicState*>owner).chip[offset & 1].level_triggered


cdef inline u8 _elcr_writable(int which) noexcept nogil:
    return 0xDE if which else 0xF8                   # IRQ 0, 1, 2, 8 and 13 are always edge triggered


cdef void _elcr_write_byte(void* owner, u64 offset, u8 value) noexcept nogil:
    cdef PicState* pic = <PicState*>owner
    cdef Chip* chip = &pic.chip[offset & 1]
    cdef u8 before = chip.level_triggered
    chip.level_triggered = value & _elcr_writable(offset & 1)
    chip.irr |= chip.inputs & chip.level_triggered & ~before
    _update(pic)


cdef u64 _master_read(void* owner, u64 offset, int size) noexcept nogil:
    return read_bytes(_master_read_byte, owner, offset, size)


cdef void _master_write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    write_bytes(_master_write_byte, owner, offset, size, value)


cdef u64 _slave_read(void* owner, u64 offset, int size) noexcept nogil:
    return read_bytes(_slave_read_byte, owner, offset, size)


cdef void _slave_write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    write_bytes(_slave_write_byte, owner, offset, size, value)


cdef u64 _elcr_read(void* owner, u64 offset, int size) noexcept nogil:
    return read_bytes(_elcr_read_byte, owner, offset, size)


cdef void _elcr_write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    write_bytes(_elcr_write_byte, owner, offset, size, value)


@cython.final
cdef class Pic:
    """Two cascaded 8259As.

    Regions: `master` and `slave` (2 bytes each: A0 = 0, 1), `elcr` (2 bytes). Wires: `input(n)`, n = IRQ 0..15
    without 2; `output`, the master's INT: to INTR of the CPU, or to LINT0 of its local APIC.
    After a reset no request is taken until all ICWs were written.
    """

    def __cinit__(self):
        cdef int k
        cdef Chip* chip
        cdef void* owner = <void*>&self.state
        self.master = region("pic master", 2, _master_read, _master_write, owner, self)
        self.slave = region("pic slave", 2, _slave_read, _slave_write, owner, self)
        self.elcr = region("pic elcr", 2, _elcr_read, _elcr_write, owner, self)
        self.output = line_output(&self.state.output, self)
        fields = declare_state("pic", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        for k in range(2):
            chip = &self.state.chip[k]
            prefix = "slave" if k else "master"
            fields.add(prefix + "_irr", "u8", &chip.irr)
            fields.add(prefix + "_isr", "u8", &chip.isr)
            fields.add(prefix + "_imr", "u8", &chip.imr)
            fields.add(prefix + "_inputs", "u8", &chip.inputs)
            fields.add(prefix + "_level_triggered", "u8", &chip.level_triggered)
            fields.add(prefix + "_all_level", "u8", &chip.all_level)
            fields.add(prefix + "_expected", "u8", &chip.expected)
            fields.add(prefix + "_ready", "u8", &chip.ready)
            fields.add(prefix + "_single", "u8", &chip.single)
            fields.add(prefix + "_needs_icw4", "u8", &chip.needs_icw4)
            fields.add(prefix + "_vector_base", "u8", &chip.vector_base)
            fields.add(prefix + "_icw3", "u8", &chip.icw3)
            fields.add(prefix + "_auto_eoi", "u8", &chip.auto_eoi)
            fields.add(prefix + "_special_fully_nested", "u8", &chip.special_fully_nested)
            fields.add(prefix + "_rotate_on_auto_eoi", "u8", &chip.rotate_on_auto_eoi)
            fields.add(prefix + "_special_mask", "u8", &chip.special_mask)
            fields.add(prefix + "_read_isr", "u8", &chip.read_isr)
            fields.add(prefix + "_poll", "u8", &chip.poll)
            fields.add(prefix + "_lowest", "u8", &chip.lowest)
        fields.add("output", "i32", &self.state.output.level)
        self.fields = fields
        self.reset()

    def reset(self):
        """As after power-on: not initialized, nothing requested; the levels of the inputs stay what they are."""
        cdef int k
        cdef Chip* chip
        for k in range(2):
            chip = &self.state.chip[k]
            _icw1(chip, 0)
            chip.level_triggered = 0
            chip.irr = 0
            chip.vector_base = 0
            chip.expected = 0
        _update(&self.state)

    def input(self, int number):
        """The wire of IRQ `number`, 0..15; ValueError for 2 (the cascade) and what is not there."""
        if not 0 <= number <= 15 or number == CASCADE:
            raise ValueError(f"no IRQ {number} comes to the interrupt controllers")
        return line_input(pic_set_input, <void*>&self.state, number, self)

    def acknowledge(self):
        """What the CPU's acknowledge cycles give: the vector."""
        return pic_acknowledge(<void*>&self.state)

    def _validate(self):
        cdef int k
        cdef Chip* chip
        for k in range(2):
            chip = &self.state.chip[k]
            if chip.lowest > 7 or chip.expected == 1 or chip.expected > 4 or chip.vector_base & 7:
                raise SnapshotError("pic", f"lowest {chip.lowest}, ICW {chip.expected}, vector {chip.vector_base:#x}",
                                    "an input 0..7, a word 2..4 or 0, a multiple of 8")
            if chip.level_triggered & ~_elcr_writable(k):
                raise SnapshotError("pic", f"level_triggered {chip.level_triggered:#x}", "IRQ 0, 1, 2, 8 and 13 are edge triggered")
        if self.state.output.level not in (0, 1):
            raise SnapshotError("pic.output", str(self.state.output.level), "0 or 1")
