# A network port: the end of a cable that a network card has; frames wait here for the card and for the host.
import cython

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from emu.base.clock cimport Clock, timer_arm
from emu.base.errors import SnapshotError, UsageError
from emu.base.line cimport drive, line_output
from emu.base.state cimport declare_state
from emu.base.types cimport u8, u32, u64
from emu.devices.throttle cimport throttle_declare, throttle_set, throttle_usage
from emu.devices.throttle import Limits

cdef enum:
    HEADER_BYTES = 12

DEFAULT_MAC = "52:54:00:12:34:56"


def read_mac(subject, text):
    """The six bytes of an address such as 52:54:00:12:34:56; raises UsageError where it cannot be a card's own."""
    parts = text.split(":")
    if len(parts) != 6 or not all(1 <= len(part) <= 2 and set(part) <= set("0123456789abcdefABCDEF") for part in parts):
        raise UsageError(subject, f"mac={text}", "six bytes in hexadecimal", f"such as {DEFAULT_MAC}")
    mac = bytes(int(part, 16) for part in parts)
    if mac[0] & 1 or not any(mac):
        raise UsageError(subject, f"mac={text}", "a group's address, or none at all", f"such as {DEFAULT_MAC}")
    return mac


# ---- rings of records

cdef void _put(u8* ring, u32 size, u32 position, const void* data, u32 length) noexcept nogil:
    cdef u32 start = position & (size - 1)
    cdef u32 first = size - start if length > size - start else length
    memcpy(ring + start, data, first)
    memcpy(ring, <const u8*>data + first, length - first)


cdef void _get(const u8* ring, u32 size, u32 position, void* data, u32 length) noexcept nogil:
    cdef u32 start = position & (size - 1)
    cdef u32 first = size - start if length > size - start else length
    memcpy(data, ring + start, first)
    memcpy(<u8*>data + first, ring, length - first)


cdef bint _append(u8* ring, u32 size, u32* head, u32 tail, u64 when_ns, const u8* frame, u32 length) noexcept nogil:
    if size - (head[0] - tail) < HEADER_BYTES + length:
        return False
    _put(ring, size, head[0], &when_ns, 8)
    _put(ring, size, head[0] + 8, &length, 4)
    _put(ring, size, head[0] + HEADER_BYTES, frame, length)
    head[0] += HEADER_BYTES + length
    return True


# ---- the card's side

cdef void net_send(NetState* net, const u8* frame, u32 length) noexcept nogil:
    """Sends a frame; its length is from NET_FRAME_SMALLEST to NET_FRAME_BYTES."""
    if not net.link or not _append(net.output, NET_OUTPUT_BYTES, &net.output_head, net.output_tail, net.clock.now_ns, frame, length):
        net.sent_lost += 1
    drive(&net.sent, 1)


cdef u32 net_waiting(NetState* net) noexcept nogil:
    cdef u64 due_ns
    cdef u32 length
    if net.input_head == net.input_tail:
        return 0
    _get(&net.input[0], NET_INPUT_BYTES, net.input_tail, &due_ns, 8)
    if due_ns > net.clock.now_ns:
        if net.due.deadline_ns != due_ns:
            timer_arm(net.clock, &net.due, due_ns)
        return 0
    _get(&net.input[0], NET_INPUT_BYTES, net.input_tail + 8, &length, 4)
    return length


cdef void net_receive(NetState* net, u8* frame) noexcept nogil:
    cdef u32 length
    _get(&net.input[0], NET_INPUT_BYTES, net.input_tail + 8, &length, 4)
    _get(&net.input[0], NET_INPUT_BYTES, net.input_tail + HEADER_BYTES, frame, length)
    net.input_tail += HEADER_BYTES + length


cdef void _due(void* owner, u64 now_ns) noexcept nogil:
    cdef NetState* net = <NetState*>owner
    if net.ready != NULL:
        net.ready(net.ready_owner)


@cython.final
cdef class NetPort:
    """The end of a cable. The card with address `mac` has one end, `take` and `inject` are the other.

    limits: how many bytes and frames a second pass, for each direction by itself. What was injected and not yet received
    by the card is part of the machine's state; what was sent and not yet taken is not.
    """

    def __cinit__(self, Clock clock not None, str mac=DEFAULT_MAC, limits=None, str name="net"):
        cdef NetState* net = &self.state
        self.name = name
        self.mac = read_mac(name, mac)
        limits = limits or Limits()
        limits.check(name)
        net.output = <u8*>malloc(NET_OUTPUT_BYTES)
        if net.output == NULL:
            raise MemoryError()
        self._clock = clock
        net.clock = &clock.state
        net.link = 1
        throttle_set(&net.transmit, limits, clock.state.now_ns)
        throttle_set(&net.receive, limits, clock.state.now_ns)
        self.sent = line_output(&net.sent, self)
        clock.attach(&net.due, _due, net, self)
        fields = declare_state(name, self, self._validate)
        fields.add("input", "bytes", &net.input[0], NET_INPUT_BYTES)
        fields.add("input_head", "u32", &net.input_head)
        fields.add("input_tail", "u32", &net.input_tail)
        fields.add("due_ns", "u64", &net.due.deadline_ns)
        fields.add("link", "u8", &net.link)
        fields.add("sent_lost", "u64", &net.sent_lost)
        fields.add("received_lost", "u64", &net.received_lost)
        throttle_declare(&net.transmit, fields, "transmit_")
        throttle_declare(&net.receive, fields, "receive_")
        self.fields = fields

    def __dealloc__(self):
        free(self.state.output)

    def _validate(self):
        cdef NetState* net = &self.state
        cdef u32 position = net.input_tail
        cdef u32 length
        if net.input_head - net.input_tail > <u32>NET_INPUT_BYTES:
            raise SnapshotError(f"{self.name}.input_head", str(net.input_head), "at most one ring ahead of input_tail")
        while position != net.input_head:
            length = 0
            if net.input_head - position > <u32>HEADER_BYTES:
                _get(&net.input[0], NET_INPUT_BYTES, position + 8, &length, 4)
            if (not NET_FRAME_SMALLEST <= length <= NET_FRAME_BYTES
                    or net.input_head - position < <u32>HEADER_BYTES + length):
                raise SnapshotError(f"{self.name}.input", f"a frame of {length} bytes", f"whole frames of up to {NET_FRAME_BYTES} bytes")
            position += HEADER_BYTES + length
        if net.link > 1:
            raise SnapshotError(f"{self.name}.link", str(net.link), "0 or 1")
        timer_arm(net.clock, &net.due, net.due.deadline_ns)

    cdef int attach(self, net_ready_fn ready, void* owner, object card) except -1:
        """Makes `card` the one at this end; a cable has one."""
        if self.state.ready != NULL:
            raise ValueError(f"{self.name} has a card already")
        self.state.ready = ready
        self.state.ready_owner = owner
        self._card = card
        return 0

    def take(self):
        """The frames that the card has sent since the last call, as a list of (virtual time in ns, frame)."""
        cdef NetState* net = &self.state
        cdef u64 when_ns
        cdef u32 length
        cdef u8[NET_FRAME_BYTES] data
        frames = []
        while net.output_tail != net.output_head:
            _get(net.output, NET_OUTPUT_BYTES, net.output_tail, &when_ns, 8)
            _get(net.output, NET_OUTPUT_BYTES, net.output_tail + 8, &length, 4)
            _get(net.output, NET_OUTPUT_BYTES, net.output_tail + HEADER_BYTES, &data[0], length)
            net.output_tail += HEADER_BYTES + length
            frame = (<u8*>data)[:length]
            frames.append((when_ns, frame))
            if self.capture is not None:
                self.capture(when_ns, frame)
        drive(&net.sent, 0)
        return frames

    def inject(self, bytes frame not None, due_ns=None):
        """A frame from the network, for the card to receive at virtual time `due_ns` (now, if that is past or None).

        This is the one way in: `recorder` is told of each frame that was accepted, with the time at which it is due.
        Returns False where there is no room for it; frames that are no Ethernet frames are dropped. Frames are received in
        the order in which they were injected.
        """
        cdef NetState* net = &self.state
        cdef u32 length = <u32>len(frame)
        cdef u64 when_ns = net.clock.now_ns
        if due_ns is not None and due_ns > net.clock.now_ns:
            when_ns = due_ns
        if not NET_FRAME_SMALLEST <= len(frame) <= NET_FRAME_BYTES or not net.link:
            net.received_lost += 1
            return True
        if not _append(&net.input[0], NET_INPUT_BYTES, &net.input_head, net.input_tail, when_ns, <const u8*>frame, length):
            return False
        if self.recorder is not None:
            self.recorder(frame, when_ns)
        if self.capture is not None:
            self.capture(when_ns, frame)
        if net.ready != NULL:
            net.ready(net.ready_owner)
        return True

    def lose(self):
        """Counts a frame that found no room, and is not to be tried again."""
        self.state.received_lost += 1

    @property
    def now_ns(self):
        """Virtual time of the machine that the card is in."""
        return self.state.clock.now_ns

    @property
    def link(self):
        """Whether the cable is plugged in; the card's driver is told of a change."""
        return bool(self.state.link)

    @link.setter
    def link(self, bint up):
        if up != self.state.link:
            self.state.link = up
            if self.state.ready != NULL:
                self.state.ready(self.state.ready_owner)

    @property
    def usage(self):
        """Bytes and frames in each direction since power-on, lost frames, and how long the limits made frames wait."""
        return {"transmitted": {**throttle_usage(&self.state.transmit), "lost": self.state.sent_lost},
                "received": {**throttle_usage(&self.state.receive), "lost": self.state.received_lost}}
