# The virtio 1.x PCI transport: what every virtio device has in common.
from emu.base.clock cimport Clock, ClockState, Timer
from emu.base.types cimport u8, u16, u32, u64
from emu.devices.pci.bus cimport PciBus, PciDevice, PciFunction
from emu.devices.pci.msix cimport Msix
from emu.devices.virtio.queue cimport Chain, VirtQueue
from emu.memory.space cimport PhysicalMemory, Region, Space

cdef enum:
    VIRTIO_QUEUES = 8                    # at most, per device
    VIRTIO_CONFIG_BYTES = 64
    STATUS_DRIVER_OK = 0x04
    STATUS_FEATURES_OK = 0x08
    STATUS_NEEDS_RESET = 0x40
    PROCESS_LATER = 2

# Works on queue `index`: 0 all done, 1 there is more to do (the budget is used up), -1 the ring is bad, PROCESS_LATER there
# is more to do, but not before `later_ns` have passed (a limit holds it back).
ctypedef int (*process_fn)(void* owner, int index) noexcept nogil
ctypedef void (*device_reset_fn)(void* owner) noexcept nogil
# A driver's write to the device's own configuration; what it changes there is the device's business.
ctypedef void (*device_config_fn)(void* owner, int offset, int size, u64 value) noexcept nogil


cdef struct VirtioState:
    PciFunction* function
    Msix msix
    Space* space
    ClockState* clock
    Timer timer                          # work that waits
    u64 latency_ns                       # from a driver's notification to the work
    u64 later_ns                         # what goes with PROCESS_LATER
    u64 offered                          # feature bits
    u64 accepted
    u32 offered_select
    u32 accepted_select
    u16 config_vector
    u16 select
    u8 status
    u8 isr
    u8 generation
    u16 waiting                          # bit n: queue n has work
    int queues
    VirtQueue queue[VIRTIO_QUEUES]
    Chain chain                          # the one being worked on; empty between two calls
    u8 config[VIRTIO_CONFIG_BYTES]       # the device's own configuration
    int config_bytes
    int access_capability                # offset of the configuration access capability
    process_fn process
    device_reset_fn device_reset         # NULL: nothing to do
    device_config_fn config_written      # NULL: read-only
    void* owner


cdef class VirtioDevice(PciDevice):
    """Base of virtio devices: `setup` once in the constructor, between the device's own preparations and its use."""
    cdef VirtioState virtio
    cdef Clock _clock
    cdef PhysicalMemory _memory
    cdef readonly Region region
    cdef int setup(self, str name, PciBus bus, int slot, PhysicalMemory memory, Clock clock, u16 kind, u32 class_code, u64 features,
                   int queues, int config_bytes, u64 latency_ns, process_fn process, void* owner) except -1


cdef void virtio_wake(VirtioState* virtio, int index) noexcept nogil          # queue `index` has work: process it after the latency
cdef void virtio_signal(VirtioState* virtio, int index) noexcept nogil        # tells the driver of used chains, if it wants to know
cdef void virtio_config_changed(VirtioState* virtio) noexcept nogil
