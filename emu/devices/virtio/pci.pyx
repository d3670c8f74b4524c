# The virtio 1.x PCI transport: common, notify, ISR and device configuration in one BAR, MSI-X in another.
#
# Source: VIRTIO 1.2, 2.1-2.4 and 4.1 (sections in comments). A notification only arms a timer: the work happens a short
# virtual time later, between two instructions, a bounded piece at a time.
from libc.string cimport memcpy

from emu.base.clock cimport Clock, NEVER, timer_arm, timer_cancel
from emu.base.errors import SnapshotError
from emu.base.state cimport StateFields
from emu.base.types cimport u8, u16, u32, u64
from emu.devices.pci.bus cimport (COMMAND_MASTER, PCI_COMMAND, PCI_INTERRUPT_PIN, PCI_SUBSYSTEM, PCI_SUBSYSTEM_VENDOR, PciBus,
                                  PciFunction, add_bar, add_capability, get_config, set_config, set_intx)
from emu.devices.pci.msix cimport (NO_VECTOR, add_msix, declare_msix, msix_control_written, msix_enabled, msix_raise,
                                   msix_reset)
from emu.devices.virtio.queue cimport QUEUE_MAXIMUM, VirtQueue, queue_reset, queue_should_signal
from emu.memory.space cimport PhysicalMemory, region

cdef enum:
    VENDOR_VIRTIO = 0x1AF4
    DEVICE_MODERN = 0x1040               # plus the device type
    SUBSYSTEM_MODERN = 0x1100
    CAPABILITY_VENDOR = 0x09
    MSIX_BAR = 1
    VIRTIO_BAR = 4
    BAR_BYTES = 0x4000
    # Structures in the BAR, 4 KiB each (4.1.4), by their capability type
    AREA_COMMON = 0x0000
    AREA_ISR = 0x1000
    AREA_DEVICE = 0x2000
    AREA_NOTIFY = 0x3000
    TYPE_COMMON = 1
    TYPE_NOTIFY = 2
    TYPE_ISR = 3
    TYPE_DEVICE = 4
    TYPE_ACCESS = 5
    COMMON_BYTES = 56
    NOTIFY_MULTIPLIER = 4
    ISR_QUEUE = 1
    ISR_CONFIG = 2
    FEATURE_INDIRECT = 28
    FEATURE_EVENT_INDEX = 29
    FEATURE_VERSION_1 = 32
    MORE_WORK_NS = 1000                  # between two pieces of work


cdef packed struct Common:               # 4.1.4.3
    u32 device_feature_select
    u32 device_feature
    u32 driver_feature_select
    u32 driver_feature
    u16 config_msix_vector
    u16 num_queues
    u8 device_status
    u8 config_generation
    u16 queue_select
    u16 queue_size
    u16 queue_msix_vector
    u16 queue_enable
    u16 queue_notify_off
    u64 queue_desc
    u64 queue_driver
    u64 queue_device


# ---- interrupts

cdef void _update_intx(VirtioState* virtio) noexcept nogil:
    set_intx(virtio.function, virtio.isr != 0 and not msix_enabled(&virtio.msix))


cdef void _interrupt(VirtioState* virtio, u8 cause, u16 vector) noexcept nogil:
    if msix_enabled(&virtio.msix):
        msix_raise(&virtio.msix, vector)     # NO_VECTOR is beyond the table: no message
    else:
        virtio.isr |= cause
        _update_intx(virtio)


cdef void virtio_config_changed(VirtioState* virtio) noexcept nogil:
    """The device's own configuration has changed, or it needs a reset."""
    virtio.generation += 1
    if virtio.status & STATUS_DRIVER_OK:
        _interrupt(virtio, ISR_CONFIG, virtio.config_vector)


cdef void _fail(VirtioState* virtio) noexcept nogil:
    """A bad ring: nothing more is done until the driver resets the device (2.1.2)."""
    if not virtio.status & STATUS_NEEDS_RESET:
        virtio.status |= STATUS_NEEDS_RESET
        virtio_config_changed(virtio)


cdef void virtio_signal(VirtioState* virtio, int index) noexcept nogil:
    """Tells the driver that chains of queue `index` were used, unless it does not want to know."""
    cdef VirtQueue* queue = &virtio.queue[index]
    cdef int wanted = queue_should_signal(queue, virtio.space)
    if wanted < 0:
        _fail(virtio)
    elif wanted:
        _interrupt(virtio, ISR_QUEUE, queue.vector)


# ---- work

cdef void virtio_wake(VirtioState* virtio, int index) noexcept nogil:
    """Queue `index` has work, to be done after the device's latency; nothing where the driver is not ready."""
    if (index < virtio.queues and virtio.queue[index].enabled and virtio.status & STATUS_DRIVER_OK
            and not virtio.status & STATUS_NEEDS_RESET):
        virtio.waiting |= <u16>1 << index
        if virtio.timer.deadline_ns > virtio.clock.now_ns + virtio.latency_ns:
            timer_arm(virtio.clock, &virtio.timer, virtio.clock.now_ns + virtio.latency_ns)


cdef void _work(void* owner, u64 now_ns) noexcept nogil:
    cdef VirtioState* virtio = <VirtioState*>owner
    cdef u16 waiting = virtio.waiting
    cdef u64 delay_ns = NEVER
    cdef int k, status
    if not virtio.function.config[PCI_COMMAND] & COMMAND_MASTER:
        return                           # it waits until the function may reach memory, see _after_config_write
    virtio.waiting = 0
    for k in range(virtio.queues):
        if waiting >> k & 1 and not virtio.status & STATUS_NEEDS_RESET:
            status = virtio.process(virtio.owner, k)
            if status < 0:
                _fail(virtio)
                return
            if status:
                virtio.waiting |= <u16>1 << k
                delay_ns = min(delay_ns, virtio.later_ns if status == PROCESS_LATER else <u64>MORE_WORK_NS)
            virtio_signal(virtio, k)
    if virtio.waiting and delay_ns < NEVER - virtio.clock.now_ns:
        timer_arm(virtio.clock, &virtio.timer, virtio.clock.now_ns + delay_ns)


cdef void _reset(VirtioState* virtio) noexcept nogil:
    """Device reset by the driver (2.4)."""
    cdef int k
    virtio.accepted = 0
    virtio.offered_select = 0
    virtio.accepted_select = 0
    virtio.config_vector = NO_VECTOR
    virtio.select = 0
    virtio.status = 0
    virtio.isr = 0
    virtio.waiting = 0
    for k in range(VIRTIO_QUEUES):
        queue_reset(&virtio.queue[k])
    timer_cancel(virtio.clock, &virtio.timer)
    virtio.msix.pending = 0
    _update_intx(virtio)
    if virtio.device_reset != NULL:
        virtio.device_reset(virtio.owner)


# ---- common configuration

cdef void _common(VirtioState* virtio, Common* common) noexcept nogil:
    """What the driver reads there now."""
    cdef VirtQueue* queue
    common.device_feature_select = virtio.offered_select
    common.device_feature = <u32>(virtio.offered >> (32 * virtio.offered_select)) if virtio.offered_select < 2 else 0
    common.driver_feature_select = virtio.accepted_select
    common.driver_feature = <u32>(virtio.accepted >> (32 * virtio.accepted_select)) if virtio.accepted_select < 2 else 0
    common.config_msix_vector = virtio.config_vector
    common.num_queues = <u16>virtio.queues
    common.device_status = virtio.status
    common.config_generation = virtio.generation
    common.queue_select = virtio.select
    if virtio.select < virtio.queues:
        queue = &virtio.queue[virtio.select]
        common.queue_size = queue.size
        common.queue_msix_vector = queue.vector
        common.queue_enable = queue.enabled
        common.queue_notify_off = virtio.select
        common.queue_desc = queue.descriptors
        common.queue_driver = queue.driver
        common.queue_device = queue.device
    else:
        common.queue_size = 0            # 4.1.4.3.1: the queue is not there
        common.queue_msix_vector = NO_VECTOR
        common.queue_enable = 0
        common.queue_notify_off = 0
        common.queue_desc = 0
        common.queue_driver = 0
        common.queue_device = 0


cdef inline u16 _valid_vector(VirtioState* virtio, u64 value) noexcept nogil:
    return <u16>value if value < virtio.msix.count else NO_VECTOR


cdef inline void _set_word(u64* field, bint high, u64 value, int size) noexcept nogil:
    if size == 8:
        field[0] = value
    elif high:
        field[0] = (field[0] & <u64>0xFFFFFFFF) | (value << 32)
    else:
        field[0] = (field[0] & <u64>0xFFFFFFFF00000000) | value


cdef void _write_status(VirtioState* virtio, u8 value) noexcept nogil:
    cdef u8 before = virtio.status
    cdef int k
    if value == 0:
        _reset(virtio)
        return
    if value & STATUS_FEATURES_OK and not before & STATUS_FEATURES_OK:
        if virtio.accepted & ~virtio.offered or not virtio.accepted >> FEATURE_VERSION_1 & 1:
            value &= 0xFF ^ STATUS_FEATURES_OK           # 2.2.2: the driver reads it back
    virtio.status = value | (before & STATUS_NEEDS_RESET)
    if value & STATUS_DRIVER_OK and not before & STATUS_DRIVER_OK:
        for k in range(virtio.queues):
            virtio.queue[k].indirect = virtio.accepted >> FEATURE_INDIRECT & 1
            virtio.queue[k].event_index = virtio.accepted >> FEATURE_EVENT_INDEX & 1


cdef void _write_common(VirtioState* virtio, u64 offset, int size, u64 value) noexcept nogil:
    """Writes have the width of their field; a 64-bit field may be written in halves (4.1.3.1). Others are ignored."""
    cdef VirtQueue* queue
    if offset == 0 and size == 4:
        virtio.offered_select = <u32>value
    elif offset == 8 and size == 4:
        virtio.accepted_select = <u32>value
    elif offset == 12 and size == 4:
        if virtio.accepted_select < 2 and not virtio.status & STATUS_FEATURES_OK:
            _set_word(&virtio.accepted, virtio.accepted_select == 1, value, 4)
    elif offset == 16 and size == 2:
        virtio.config_vector = _valid_vector(virtio, value)
    elif offset == 20 and size == 1:
        _write_status(virtio, <u8>value)
    elif offset == 22 and size == 2:
        virtio.select = <u16>value
    elif offset >= 24 and virtio.select < virtio.queues:
        queue = &virtio.queue[virtio.select]
        if offset == 26 and size == 2:
            queue.vector = _valid_vector(virtio, value)
        elif queue.enabled:
            return                       # 4.1.4.3.2: what follows is set before the queue is enabled
        elif offset == 24 and size == 2:
            if value and value <= queue.maximum and not value & (value - 1):
                queue.size = <u16>value
        elif offset == 28 and size == 2:
            queue.enabled = value == 1
        elif (offset == 32 or offset == 36) and (size == 4 or (size == 8 and offset == 32)):
            _set_word(&queue.descriptors, offset == 36, value, size)
        elif (offset == 40 or offset == 44) and (size == 4 or (size == 8 and offset == 40)):
            _set_word(&queue.driver, offset == 44, value, size)
        elif (offset == 48 or offset == 52) and (size == 4 or (size == 8 and offset == 48)):
            _set_word(&queue.device, offset == 52, value, size)


# ---- the BAR

cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    cdef VirtioState* virtio = <VirtioState*>owner
    cdef Common common
    cdef u64 value = 0
    cdef u64 area = offset & 0xF000
    offset &= 0xFFF
    if area == AREA_COMMON and offset + <u64>size <= COMMON_BYTES:
        _common(virtio, &common)
        memcpy(&value, <u8*>&common + offset, size)
    elif area == AREA_ISR and offset == 0:
        value = virtio.isr               # 4.1.4.5: reading takes the interrupt back
        virtio.isr = 0
        _update_intx(virtio)
    elif area == AREA_DEVICE and offset + <u64>size <= <u64>virtio.config_bytes:
        memcpy(&value, &virtio.config[offset], size)
    return value


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef VirtioState* virtio = <VirtioState*>owner
    cdef u64 area = offset & 0xF000
    offset &= 0xFFF
    if area == AREA_COMMON:
        _write_common(virtio, offset, size, value)
    elif area == AREA_NOTIFY:
        if offset < <u64>NOTIFY_MULTIPLIER * <u64>virtio.queues:
            virtio_wake(virtio, <int>(offset // NOTIFY_MULTIPLIER))
    elif area == AREA_DEVICE and virtio.config_written != NULL and offset + <u64>size <= <u64>virtio.config_bytes:
        virtio.config_written(virtio.owner, <int>offset, size, value)


# ---- the window in configuration space (4.1.4.9)

cdef bint _access_target(VirtioState* virtio, u64* offset, int* size) noexcept nogil:
    """Where the window points to; False where that is nothing this device has."""
    cdef PciFunction* function = virtio.function
    cdef u32 length = get_config(function, virtio.access_capability + 12, 4)
    offset[0] = get_config(function, virtio.access_capability + 8, 4)
    size[0] = <int>length
    return (function.config[virtio.access_capability + 4] == VIRTIO_BAR and (length == 1 or length == 2 or length == 4)
            and offset[0] % length == 0 and offset[0] + length <= BAR_BYTES)


cdef inline bint _touches_window(VirtioState* virtio, int offset, int size) noexcept nogil:
    return offset < virtio.access_capability + 20 and offset + size > virtio.access_capability + 16


cdef void _before_config_read(void* owner, int offset, int size) noexcept nogil:
    cdef VirtioState* virtio = <VirtioState*>owner
    cdef u64 target
    cdef int length
    if _touches_window(virtio, offset, size) and _access_target(virtio, &target, &length):
        set_config(virtio.function, virtio.access_capability + 16, length, <u32>_read(owner, target, length))


cdef void _after_config_write(void* owner, int offset, int size) noexcept nogil:
    cdef VirtioState* virtio = <VirtioState*>owner
    cdef u64 target
    cdef int length
    if _touches_window(virtio, offset, size) and _access_target(virtio, &target, &length):
        _write(owner, target, length, get_config(virtio.function, virtio.access_capability + 16, length))
    msix_control_written(&virtio.msix)
    _update_intx(virtio)
    if virtio.waiting and virtio.timer.deadline_ns == NEVER:
        timer_arm(virtio.clock, &virtio.timer, virtio.clock.now_ns + virtio.latency_ns)


cdef int _add_structure(PciFunction* function, u8 kind, u32 offset, u32 length, int capability_bytes) except -1:
    cdef int place = add_capability(function, CAPABILITY_VENDOR, capability_bytes)
    set_config(function, place + 2, 1, <u32>capability_bytes)
    set_config(function, place + 3, 1, kind)
    set_config(function, place + 4, 1, VIRTIO_BAR)
    set_config(function, place + 8, 4, offset)
    set_config(function, place + 12, 4, length)
    return place


cdef class VirtioDevice(PciDevice):
    """A virtio device on PCI; `region` is its virtio BAR: common at 0, ISR 0x1000, device 0x2000, notify 0x3000 + 4 * queue."""

    cdef int setup(self, str name, PciBus bus, int slot, PhysicalMemory memory, Clock clock, u16 kind, u32 class_code, u64 features,
                   int queues, int config_bytes, u64 latency_ns, process_fn process, void* owner) except -1:
        """Builds the function and plugs it. kind: the device type (VIRTIO 1.2, 5); features: its own feature bits."""
        cdef VirtioState* virtio = &self.virtio
        cdef PciFunction* function = &self.function
        cdef int place, k
        assert queues <= VIRTIO_QUEUES and config_bytes <= VIRTIO_CONFIG_BYTES
        self._memory = memory
        self._clock = clock
        self.begin(name, bus, slot, 0, VENDOR_VIRTIO, DEVICE_MODERN + kind, class_code, 1)
        set_config(function, PCI_SUBSYSTEM_VENDOR, 2, VENDOR_VIRTIO)
        set_config(function, PCI_SUBSYSTEM, 2, SUBSYSTEM_MODERN)
        set_config(function, PCI_INTERRUPT_PIN, 1, 1)
        virtio.function = function
        virtio.space = &memory.space
        virtio.clock = &clock.state
        virtio.latency_ns = latency_ns
        virtio.queues = queues
        virtio.config_bytes = config_bytes
        virtio.process = process
        virtio.owner = owner
        virtio.offered = features | <u64>1 << FEATURE_INDIRECT | <u64>1 << FEATURE_EVENT_INDEX | <u64>1 << FEATURE_VERSION_1
        for k in range(VIRTIO_QUEUES):
            virtio.queue[k].maximum = QUEUE_MAXIMUM
        add_msix(&virtio.msix, function, MSIX_BAR, <u32>queues + 1)
        add_bar(function, VIRTIO_BAR, BAR_BYTES, False, True, True, _read, _write, virtio)
        self.region = region(name, BAR_BYTES, _read, _write, virtio, self)
        _add_structure(function, TYPE_COMMON, AREA_COMMON, COMMON_BYTES, 16)
        place = _add_structure(function, TYPE_NOTIFY, AREA_NOTIFY, NOTIFY_MULTIPLIER * <u32>queues, 20)
        set_config(function, place + 16, 4, NOTIFY_MULTIPLIER)
        _add_structure(function, TYPE_ISR, AREA_ISR, 1, 16)
        if config_bytes:
            _add_structure(function, TYPE_DEVICE, AREA_DEVICE, <u32>config_bytes, 16)
        place = _add_structure(function, TYPE_ACCESS, 0, 0, 20)
        virtio.access_capability = place
        function.config[place + 4] = 0
        function.writable[place + 4] = 0xFF
        for k in range(place + 8, place + 20):
            function.writable[k] = 0xFF
        function.owner = virtio
        function.before_read = _before_config_read
        function.after_write = _after_config_write
        clock.attach(&virtio.timer, _work, virtio, self)
        self._declare()
        self.plug()
        _reset(virtio)
        return 0

    def _declare(self):
        cdef VirtioState* virtio = &self.virtio
        cdef VirtQueue* queue
        fields = self.fields
        self._cover(<u64>virtio, sizeof(VirtioState))
        self._add("accepted", "u64", <u64>&virtio.accepted)
        self._add("offered_select", "u32", <u64>&virtio.offered_select)
        self._add("accepted_select", "u32", <u64>&virtio.accepted_select)
        self._add("config_vector", "u16", <u64>&virtio.config_vector)
        self._add("select", "u16", <u64>&virtio.select)
        self._add("status", "u8", <u64>&virtio.status)
        self._add("isr", "u8", <u64>&virtio.isr)
        self._add("generation", "u8", <u64>&virtio.generation)
        self._add("waiting", "u16", <u64>&virtio.waiting)
        self._add("deadline_ns", "u64", <u64>&virtio.timer.deadline_ns)
        self._add("device_config", "bytes", <u64>&virtio.config[0], VIRTIO_CONFIG_BYTES)
        declare_msix(&virtio.msix, fields)
        for k in range(virtio.queues):
            queue = &virtio.queue[k]
            for name, kind, address in (
                    ("size", "u16", <u64>&queue.size), ("vector", "u16", <u64>&queue.vector),
                    ("enabled", "u8", <u64>&queue.enabled),
                    ("indirect", "u8", <u64>&queue.indirect), ("event_index", "u8", <u64>&queue.event_index),
                    ("descriptors", "u64", <u64>&queue.descriptors), ("driver", "u64", <u64>&queue.driver),
                    ("device", "u64", <u64>&queue.device), ("next_available", "u16", <u64>&queue.next_available),
                    ("next_used", "u16", <u64>&queue.next_used), ("signalled", "u16", <u64>&queue.signalled)):
                self._add(f"queue{k}_{name}", kind, address)

    def _add(self, str name, str kind, u64 address, int count=1):
        cdef StateFields fields = self.fields
        fields.add(name, kind, <void*>address, count)

    def _cover(self, u64 address, u64 size):
        cdef StateFields fields = self.fields
        fields.cover(<void*>address, size)

    def _restored(self):
        cdef VirtioState* virtio = &self.virtio
        for k in range(virtio.queues):
            size = virtio.queue[k].size
            if not 0 < size <= virtio.queue[k].maximum or size & (size - 1):
                raise SnapshotError(f"{self.fields.component}.queue{k}_size", str(size), f"a power of two up to {QUEUE_MAXIMUM}")
        PciDevice._restored(self)
        timer_arm(virtio.clock, &virtio.timer, virtio.timer.deadline_ns)

    def reset(self):
        """Reset of the bus: the transport and the device forget all that the driver has set."""
        msix_reset(&self.virtio.msix)
        _reset(&self.virtio)
        PciDevice.reset(self)

    @property
    def status(self):
        """The device status register (2.1)."""
        return self.virtio.status
