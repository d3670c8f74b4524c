# A network port: the end of a cable that a network card has; frames wait here for the card and for the host.
#
# The card's side is net_send, net_waiting and net_receive, without the GIL. The host's side is NetPort.take and
# NetPort.inject, between two slices of a run. A frame is an Ethernet frame without its CRC.
from emu.base.clock cimport Clock, ClockState, Timer
from emu.base.line cimport Line, LineOutput
from emu.base.types cimport u8, u32, u64
from emu.devices.throttle cimport ThrottleState

cdef enum:
    NET_FRAME_SMALLEST = 14              # addresses and type
    NET_FRAME_BYTES = 9234               # a jumbo frame of 9216 bytes of data, with a VLAN tag
    NET_INPUT_BYTES = 1 << 17            # powers of two
    NET_OUTPUT_BYTES = 1 << 19

ctypedef void (*net_ready_fn)(void* owner) noexcept nogil


cdef struct NetState:
    ClockState* clock
    u8 input[NET_INPUT_BYTES]            # records: when it is due (8 bytes), length (4 bytes), the frame
    u32 input_head                       # bytes ever put and ever taken, modulo 2**32
    u32 input_tail
    u8* output                           # records: when it was sent, length, the frame
    u32 output_head
    u32 output_tail
    Line sent                            # up while frames wait for the host
    Timer due                            # of the first frame that waits for its time
    net_ready_fn ready                   # tells the card that a frame has come, or that the link has changed
    void* ready_owner
    u8 link                              # whether the cable is plugged in
    ThrottleState transmit
    ThrottleState receive
    u64 sent_lost                        # frames that the host did not take in time
    u64 received_lost                    # frames that found no room


cdef void net_send(NetState* net, const u8* frame, u32 length) noexcept nogil       # lost where there is no room or no link
cdef u32 net_waiting(NetState* net) noexcept nogil           # length of the next frame whose time has come; 0: none
cdef void net_receive(NetState* net, u8* frame) noexcept nogil       # takes it: `frame` has room for net_waiting() bytes


cdef class NetPort:
    cdef NetState state
    cdef readonly object fields
    cdef readonly str name
    cdef readonly bytes mac
    cdef readonly LineOutput sent
    cdef public object recorder          # called with (frame, due_ns) for each that enters; None: nobody keeps them
    cdef public object capture           # called with (time in ns, frame) for each that passes; None: nobody looks
    cdef Clock _clock
    cdef object _card
    cdef int attach(self, net_ready_fn ready, void* owner, object card) except -1
