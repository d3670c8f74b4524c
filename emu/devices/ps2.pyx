# The 8042 keyboard controller with its keyboard and mouse, and port 0x92 (fast A20, fast reset).
#
# Sources: IBM Personal System/2 Hardware Interface Technical Reference (keyboard/auxiliary device controller, keyboard,
# mouse); Intel 82371SB (PIIX3) datasheet for port 0x92.
# DEVIATES, each for a reason:
# - After reset the controller stands as every BIOS leaves it (self-tested, translation and IRQ1 on, A20 on), because
#   kernels are loaded without one.
# - A20 is one latch that port 0x92 and the output port both write; chipsets OR two gates, of which one then never closes.
# - Scancode set 3 and typematic repeat are not there: the host's own keyboard repeats.
import cython

from libc.string cimport memset

from emu.base.clock cimport Clock, ClockState, Timer, timer_arm, timer_cancel, NEVER
from emu.base.errors import SnapshotError, UsageError
from emu.base.line cimport Line, LineOutput, drive, line_output, pulse
from emu.base.state cimport declare_state
from emu.base.types cimport i32, u8, u64
from emu.memory.space cimport Region, region

cdef enum:
    QUEUE_BYTES = 64
    BYTE_NS = 20000                  # from one byte of a device to the next; a real line takes about 1 ms
    # Status register (port 0x64)
    STATUS_OUTPUT_FULL = 0x01
    STATUS_SYSTEM = 0x04
    STATUS_COMMAND = 0x08            # the last write went to port 0x64
    STATUS_UNLOCKED = 0x10
    STATUS_MOUSE = 0x20              # the byte in the output buffer is the mouse's
    # Configuration byte (RAM byte 0)
    CONFIG_KEYBOARD_IRQ = 0x01
    CONFIG_MOUSE_IRQ = 0x02
    CONFIG_SYSTEM = 0x04
    CONFIG_KEYBOARD_OFF = 0x10
    CONFIG_MOUSE_OFF = 0x20
    CONFIG_TRANSLATE = 0x40
    # Whose byte lies in the output buffer
    FROM_CONTROLLER = 0
    FROM_KEYBOARD = 1
    FROM_MOUSE = 2
    # What devices answer
    ACKNOWLEDGE = 0xFA
    RESEND = 0xFE
    SELF_TEST_PASSED = 0xAA
    ECHO = 0xEE
    EXTENDED = 0xE0
    RELEASE = 0xF0


cdef struct Queue:
    u8 data[QUEUE_BYTES]
    u8 start
    u8 count


cdef struct Keyboard:
    Queue queue
    u8 command                       # a command that waits for its parameter, else 0
    u8 scanning
    u8 scancode_set                  # 1 or 2
    u8 leds
    u8 last                          # last byte sent, for resend


cdef struct Mouse:
    Queue queue
    u8 command
    u8 reporting
    u8 remote
    u8 wrap
    u8 scaling                       # 1: 2:1
    u8 resolution
    u8 rate
    u8 knock[2]                      # the two sample rates before this one: 200, 100, 80 turns the wheel on
    u8 identity                      # 0: three buttons, 3: with a wheel
    u8 buttons
    u8 buttons_sent
    u8 last
    i32 x
    i32 y
    i32 z


cdef struct Ps2State:
    u8 status
    u8 output                        # output buffer
    u8 source                        # whose byte it is; it leaves that device's queue when it is read
    u8 command                       # a controller command that waits for its parameter, else 0
    u8 ram[32]                       # byte 0 is the configuration byte
    u8 release                       # translation has swallowed an F0: the next code gets bit 7
    u8 system_control                # port 0x92, all but A20
    Keyboard keyboard
    Mouse mouse
    Line keyboard_irq
    Line mouse_irq
    Line a20
    Line reset
    ClockState* clock
    Timer timer                      # the next byte of a device is through


# What the controller makes of set 2 codes 00..7F (set 1 "system" codes); 83 and 84 are the two beyond.
cdef u8[128] TRANSLATION = [
    0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59,
    0x65, 0x38, 0x2A, 0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B,
    0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05, 0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F,
    0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0C, 0x61,
    0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F,
    0x52, 0x53, 0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54]

# Keys by name -> set 1 code; 0x100 marks those with the E0 prefix.
KEYS = {name: code for code, name in enumerate(
    "esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab q w e r t y u i o p bracket_left bracket_right enter control "
    "a s d f g h j k l semicolon apostrophe grave shift backslash z x c v b n m comma dot slash shift_right "
    "keypad_multiply alt space caps_lock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 num_lock scroll_lock keypad_7 keypad_8 "
    "keypad_9 keypad_minus keypad_4 keypad_5 keypad_6 keypad_plus keypad_1 keypad_2 keypad_3 keypad_0 keypad_dot".split(), 1)}
KEYS.update(less=0x56, f11=0x57, f12=0x58, keypad_enter=0x11C, control_right=0x11D, keypad_divide=0x135, alt_right=0x138,
            home=0x147, up=0x148, page_up=0x149, left=0x14B, right=0x14D, end=0x14F, down=0x150, page_down=0x151,
            insert=0x152, delete=0x153, meta=0x15B, meta_right=0x15C, menu=0x15D)

# Keys that send more than a code: (make, break) in set 2 and in set 1.
_PRINT_SCREEN = {2: (b"\xE0\x12\xE0\x7C", b"\xE0\xF0\x7C\xE0\xF0\x12"), 1: (b"\xE0\x2A\xE0\x37", b"\xE0\xB7\xE0\xAA")}
_PAUSE = {2: (b"\xE1\x14\x77\xE1\xF0\x14\xF0\x77", b""), 1: (b"\xE1\x1D\x45\xE1\x9D\xC5", b"")}


cdef inline bint _put(Queue* queue, u8 byte) noexcept nogil:
    if queue.count == QUEUE_BYTES:
        return False
    queue.data[(queue.start + queue.count) % QUEUE_BYTES] = byte
    queue.count += 1
    return True


cdef inline u8 _pop(Queue* queue) noexcept nogil:
    cdef u8 byte = queue.data[queue.start]
    queue.start = (queue.start + 1) % QUEUE_BYTES
    queue.count -= 1
    return byte


cdef void _clear(Ps2State* ps2, Queue* queue, int source) noexcept nogil:
    queue.count = 0
    queue.start = 0
    if ps2.source == source:
        ps2.source = FROM_CONTROLLER     # the byte in the output buffer stays, but no queue holds it any more
    if source == FROM_KEYBOARD:
        ps2.release = 0


# ---- keyboard

cdef void _keyboard_defaults(Keyboard* keyboard) noexcept nogil:
    keyboard.scancode_set = 2
    keyboard.scanning = 1
    keyboard.command = 0


cdef void _keyboard_command(Ps2State* ps2, u8 value) noexcept nogil:
    cdef Keyboard* keyboard = &ps2.keyboard
    cdef u8 command = keyboard.command
    keyboard.command = 0
    if command and value < 0xED:
        _put(&keyboard.queue, ACKNOWLEDGE)
        if command == 0xED:
            keyboard.leds = value & 7
        elif command == 0xF0:
            if value == 0:
                _put(&keyboard.queue, keyboard.scancode_set)
            elif value <= 2:
                keyboard.scancode_set = value
            else:
                keyboard.queue.count -= 1
                _put(&keyboard.queue, RESEND)
        return                               # F3: the typematic rate has no effect
    if value == 0xFE:
        _put(&keyboard.queue, keyboard.last)
        return
    _clear(ps2, &keyboard.queue, FROM_KEYBOARD)
    if value == ECHO:
        _put(&keyboard.queue, ECHO)
    elif value == 0xED or value == 0xF0 or value == 0xF3:
        keyboard.command = value
        _put(&keyboard.queue, ACKNOWLEDGE)
    elif value == 0xF2:
        _put(&keyboard.queue, ACKNOWLEDGE)
        _put(&keyboard.queue, 0xAB)
        _put(&keyboard.queue, 0x83)
    elif value == 0xF4:
        keyboard.scanning = 1
        _put(&keyboard.queue, ACKNOWLEDGE)
    elif value == 0xF5 or value == 0xF6:
        _keyboard_defaults(keyboard)
        keyboard.scanning = value == 0xF6
        _put(&keyboard.queue, ACKNOWLEDGE)
    elif 0xF7 <= value <= 0xFA:              # set 3 key types: nothing changes in sets 1 and 2
        _put(&keyboard.queue, ACKNOWLEDGE)
    elif value == 0xFF:
        _keyboard_defaults(keyboard)
        keyboard.leds = 0
        _put(&keyboard.queue, ACKNOWLEDGE)
        _put(&keyboard.queue, SELF_TEST_PASSED)
    else:
        _put(&keyboard.queue, RESEND)


# ---- mouse

cdef void _mouse_defaults(Mouse* mouse) noexcept nogil:
    mouse.command = 0
    mouse.reporting = 0
    mouse.remote = 0
    mouse.wrap = 0
    mouse.scaling = 0
    mouse.resolution = 2
    mouse.rate = 100
    mouse.x = 0
    mouse.y = 0
    mouse.z = 0


cdef inline i32 _limit(i32 value, i32 low, i32 high) noexcept nogil:
    return low if value < low else (high if value > high else value)


cdef void _mouse_packet(Mouse* mouse) noexcept nogil:
    """Queues one movement packet; what does not fit in its nine bits stays for the next."""
    cdef i32 x = _limit(mouse.x, -255, 255)
    cdef i32 y = _limit(mouse.y, -255, 255)
    cdef i32 z = _limit(mouse.z, -8, 7)
    _put(&mouse.queue, <u8>(0x08 | (mouse.buttons & 7) | (0x10 if x < 0 else 0) | (0x20 if y < 0 else 0)))
    _put(&mouse.queue, <u8>x)
    _put(&mouse.queue, <u8>y)
    if mouse.identity == 3:
        _put(&mouse.queue, <u8>z)
    mouse.x -= x
    mouse.y -= y
    mouse.z = mouse.z - z if mouse.identity == 3 else 0
    mouse.buttons_sent = mouse.buttons


cdef void _mouse_report(Mouse* mouse) noexcept nogil:
    """In stream mode: a packet, once the one before has gone and something has changed."""
    if (mouse.reporting and not mouse.remote and not mouse.wrap and mouse.queue.count == 0
            and (mouse.x or mouse.y or mouse.z or mouse.buttons != mouse.buttons_sent)):
        _mouse_packet(mouse)


cdef void _mouse_set_rate(Mouse* mouse, u8 rate) noexcept nogil:
    if mouse.knock[0] == 200 and mouse.knock[1] == 100 and rate == 80:
        mouse.identity = 3
    mouse.knock[0] = mouse.knock[1]
    mouse.knock[1] = rate
    mouse.rate = rate


cdef void _mouse_command(Ps2State* ps2, u8 value) noexcept nogil:
    cdef Mouse* mouse = &ps2.mouse
    cdef u8 command = mouse.command
    mouse.command = 0
    if mouse.wrap and value != 0xEC and value != 0xFF:
        _put(&mouse.queue, value)
        return
    if command:
        _put(&mouse.queue, ACKNOWLEDGE)
        if command == 0xE8:
            mouse.resolution = value & 3
        else:
            _mouse_set_rate(mouse, value)
        return
    if value == 0xFE:
        _put(&mouse.queue, mouse.last)
        return
    _clear(ps2, &mouse.queue, FROM_MOUSE)
    if value < 0xE6 or value == 0xED or value == 0xEF or value == 0xF1 or 0xF7 <= value <= 0xFD:
        _put(&mouse.queue, RESEND)
        return
    _put(&mouse.queue, ACKNOWLEDGE)
    if value == 0xE6 or value == 0xE7:
        mouse.scaling = value & 1
    elif value == 0xE8 or value == 0xF3:
        mouse.command = value
    elif value == 0xE9:
        _put(&mouse.queue, (0x40 if mouse.remote else 0) | (0x20 if mouse.reporting else 0) | (0x10 if mouse.scaling else 0)
             | (4 if mouse.buttons & 1 else 0) | (2 if mouse.buttons & 4 else 0) | (1 if mouse.buttons & 2 else 0))
        _put(&mouse.queue, mouse.resolution)
        _put(&mouse.queue, mouse.rate)
    elif value == 0xEA:
        mouse.remote = 0
    elif value == 0xEB:
        _mouse_packet(mouse)
    elif value == 0xEC:
        mouse.wrap = 0
    elif value == 0xEE:
        mouse.wrap = 1
    elif value == 0xF0:
        mouse.remote = 1
    elif value == 0xF2:
        _put(&mouse.queue, mouse.identity)
    elif value == 0xF4:
        mouse.reporting = 1
    elif value == 0xF5:
        mouse.reporting = 0
    else:                                    # F6: defaults, FF: reset
        _mouse_defaults(mouse)
        if value == 0xFF:
            mouse.identity = 0
            mouse.knock[0] = 0
            mouse.knock[1] = 0
            _put(&mouse.queue, SELF_TEST_PASSED)
            _put(&mouse.queue, 0)


# ---- controller

cdef void _update_irq(Ps2State* ps2) noexcept nogil:
    cdef bint full = ps2.status & STATUS_OUTPUT_FULL
    cdef bint mouse = ps2.status & STATUS_MOUSE
    cdef u8 config = ps2.ram[0]
    drive(&ps2.keyboard_irq, full and not mouse and config & CONFIG_KEYBOARD_IRQ and not config & CONFIG_KEYBOARD_OFF)
    drive(&ps2.mouse_irq, full and mouse and config & CONFIG_MOUSE_IRQ and not config & CONFIG_MOUSE_OFF)


cdef bint _swallow_release(Ps2State* ps2) noexcept nogil:
    """With translation, takes F0 prefixes off the keyboard's queue; True where a byte to send is left."""
    while (ps2.ram[0] & CONFIG_TRANSLATE and ps2.keyboard.queue.count
            and ps2.keyboard.queue.data[ps2.keyboard.queue.start] == RELEASE):
        _pop(&ps2.keyboard.queue)
        ps2.release = 0x80
    return ps2.keyboard.queue.count > 0


cdef int _next_source(Ps2State* ps2) noexcept nogil:
    if not ps2.ram[0] & CONFIG_KEYBOARD_OFF and _swallow_release(ps2):
        return FROM_KEYBOARD
    if not ps2.ram[0] & CONFIG_MOUSE_OFF and ps2.mouse.queue.count:
        return FROM_MOUSE
    return FROM_CONTROLLER                   # nobody


cdef void _schedule(Ps2State* ps2) noexcept nogil:
    """Lets the next byte of a device travel, where one waits and the output buffer is empty."""
    if (not ps2.status & STATUS_OUTPUT_FULL and ps2.timer.deadline_ns == NEVER
            and _next_source(ps2) != FROM_CONTROLLER):
        timer_arm(ps2.clock, &ps2.timer, ps2.clock.now_ns + BYTE_NS)


cdef void _fill(Ps2State* ps2, u8 byte, int source, bint as_mouse=False) noexcept nogil:
    """Puts a byte into the output buffer; the controller can make its own look like the mouse's (`as_mouse`)."""
    ps2.output = byte
    ps2.source = source
    ps2.status = (ps2.status | STATUS_OUTPUT_FULL) & (0xFF ^ STATUS_MOUSE)
    if source == FROM_MOUSE or as_mouse:
        ps2.status |= STATUS_MOUSE
    _update_irq(ps2)


cdef void _byte_arrived(void* owner, u64 now_ns) noexcept nogil:
    cdef Ps2State* ps2 = <Ps2State*>owner
    cdef int source
    cdef u8 byte
    if ps2.status & STATUS_OUTPUT_FULL:
        return                               # the controller answered meanwhile; reading that answer schedules again
    source = _next_source(ps2)
    if source == FROM_KEYBOARD:
        byte = ps2.keyboard.queue.data[ps2.keyboard.queue.start]
        if ps2.ram[0] & CONFIG_TRANSLATE:
            if byte < 0x80:
                byte = TRANSLATION[byte] | ps2.release
            elif byte == 0x83:
                byte = 0x41 | ps2.release
            elif byte == 0x84:
                byte = 0x54 | ps2.release
        _fill(ps2, byte, source)
    elif source == FROM_MOUSE:
        _fill(ps2, ps2.mouse.queue.data[ps2.mouse.queue.start], source)


cdef void _set_output_port(Ps2State* ps2, u8 value) noexcept nogil:
    drive(&ps2.a20, (value >> 1) & 1)
    if not value & 1:
        pulse(&ps2.reset)


cdef void _set_config(Ps2State* ps2, u8 value) noexcept nogil:
    ps2.ram[0] = value
    ps2.status = (ps2.status & (0xFF ^ STATUS_SYSTEM)) | (value & CONFIG_SYSTEM)
    _update_irq(ps2)


cdef u64 _data_read(void* owner, u64 offset, int size) noexcept nogil:
    cdef Ps2State* ps2 = <Ps2State*>owner
    if ps2.status & STATUS_OUTPUT_FULL:
        if ps2.source == FROM_KEYBOARD:
            ps2.keyboard.last = _pop(&ps2.keyboard.queue)
            if ps2.keyboard.last != EXTENDED:
                ps2.release = 0
        elif ps2.source == FROM_MOUSE:
            ps2.mouse.last = _pop(&ps2.mouse.queue)
            _mouse_report(&ps2.mouse)
        ps2.source = FROM_CONTROLLER
        ps2.status &= 0xFF ^ (STATUS_OUTPUT_FULL | STATUS_MOUSE)
        _update_irq(ps2)
        _schedule(ps2)
    return ps2.output                        # an empty buffer still holds the last byte


cdef void _data_write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef Ps2State* ps2 = <Ps2State*>owner
    cdef u8 byte = <u8>value
    cdef u8 command = ps2.command
    ps2.command = 0
    ps2.status &= 0xFF ^ STATUS_COMMAND
    if command == 0x60:
        _set_config(ps2, byte)
    elif 0x61 <= command <= 0x7F:
        ps2.ram[command & 0x1F] = byte
    elif command == 0xD1:
        _set_output_port(ps2, byte)
    elif command == 0xD2:
        _fill(ps2, byte, FROM_CONTROLLER)
    elif command == 0xD3:
        _fill(ps2, byte, FROM_CONTROLLER, True)
    elif command == 0xD4:
        ps2.ram[0] &= 0xFF ^ CONFIG_MOUSE_OFF            # the controller drives the line, which opens it
        _mouse_command(ps2, byte)
    else:
        ps2.ram[0] &= 0xFF ^ CONFIG_KEYBOARD_OFF
        _keyboard_command(ps2, byte)
    _schedule(ps2)


cdef u64 _status_read(void* owner, u64 offset, int size) noexcept nogil:
    return (<Ps2State*>owner).status


cdef void _command_write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef Ps2State* ps2 = <Ps2State*>owner
    cdef u8 command = <u8>value
    ps2.command = 0
    ps2.status |= STATUS_COMMAND
    if 0x20 <= command <= 0x3F:
        _fill(ps2, ps2.ram[command & 0x1F], FROM_CONTROLLER)
    elif 0x60 <= command <= 0x7F or 0xD1 <= command <= 0xD4:
        ps2.command = command                # its parameter comes through port 0x60
    elif command == 0xA7:
        _set_config(ps2, ps2.ram[0] | CONFIG_MOUSE_OFF)
    elif command == 0xA8:
        _set_config(ps2, ps2.ram[0] & (0xFF ^ CONFIG_MOUSE_OFF))
    elif command == 0xA9 or command == 0xAB or command == 0xE0:      # interface tests pass; test inputs are low
        _fill(ps2, 0x00, FROM_CONTROLLER)
    elif command == 0xAA:
        _set_config(ps2, ps2.ram[0] | CONFIG_SYSTEM)
        _fill(ps2, 0x55, FROM_CONTROLLER)
    elif command == 0xAD:
        _set_config(ps2, ps2.ram[0] | CONFIG_KEYBOARD_OFF)
    elif command == 0xAE:
        _set_config(ps2, ps2.ram[0] & (0xFF ^ CONFIG_KEYBOARD_OFF))
    elif command == 0xC0:
        _fill(ps2, 0x80, FROM_CONTROLLER)    # input port: keyboard not inhibited
    elif command == 0xD0:
        _fill(ps2, 0xCD | <u8>(ps2.a20.level << 1) | ((ps2.status & STATUS_OUTPUT_FULL) << 4), FROM_CONTROLLER)
    elif command == 0xDD or command == 0xDF:
        drive(&ps2.a20, (command >> 1) & 1)
    elif command >= 0xF0 and not command & 1:
        pulse(&ps2.reset)                    # bit 0 of the output port pulsed low
    _schedule(ps2)


cdef u64 _system_read(void* owner, u64 offset, int size) noexcept nogil:
    cdef Ps2State* ps2 = <Ps2State*>owner
    return ps2.system_control | (ps2.a20.level << 1)


cdef void _system_write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef Ps2State* ps2 = <Ps2State*>owner
    cdef bint was_set = ps2.system_control & 1
    ps2.system_control = <u8>value & 0xFD
    drive(&ps2.a20, (value >> 1) & 1)
    if value & 1 and not was_set:
        pulse(&ps2.reset)


@cython.final
cdef class KeyboardController:
    """The 8042 with keyboard and mouse.

    The board maps `region_data` (port 0x60), `region_command` (0x64) and `region_system` (0x92), each of one port, and
    connects `keyboard_irq` (IRQ 1), `mouse_irq` (IRQ 12), `a20` (level; up after reset) and `reset_request` (a pulse).
    """
    cdef Ps2State state
    cdef object _clock
    cdef readonly object fields
    cdef readonly Region region_data
    cdef readonly Region region_command
    cdef readonly Region region_system
    cdef readonly LineOutput keyboard_irq
    cdef readonly LineOutput mouse_irq
    cdef readonly LineOutput a20             # 1 lets address bit 20 through
    cdef readonly LineOutput reset_request

    def __init__(self, Clock clock not None):
        cdef Ps2State* ps2 = &self.state
        self._clock = clock
        ps2.clock = &clock.state
        ps2.a20.level = 1
        clock.attach(&ps2.timer, _byte_arrived, ps2, self)
        self.region_data = region("keyboard controller data", 1, _data_read, _data_write, ps2, self)
        self.region_command = region("keyboard controller command", 1, _status_read, _command_write, ps2, self)
        self.region_system = region("system control port", 1, _system_read, _system_write, ps2, self)
        self.keyboard_irq = line_output(&ps2.keyboard_irq, self)
        self.mouse_irq = line_output(&ps2.mouse_irq, self)
        self.a20 = line_output(&ps2.a20, self)
        self.reset_request = line_output(&ps2.reset, self)
        self._declare()
        self.reset()

    def _declare(self):
        cdef Ps2State* ps2 = &self.state
        fields = declare_state("ps2", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        for name, address in (
                ("status", <u64>&ps2.status), ("output", <u64>&ps2.output), ("source", <u64>&ps2.source),
                ("command", <u64>&ps2.command), ("release", <u64>&ps2.release),
                ("system_control", <u64>&ps2.system_control), ("keyboard_command", <u64>&ps2.keyboard.command),
                ("keyboard_start", <u64>&ps2.keyboard.queue.start), ("keyboard_count", <u64>&ps2.keyboard.queue.count),
                ("keyboard_scanning", <u64>&ps2.keyboard.scanning), ("keyboard_set", <u64>&ps2.keyboard.scancode_set),
                ("keyboard_leds", <u64>&ps2.keyboard.leds), ("keyboard_last", <u64>&ps2.keyboard.last),
                ("mouse_start", <u64>&ps2.mouse.queue.start), ("mouse_count", <u64>&ps2.mouse.queue.count),
                ("mouse_command", <u64>&ps2.mouse.command), ("mouse_reporting", <u64>&ps2.mouse.reporting),
                ("mouse_remote", <u64>&ps2.mouse.remote), ("mouse_wrap", <u64>&ps2.mouse.wrap),
                ("mouse_scaling", <u64>&ps2.mouse.scaling), ("mouse_resolution", <u64>&ps2.mouse.resolution),
                ("mouse_rate", <u64>&ps2.mouse.rate), ("mouse_identity", <u64>&ps2.mouse.identity),
                ("mouse_buttons", <u64>&ps2.mouse.buttons), ("mouse_buttons_sent", <u64>&ps2.mouse.buttons_sent),
                ("mouse_last", <u64>&ps2.mouse.last)):
            fields.add(name, "u8", <void*><u64>address)
        fields.add("ram", "bytes", &ps2.ram[0], 32)
        fields.add("keyboard_queue", "bytes", &ps2.keyboard.queue.data[0], QUEUE_BYTES)
        fields.add("mouse_queue", "bytes", &ps2.mouse.queue.data[0], QUEUE_BYTES)
        fields.add("mouse_knock", "bytes", &ps2.mouse.knock[0], 2)
        fields.add("mouse_x", "i32", &ps2.mouse.x)
        fields.add("mouse_y", "i32", &ps2.mouse.y)
        fields.add("mouse_z", "i32", &ps2.mouse.z)
        fields.add("keyboard_irq_level", "i32", &ps2.keyboard_irq.level)
        fields.add("mouse_irq_level", "i32", &ps2.mouse_irq.level)
        fields.add("a20_level", "i32", &ps2.a20.level)
        fields.add("deadline_ns", "u64", &ps2.timer.deadline_ns)
        self.fields = fields

    def _validate(self):
        cdef Ps2State* ps2 = &self.state
        for name, start, count in (("keyboard", ps2.keyboard.queue.start, ps2.keyboard.queue.count),
                                   ("mouse", ps2.mouse.queue.start, ps2.mouse.queue.count)):
            if start >= QUEUE_BYTES or count > QUEUE_BYTES:
                raise SnapshotError(f"ps2.{name}_queue", f"{start}, {count}", "a place in the queue")
        if (ps2.source > FROM_MOUSE or (ps2.source == FROM_KEYBOARD and not ps2.keyboard.queue.count)
                or (ps2.source == FROM_MOUSE and not ps2.mouse.queue.count)):
            raise SnapshotError("ps2.source", str(ps2.source), "a device whose queue holds the byte")
        if ps2.keyboard.scancode_set not in (1, 2) or ps2.a20.level not in (0, 1):
            raise SnapshotError("ps2.keyboard_set", f"{ps2.keyboard.scancode_set}, {ps2.a20.level}", "set 1 or 2, level 0 or 1")
        timer_arm(ps2.clock, &ps2.timer, ps2.timer.deadline_ns)

    def reset(self):
        """System reset: controller, keyboard and mouse as a BIOS leaves them; A20 on."""
        cdef Ps2State* ps2 = &self.state
        timer_cancel(ps2.clock, &ps2.timer)
        memset(&ps2.keyboard, 0, sizeof(Keyboard))
        memset(&ps2.mouse, 0, sizeof(Mouse))
        memset(&ps2.ram[0], 0, sizeof(ps2.ram))
        _keyboard_defaults(&ps2.keyboard)
        _mouse_defaults(&ps2.mouse)
        ps2.status = STATUS_UNLOCKED | STATUS_COMMAND
        ps2.output = 0
        ps2.source = FROM_CONTROLLER
        ps2.command = 0
        ps2.release = 0
        ps2.system_control = 0
        _set_config(ps2, CONFIG_KEYBOARD_IRQ | CONFIG_SYSTEM | CONFIG_MOUSE_OFF | CONFIG_TRANSLATE)
        drive(&ps2.a20, 1)

    def press(self, str key not None, bint down=True):
        """Presses (or releases) the key of that name in `KEYS`, "print_screen" or "pause".

        Returns whether the keyboard took it: not while its queue is full or the guest has scanning switched off.
        Raises UsageError for a key that is not there.
        """
        cdef Ps2State* ps2 = &self.state
        cdef Queue* queue = &ps2.keyboard.queue
        number = ps2.keyboard.scancode_set
        if key == "print_screen" or key == "pause":
            codes = (_PRINT_SCREEN if key == "print_screen" else _PAUSE)[number][not down]
        elif key in KEYS:
            code = KEYS[key] & 0x7F
            codes = b"\xE0" if KEYS[key] & 0x100 else b""
            if number == 1:
                codes += bytes((code if down else code | 0x80,))
            else:
                codes += (b"" if down else b"\xF0") + bytes((_SET_2[code],))
        else:
            raise UsageError("key", repr(key), "the name of a key", "see emu.devices.ps2.KEYS")
        if not ps2.keyboard.scanning or queue.count + len(codes) > QUEUE_BYTES - 8:      # answers to commands have room left
            return False
        for byte in codes:
            _put(queue, byte)
        _schedule(ps2)
        return True

    def move(self, int x=0, int y=0, int wheel=0, int buttons=-1):
        """Moves the mouse by x (right) and y (up) counts and `wheel` steps; buttons: bit 0 left, 1 right, 2 middle."""
        cdef Mouse* mouse = &self.state.mouse
        if mouse.reporting or mouse.remote:
            mouse.x = _limit(mouse.x + _limit(x, -4096, 4096), -4096, 4096)
            mouse.y = _limit(mouse.y + _limit(y, -4096, 4096), -4096, 4096)
            mouse.z = _limit(mouse.z + _limit(wheel, -64, 64), -64, 64)
        if buttons >= 0:
            mouse.buttons = buttons & 7
        _mouse_report(mouse)
        _schedule(&self.state)

    @property
    def leds(self):
        """What the guest shows on the keyboard: bit 0 scroll lock, 1 num lock, 2 caps lock."""
        return self.state.keyboard.leds

    def read(self, u64 offset, int size=1):
        """What a read of port `offset` (0x60, 0x64 or 0x92) gives."""
        if offset == 0x60:
            return _data_read(&self.state, 0, size)
        return _status_read(&self.state, 0, size) if offset == 0x64 else _system_read(&self.state, 0, size)

    def write(self, u64 offset, int size, u64 value):
        """A write of `value` to port `offset` (0x60, 0x64 or 0x92)."""
        if offset == 0x60:
            _data_write(&self.state, 0, size, value)
        elif offset == 0x64:
            _command_write(&self.state, 0, size, value)
        else:
            _system_write(&self.state, 0, size, value)


_SET_2 = {TRANSLATION[code]: code for code in range(1, 128)} | {0x41: 0x83}      # F7 is one of the two codes beyond
