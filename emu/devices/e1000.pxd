# Intel 82540EM gigabit Ethernet controller: its registers, their bits, descriptors and state. Sources: see e1000.pyx.
from emu.base.clock cimport Clock, ClockState, Timer
from emu.base.types cimport u8, u16, u32, u64
from emu.devices.backend.net.port cimport NET_FRAME_BYTES, NetPort, NetState
from emu.devices.pci.bus cimport PciDevice, PciFunction
from emu.memory.space cimport PhysicalMemory, Region, Space

cdef enum:
    MEMORY_BYTES = 0x20000
    PORTS = 64
    # Registers (13.4), as indices of 32-bit words
    CTRL = 0x0000 >> 2
    STATUS = 0x0008 >> 2
    EECD = 0x0010 >> 2
    EERD = 0x0014 >> 2
    CTRL_EXT = 0x0018 >> 2
    MDIC = 0x0020 >> 2
    FCAL = 0x0028 >> 2
    FCAH = 0x002C >> 2
    FCT = 0x0030 >> 2
    VET = 0x0038 >> 2
    ICR = 0x00C0 >> 2
    ITR = 0x00C4 >> 2
    ICS = 0x00C8 >> 2
    IMS = 0x00D0 >> 2
    IMC = 0x00D8 >> 2
    RCTL = 0x0100 >> 2
    FCTTV = 0x0170 >> 2
    TXCW = 0x0178 >> 2
    TCTL = 0x0400 >> 2
    TIPG = 0x0410 >> 2
    AIT = 0x0458 >> 2
    LEDCTL = 0x0E00 >> 2
    PBA = 0x1000 >> 2
    FCRTL = 0x2160 >> 2
    FCRTH = 0x2168 >> 2
    RDBAL = 0x2800 >> 2
    RDBAH = 0x2804 >> 2
    RDLEN = 0x2808 >> 2
    RDH = 0x2810 >> 2
    RDT = 0x2818 >> 2
    RDTR = 0x2820 >> 2
    RXDCTL = 0x2828 >> 2
    RADV = 0x282C >> 2
    RSRPD = 0x2C00 >> 2
    TDBAL = 0x3800 >> 2
    TDBAH = 0x3804 >> 2
    TDLEN = 0x3808 >> 2
    TDH = 0x3810 >> 2
    TDT = 0x3818 >> 2
    TIDV = 0x3820 >> 2
    TXDCTL = 0x3828 >> 2
    TADV = 0x382C >> 2
    STATISTICS = 0x4000 >> 2
    STATISTICS_END = 0x4100 >> 2
    RXCSUM = 0x5000 >> 2
    MTA = 0x5200 >> 2
    MTA_END = 0x5400 >> 2
    RAL = 0x5400 >> 2
    RA_END = 0x5480 >> 2
    VFTA = 0x5600 >> 2
    VFTA_END = 0x5800 >> 2
    WUC = 0x5800 >> 2
    WUFC = 0x5808 >> 2
    MANC = 0x5820 >> 2
    REGISTERS = 0x6000 >> 2
    # Bits
    CTRL_SLU = 1 << 6
    CTRL_RST = 1 << 26
    CTRL_VME = 1 << 30
    CTRL_PHY_RST = 1 << 31
    STATUS_LINKED = 0x283                # full duplex, link up, 1000 Mb/s (twice)
    STATUS_LINK_UP = 1 << 1
    EECD_SK = 1 << 0
    EECD_CS = 1 << 1
    EECD_DI = 1 << 2
    EECD_DO = 1 << 3
    EECD_REQUEST = 1 << 6
    EECD_GRANT = 1 << 7
    EECD_PRESENT = 1 << 8
    EECD_WRITABLE = 0x77
    EERD_START = 1 << 0
    EERD_DONE = 1 << 4
    CTRL_EXT_EE_RST = 1 << 13
    MDIC_WRITE = 1 << 26
    MDIC_READ = 2 << 26
    MDIC_OPCODE = 3 << 26
    MDIC_READY = 1 << 28
    MDIC_INTERRUPT = 1 << 29
    MDIC_ERROR = 1 << 30
    CAUSE_TXDW = 1 << 0
    CAUSE_TXQE = 1 << 1
    CAUSE_LSC = 1 << 2
    CAUSE_RXDMT0 = 1 << 4
    CAUSE_RXO = 1 << 6
    CAUSE_RXT0 = 1 << 7
    CAUSE_MDAC = 1 << 9
    CAUSES = 0x1FFFF
    RCTL_EN = 1 << 1
    RCTL_UPE = 1 << 3
    RCTL_MPE = 1 << 4
    RCTL_LPE = 1 << 5
    RCTL_BAM = 1 << 15
    RCTL_VFE = 1 << 18
    RCTL_BSEX = 1 << 25
    RCTL_SECRC = 1 << 26
    TCTL_EN = 1 << 1
    TCTL_PSP = 1 << 3
    RXCSUM_IP = 1 << 8
    RXCSUM_DATA = 1 << 9
    RAH_AV = 1 << 31
    # Receive descriptors (3.2.3)
    RX_DD = 0x01
    RX_EOP = 0x02
    RX_IXSM = 0x04
    RX_VP = 0x08
    RX_TCPCS = 0x20
    RX_IPCS = 0x40
    RX_PIF = 0x80
    RX_TCPE = 0x20
    RX_IPE = 0x40
    # Transmit descriptors (3.3.3 to 3.3.7): bits of their second 32 bits' second half
    TX_EOP = 1 << 24
    TX_IFCS = 1 << 25
    TX_IC = 1 << 26                      # legacy: insert a checksum; extended: segmentation
    TX_RS = 1 << 27
    TX_DEXT = 1 << 29
    TX_VLE = 1 << 30
    TX_IDE = 1 << 31
    TX_TYPE = 0xF << 20
    TX_TYPE_CONTEXT = 0
    TX_TYPE_DATA = 1 << 20
    TX_DD = 1
    TX_IXSM = 1
    TX_TXSM = 2
    DESCRIPTOR_BYTES = 16
    RING_MASK = 0xFFF80                  # RDLEN, TDLEN: multiples of 128, below 1 MiB
    DESCRIPTORS = 128                    # at most, per piece of work
    FRAMES = 64
    PACKET_BYTES = 65536 + 256           # the longest datagram before it is cut, with its headers
    SMALLEST_SENT = 60                   # without the CRC
    LARGEST_SHORT = 1518                 # without RCTL.LPE: 1522 with VLAN tag and CRC
    EEPROM_WORDS = 64
    EEPROM_ADDRESS_BITS = 6
    LATENCY_NS = 2000
    MORE_WORK_NS = 1000
    DELAY_UNIT_NS = 1024                 # of RDTR, RADV, TIDV and TADV
    ITR_UNIT_NS = 256
    # Work that waits
    WORK_RECEIVE = 1
    WORK_TRANSMIT = 2
    # Statistics (13.7), as indices
    CRCERRS = 0x4000 >> 2
    MPC = 0x4010 >> 2
    GPRC = 0x4074 >> 2
    BPRC = 0x4078 >> 2
    MPRC = 0x407C >> 2
    GPTC = 0x4080 >> 2
    GORCL = 0x4088 >> 2
    GOTCL = 0x4090 >> 2
    RNBC = 0x40A0 >> 2
    TORL = 0x40C0 >> 2
    TOTL = 0x40C8 >> 2
    TPR = 0x40D0 >> 2
    TPT = 0x40D4 >> 2
    MPTC = 0x40F0 >> 2
    BPTC = 0x40F4 >> 2
    TSCTC = 0x40F8 >> 2


cdef packed struct ReceiveDescriptor:
    u64 address
    u16 length
    u16 checksum
    u8 status
    u8 errors
    u16 special


cdef packed struct TransmitDescriptor:
    u64 address                          # or the first half of a context
    u32 lower
    u32 upper


cdef packed struct Context:              # 3.3.5 and 3.3.6: where checksums start, go and end; how segments are cut
    u8 ip_start
    u8 ip_place
    u16 ip_end
    u8 data_start
    u8 data_place
    u16 data_end
    u32 lower                            # payload length, command
    u8 status
    u8 header_length
    u16 segment_size


cdef struct CardState:
    PciFunction* function
    NetState* net
    Space* space
    ClockState* clock
    u8 mac[6]
    u32 register[REGISTERS]
    u16 eeprom[EEPROM_WORDS]
    u16 phy[32]
    u32 io_address                       # 13.3: what the I/O ports select
    u8 waiting                           # WORK_*
    # EEPROM (5.3.1: four-wire interface)
    u32 eeprom_shift
    u8 eeprom_bits                       # since the start bit
    u8 eeprom_started
    u16 eeprom_output
    u8 eeprom_outputs                    # bits still to come
    # The packet that is being gathered from transmit descriptors
    Context checksum_context
    Context segment_context
    u8 packet[PACKET_BYTES]
    u32 packet_bytes
    u8 packet_too_long
    u8 packet_options                    # POPTS of its first data descriptor
    u8 packet_is_data                    # its first descriptor is an extended one
    u8 segment[NET_FRAME_BYTES]          # empty between two calls, as what follows
    u8 frame[NET_FRAME_BYTES + 4]
    # Interrupts
    Timer work
    Timer throttle                       # ITR: the next interrupt not before
    u64 quiet_until_ns
    Timer receive_delay
    u64 receive_limit_ns                 # RADV, TADV: NEVER where none runs
    Timer transmit_delay
    u64 transmit_limit_ns


cdef class E1000(PciDevice):
    cdef CardState state
    cdef NetPort _port
    cdef PhysicalMemory _memory
    cdef Clock _clock
    cdef readonly Region region
    cdef readonly Region ports
    cdef void _arm(self, int which, u64 deadline) noexcept
