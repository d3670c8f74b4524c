# User-mode NAT: a network of one gateway behind which the host's sockets stand; DHCP, DNS and port forwards included.
#
# The work is done by libslirp (loaded when first needed; every QEMU has it, too), whose public interface, libslirp.h at
# configuration version 1, is restated below. DEVIATES from QEMU: no IPv6. Addresses are QEMU's: network 10.0.2.0/24, gateway
# 10.0.2.2, name server 10.0.2.3, first lease 10.0.2.15. The gateway's address reaches the host's loopback, and nothing else
# of the host listens: forwards are bound to 127.0.0.1.
#
# libslirp lives in the host's time, not in a machine's: what comes from it enters a machine through NetPort.inject.
import os
import select
from collections import deque

import cython

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset, strerror

from emu.base.errors import NetworkError
from emu.base.types cimport u8, u32, u64

cdef extern from "<dlfcn.h>" nogil:
    void* dlopen(const char* name, int flags)
    void* dlsym(void* handle, const char* name)
    int RTLD_NOW, RTLD_LOCAL

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd* descriptors, unsigned long count, int timeout)
    int POLLIN, POLLOUT, POLLPRI, POLLERR, POLLHUP

cdef extern from "<sys/timerfd.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int descriptor, int flags, const itimerspec* new, itimerspec* old)
    int TFD_NONBLOCK, TFD_CLOEXEC

cdef extern from "<time.h>" nogil:
    int clock_gettime(int clock, timespec* when)
    int CLOCK_MONOTONIC

LIBRARY = "libslirp.so.0"
PACKAGE = "apt-get install libslirp0"
NETWORK, MASK, GATEWAY, NAME_SERVER, FIRST_LEASE = "10.0.2.0", "255.255.255.0", "10.0.2.2", "10.0.2.3", "10.0.2.15"

cdef enum:
    MOST_DESCRIPTORS = 1024
    MOST_FRAMES = 1024                   # that wait for a machine; more are lost, as on any wire
    SLIRP_IN = 1
    SLIRP_OUT = 2
    SLIRP_PRIORITY = 4
    SLIRP_ERROR = 8
    SLIRP_HANGUP = 16


cdef struct SlirpConfig:                 # what configuration version 1 holds
    u32 version
    int restricted
    u8 in_enabled
    u32 vnetwork                         # addresses in network order
    u32 vnetmask
    u32 vhost
    u8 in6_enabled
    u32 vprefix_addr6[4]
    u8 vprefix_len
    u32 vhost6[4]
    const char* vhostname
    const char* tftp_server_name
    const char* tftp_path
    const char* bootfile
    u32 vdhcp_start
    u32 vnameserver
    u32 vnameserver6[4]
    const char** vdnssearch
    const char* vdomainname
    size_t if_mtu
    size_t if_mru
    u8 disable_host_loopback
    u8 enable_emu


cdef struct SlirpCallbacks:
    ssize_t (*send_packet)(const void* data, size_t length, void* owner) noexcept
    void (*guest_error)(const char* message, void* owner) noexcept
    int64_t (*clock_get_ns)(void* owner) noexcept
    void* (*timer_new)(void* callback, void* callback_owner, void* owner) noexcept
    void (*timer_free)(void* timer, void* owner) noexcept
    void (*timer_mod)(void* timer, int64_t expire_ms, void* owner) noexcept
    void (*register_poll_fd)(int fd, void* owner) noexcept
    void (*unregister_poll_fd)(int fd, void* owner) noexcept
    void (*notify)(void* owner) noexcept


ctypedef void* (*new_fn)(const SlirpConfig* config, const SlirpCallbacks* callbacks, void* owner) noexcept
ctypedef void (*cleanup_fn)(void* slirp) noexcept
ctypedef int (*add_poll_fn)(int fd, int events, void* owner) noexcept
ctypedef int (*get_revents_fn)(int index, void* owner) noexcept
ctypedef void (*fill_fn)(void* slirp, uint32_t* timeout, add_poll_fn add, void* owner) noexcept
ctypedef void (*poll_fn)(void* slirp, int error, get_revents_fn get, void* owner) noexcept
ctypedef void (*input_fn)(void* slirp, const u8* data, int length) noexcept
ctypedef int (*forward_fn)(void* slirp, int is_udp, u32 host, int host_port, u32 guest, int guest_port) noexcept
ctypedef const char* (*version_fn)() noexcept

cdef void* library = NULL


cdef void* _symbol(str name) except NULL:
    cdef bytes encoded = name.encode()
    cdef void* found = dlsym(library, encoded)
    if found == NULL:
        raise NetworkError(LIBRARY, f"lacks {name}", "libslirp 4.1 or newer", PACKAGE)
    return found


cdef int _load() except -1:
    global library
    cdef bytes encoded
    if library == NULL:
        encoded = LIBRARY.encode()
        library = dlopen(encoded, RTLD_NOW | RTLD_LOCAL)
        if library == NULL:
            raise NetworkError(LIBRARY, "cannot be loaded", "user-mode networking needs it", PACKAGE)
    return 0


def library_version():
    """The version of libslirp, as text; raises NetworkError where it is not there."""
    _load()
    return (<version_fn>_symbol("slirp_version_string"))().decode()


cdef u32 _address(str text):
    """An IPv4 address as it lies in memory."""
    return int.from_bytes(bytes(int(part) for part in text.split(".")), "little")


# ---- what libslirp calls

cdef ssize_t _send_packet(const void* data, size_t length, void* owner) noexcept:
    cdef UserNetwork network = <UserNetwork>owner
    if len(network._frames) < MOST_FRAMES:
        network._frames.append((<const u8*>data)[:length])
    else:
        network.lost += 1
    return <ssize_t>length


cdef void _guest_error(const char* message, void* owner) noexcept:
    (<UserNetwork>owner).errors += 1


cdef int64_t _clock(void* owner) noexcept:
    cdef timespec when
    clock_gettime(CLOCK_MONOTONIC, &when)
    return <int64_t>when.tv_sec * 1000000000 + when.tv_nsec


cdef void* _timer_new(void* callback, void* callback_owner, void* owner) noexcept:
    return NULL                          # timers are IPv6's only


cdef void _timer_free(void* timer, void* owner) noexcept:
    pass


cdef void _timer_mod(void* timer, int64_t expire_ms, void* owner) noexcept:
    pass


cdef void _register(int fd, void* owner) noexcept:
    pass


cdef void _unregister(int fd, void* owner) noexcept:
    """A descriptor is about to be closed: its number may come again for another socket."""
    (<UserNetwork>owner)._watched.pop(fd, None)


cdef void _notify(void* owner) noexcept:
    pass


cdef int _add_poll(int fd, int events, void* owner) noexcept:
    cdef UserNetwork network = <UserNetwork>owner
    cdef pollfd* place
    if network._count == MOST_DESCRIPTORS:
        return -1
    place = &network._descriptors[network._count]
    place.fd = fd
    place.events = <short>((POLLIN if events & SLIRP_IN else 0) | (POLLOUT if events & SLIRP_OUT else 0)
                           | (POLLPRI if events & SLIRP_PRIORITY else 0))
    place.revents = 0
    network._count += 1
    return network._count - 1


cdef int _get_revents(int index, void* owner) noexcept:
    cdef UserNetwork network = <UserNetwork>owner
    cdef short got
    if not 0 <= index < network._count:
        return 0
    got = network._descriptors[index].revents
    return ((SLIRP_IN if got & POLLIN else 0) | (SLIRP_OUT if got & POLLOUT else 0) | (SLIRP_PRIORITY if got & POLLPRI else 0)
            | (SLIRP_ERROR if got & POLLERR else 0) | (SLIRP_HANGUP if got & POLLHUP else 0))


@cython.final
cdef class UserNetwork:
    """A NAT with its gateway, as the far end of a cable (or as one of the ends at a switch).

    forwards: (host port, guest port, is_udp) each, from 127.0.0.1 to the first lease. Raises NetworkError without libslirp, and
    where a host port is taken. `close` gives the sockets back.
    """
    cdef void* _slirp
    cdef SlirpCallbacks _callbacks
    cdef input_fn _input
    cdef fill_fn _fill
    cdef poll_fn _poll
    cdef cleanup_fn _cleanup
    cdef pollfd[MOST_DESCRIPTORS] _descriptors
    cdef int _count
    cdef int _timer
    cdef object _epoll
    cdef dict _watched
    cdef object _frames
    cdef readonly u64 lost                       # frames for which no machine had room
    cdef readonly u64 errors                     # packets of a guest that libslirp complained of

    def __cinit__(self, forwards=()):
        self._timer = -1
        self._frames = deque()
        self._watched = {}
        _load()
        self._input = <input_fn>_symbol("slirp_input")
        self._fill = <fill_fn>_symbol("slirp_pollfds_fill")
        self._poll = <poll_fn>_symbol("slirp_pollfds_poll")
        self._cleanup = <cleanup_fn>_symbol("slirp_cleanup")
        self._open()
        for host_port, guest_port, is_udp in forwards:
            self.forward(host_port, guest_port, is_udp)

    def _open(self):
        cdef SlirpConfig config
        cdef SlirpCallbacks* callbacks = &self._callbacks
        memset(&config, 0, sizeof(SlirpConfig))
        config.version = 1
        config.in_enabled = 1
        config.vnetwork = _address(NETWORK)
        config.vnetmask = _address(MASK)
        config.vhost = _address(GATEWAY)
        config.vnameserver = _address(NAME_SERVER)
        config.vdhcp_start = _address(FIRST_LEASE)
        callbacks.send_packet = _send_packet
        callbacks.guest_error = _guest_error
        callbacks.clock_get_ns = _clock
        callbacks.timer_new = _timer_new
        callbacks.timer_free = _timer_free
        callbacks.timer_mod = _timer_mod
        callbacks.register_poll_fd = _register
        callbacks.unregister_poll_fd = _unregister
        callbacks.notify = _notify
        self._slirp = (<new_fn>_symbol("slirp_new"))(&config, callbacks, <void*>self)
        if self._slirp == NULL:
            raise NetworkError(LIBRARY, "refuses to start", f"version {library_version()}")
        self._timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self._timer < 0:
            raise NetworkError("user network", f"the host gives no timer: {strerror(errno).decode()}")
        self._epoll = select.epoll()
        self._epoll.register(self._timer, select.EPOLLIN)

    def __del__(self):
        self.close()

    def close(self):
        """Closes every socket; the network is dead afterwards."""
        if self._slirp != NULL:
            self._cleanup(self._slirp)
            self._slirp = NULL
        if self._timer >= 0:
            os.close(self._timer)
            self._timer = -1
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def forward(self, int host_port, int guest_port, bint is_udp=False):
        """Connections to 127.0.0.1:`host_port` reach `guest_port` of the first lease; NetworkError where it is taken."""
        if self._slirp != NULL and (<forward_fn>_symbol("slirp_add_hostfwd"))(
                self._slirp, is_udp, _address("127.0.0.1"), host_port, _address(FIRST_LEASE), guest_port) < 0:
            raise NetworkError("forward", f"port {host_port} of this host cannot be had: {strerror(errno).decode()}",
                               mend="choose another port")

    def inject(self, bytes frame not None, due_ns=None):
        """A frame from a guest."""
        if self._slirp != NULL:
            self._input(self._slirp, <const u8*>frame, <int>len(frame))
        return True

    def take(self):
        """The next frames for guests, oldest first."""
        frames = list(self._frames)
        self._frames.clear()
        return frames

    def exchange(self):
        """Moves what the host's sockets have, without waiting."""
        cdef u32 timeout = <u32>0xFFFFFFFF
        cdef int ready = 0
        if self._slirp == NULL:
            return
        self._count = 0
        self._fill(self._slirp, &timeout, _add_poll, <void*>self)
        if self._count:
            ready = poll(&self._descriptors[0], <unsigned long>self._count, 0)
        self._poll(self._slirp, ready < 0, _get_revents, <void*>self)

    @property
    def is_active(self):
        """Whether the host may have something to say by itself: a connection is open, or a forward is listened to."""
        cdef u32 timeout = <u32>0xFFFFFFFF
        if self._slirp == NULL:
            return False
        self._count = 0
        self._fill(self._slirp, &timeout, _add_poll, <void*>self)
        return self._count > 0

    def watch(self):
        """A descriptor that becomes readable when `exchange` has something to do; valid until the next call of anything here."""
        cdef u32 timeout = <u32>0xFFFFFFFF
        cdef itimerspec when
        cdef short events
        if self._slirp == NULL:
            return -1
        self._count = 0
        self._fill(self._slirp, &timeout, _add_poll, <void*>self)
        wanted = {}
        for k in range(self._count):
            wanted[self._descriptors[k].fd] = wanted.get(self._descriptors[k].fd, 0) | self._descriptors[k].events
        for fd in [fd for fd in self._watched if fd not in wanted]:
            del self._watched[fd]
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass                             # closed: it has left by itself
        for fd, events in wanted.items():
            if fd not in self._watched:
                self._epoll.register(fd, events)
            elif self._watched[fd] != events:
                self._epoll.modify(fd, events)
            self._watched[fd] = events
        memset(&when, 0, sizeof(itimerspec))
        if timeout != <u32>0xFFFFFFFF:
            when.it_value.tv_sec = timeout // 1000
            when.it_value.tv_nsec = (timeout % 1000) * 1000000 + 1       # zero would disarm it
        timerfd_settime(self._timer, 0, &when, NULL)
        return self._epoll.fileno()
