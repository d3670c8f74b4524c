# The core loops: one CPU's events, budget and blocks; and whose turn it is among the CPUs of a machine.
#
# One CPU: between two blocks the loop looks, in this order, at the end of its turn, due timers, stop requests, INIT and
# SIPI, NMI, INTR, HLT, the instruction count. A block runs only if it fits what is left up to the next deadline; else
# exactly the rest of it runs.
#
# Several (docs/adr/0007): each has a time of its own, that of its retired instructions and of its idling. The one that is
# furthest behind runs, until it is TURN_NS ahead of the next. An instruction that reaches a device or reads the TSC runs
# only when no running CPU is behind it: so devices and time stamps see one order of events, in which no clock goes back.
from emu.base.check cimport check
from emu.base.clock cimport NEVER, clock_fire
from emu.base.types cimport i64, u64
from emu.cpu.access cimport set_fault, stack_fault
from emu.cpu.block cimport find_block, run_again_alone, run_one, run_prefix
from emu.cpu.event cimport deliver_fault, deliver_interrupt
from emu.cpu.reset cimport init_cpu, start_cpu
from emu.cpu.state cimport *

cdef enum:
    DR6_BS = 1 << 14
    TURN_NS = 20000
    MOST_JUMPS = 64              # idle jumps before the caller is asked whether it wants something else
    MOST_EVENTS = 4096           # ... exceptions and interrupts without an instruction that retires
    MOST_BLOCKS = 1 << 13        # blocks that the core loop itself enters, dear ones among them (a device, a flush) ...
    MOST_INSTRUCTIONS = 1 << 16  # ... or instructions, before it pauses, so that somebody may look whether to stop
    MOST_TURNS = 256             # ... or turns of CPUs; more than MOST_JUMPS, each of which has one


cdef inline bint interrupt_ready(Cpu* c) noexcept nogil:
    return c.intr != 0 and c.flags_system & F_IF != 0


cdef inline u64 local_ns(Cpu* c) noexcept nogil:
    """Virtual time of a CPU, between blocks."""
    return retired(c) + c.idle_ns


cdef inline bint is_asleep(Cpu* c) noexcept nogil:
    """Nothing happens here before something comes from outside."""
    if c.wait_sipi:
        return c.sipi < 0 and not c.init
    return c.halted != 0 and not c.init and not (c.nmi and not c.nmi_blocked) and not interrupt_ready(c)


cdef inline void report_debug(Cpu* c, u64 bits) noexcept nogil:
    """DR6 of a #DB: the conditions of breakpoints (bits 3:0) are those of now, the others stay until software clears them."""
    c.dr[6] = (c.dr[6] & ~<u64>15) | bits


cdef void take_debug_trap(Cpu* c, u64 bits) noexcept nogil:
    """A trap-type #DB after an instruction."""
    report_debug(c, bits)
    set_fault(c, DB, False, 0)
    c.debug_fault = 0
    deliver_fault(c)


cdef bint instruction_breakpoint(Cpu* c) noexcept nogil:
    """DR0..3 with R/W = 0 at the next instruction; a fault, held back by RF."""
    cdef int k
    cdef u64 hit = 0
    cdef u64 linear = c.rip + c.cs_base
    if c.flags_system & F_RF:
        return False
    for k in range(4):
        if c.dr[7] & (<u64>3 << (2 * k)) and not (c.dr[7] >> (16 + 4 * k)) & 3 and c.dr[k] == linear:
            hit |= <u64>1 << k
    if hit == 0:
        return False
    report_debug(c, hit)
    set_fault(c, DB, False, 0)
    c.debug_fault = 1
    return True


cdef int settle(Cpu* c, int rc) noexcept nogil:
    """Brings the CPU to an instruction boundary after handlers returned `rc`; 0, or an exit reason."""
    while rc == RC_SINGLE:                       # once more, alone, at the exact count
        check(0 < c.at.left <= MAX_BLOCK)
        c.budget += c.at.left
        if local_ns(c) > c.horizon_ns:           # the other CPUs come first
            c.rip = (c.regs[RIP_SLOT] + c.at.off) & c.rip_mask
            return EXIT_TURN
        c.clock.now_ns = local_ns(c)
        c.budget -= 1
        rc = run_again_alone(c)
    if rc == RC_FAULT:
        check(0 < c.at.left <= MAX_BLOCK and 0 <= c.fault_vector < 32)
        c.budget += c.at.left
        c.rip = c.regs[RIP_SLOT] + c.at.off
        c.rip &= c.rip_mask
        c.debug_trap = 0
        if c.outside:
            if c.outside == OUTSIDE_FAULT and c.at.flags & I_MEMORY and c.at.seg == FLAT_STACK:
                stack_fault(c)
            c.outside = OUTSIDE_NOT
        deliver_fault(c)
    elif rc == RC_UNSUPPORTED:
        c.budget += c.at.left
        c.rip = (c.regs[RIP_SLOT] + c.at.off) & c.rip_mask
        return EXIT_UNSUPPORTED
    return 0


cdef int step(Cpu* c) noexcept nogil:
    """One instruction, with everything that the fast path leaves out: shadows, TF, breakpoints."""
    cdef bint trap = c.flags_system & F_TF != 0
    cdef bint quiet = c.shadow_debug != 0
    cdef u64 bits
    cdef int rc
    if local_ns(c) > c.horizon_ns:               # it may be an access to a device
        return EXIT_TURN
    c.shadow = 0
    c.shadow_debug = 0
    if c.dr[7] & 0xFF and not quiet and instruction_breakpoint(c):
        deliver_fault(c)
        return 0
    c.clock.now_ns = local_ns(c)
    c.budget -= 1
    c.debug_trap = 0
    c.trap_dropped = 0
    c.flags_system &= ~<u64>F_RF                 # it held for the breakpoint check; IRET may set it for the next one
    rc = run_one(c)
    if rc == RC_NEXT:
        bits = <u64>c.debug_trap
        c.debug_trap = 0
        if trap and not c.trap_dropped:
            bits |= DR6_BS
        if bits and not c.shadow_debug:
            take_debug_trap(c, bits)
        return 0
    return settle(c, rc)


cdef int run_cpu(Cpu* c, u64 target) noexcept nogil:
    """Runs one CPU until `target` instructions have retired in all, or something else wants attention (EXIT_*)."""
    cdef u64 done, now, limit, last = ~<u64>0, pause = retired(c) + MOST_INSTRUCTIONS
    cdef Crew* w = c.crew
    cdef Block* b
    cdef int rc, vector, events = 0, blocks = 0
    while True:
        done = retired(c)
        events = events + 1 if done == last else 0
        last = done
        if events > MOST_EVENTS:                 # a handler that faults at once, an interrupt that never goes away
            c.idle_ns += MOST_EVENTS             # time goes on all the same
            return EXIT_TARGET
        check(c.budget >= 0 and c.single == 0 and c.regs[ZERO_SLOT] == 0 and c.flags_system & F_ONE)
        now = done + c.idle_ns
        c.slice_end = done
        c.budget = 0
        if w.turn_over:
            return EXIT_TURN
        c.clock.now_ns = now if now < c.horizon_ns else c.horizon_ns
        if c.clock.next_deadline_ns <= c.clock.now_ns:
            clock_fire(c.clock)
        if c.shutdown:
            return EXIT_SHUTDOWN
        if w.stop_request:
            return EXIT_STOP
        if c.init:
            # DEVIATES: INIT sends the first CPU to the firmware; where there is none, the machine starts anew
            if c.number == 0:
                return EXIT_RESET
            init_cpu(c)
        if c.wait_sipi:
            if c.sipi < 0:
                return EXIT_IDLE
            start_cpu(c)
        if c.debug_trap & DR6_BS and c.flags_system & F_TF:      # of a SYSRET; a step takes its own
            c.debug_trap = 0
            take_debug_trap(c, DR6_BS)
            continue
        if not c.shadow:
            if c.nmi and not c.nmi_blocked:
                c.nmi = 0
                c.halted = 0
                deliver_interrupt(c, NMI)
                continue
            if interrupt_ready(c):
                c.halted = 0
                vector = c.port.acknowledge(c.port.interrupt_owner) if c.port.acknowledge != NULL else -1
                if vector >= 0:
                    deliver_interrupt(c, vector)
                    continue
        if c.halted:
            c.shadow = 0
            return EXIT_IDLE
        if done >= target:
            return EXIT_TARGET
        limit = min(c.clock.next_deadline_ns, c.turn_end_ns)
        if now >= limit:                         # further than the others: they come up to here first
            return EXIT_TURN
        if done >= pause or blocks >= MOST_BLOCKS:
            return EXIT_PAUSE
        limit = min(limit - c.idle_ns, target, pause)
        check(limit > done)
        c.slice_end = limit
        c.budget = <i64>(limit - done)
        if c.shadow or c.flags_system & F_TF or c.dr[7] & 0xFF:
            blocks += 1
            rc = step(c)
            if rc:
                return rc
            continue
        if c.flags_system & F_RF:
            c.flags_system &= ~<u64>F_RF         # only instruction breakpoints look at it, and none is armed
        # --- blocks, until something happens that this loop must look at
        c.link_slot = NULL                       # of before an event: its branch does not lead where rip is now
        while True:
            b = find_block(c)                    # takes back link_slot where it has to empty the arena
            if b == NULL:
                c.link_slot = NULL
                if c.rc == RC_FAULT:
                    deliver_fault(c)
                    break
                if local_ns(c) > c.horizon_ns:
                    return EXIT_TURN
                c.clock.now_ns = local_ns(c)
                c.budget -= 1
                rc = run_one(c)
            else:
                if c.link_slot != NULL:
                    c.link_slot[0] = b
                    c.link_slot = NULL
                if <i64>b.n > c.budget:
                    limit = <u64>c.budget
                    c.budget = 0
                    rc = run_prefix(c, b, limit)
                else:
                    c.budget -= b.n
                    c.regs[RIP_SLOT] = c.rip
                    rc = (<Insn*>(b + 1)).fn(c, <Insn*>(b + 1))
            if rc != RC_NEXT:
                rc = settle(c, rc)
                if rc:
                    return rc
                break
            blocks += 1
            if (c.budget <= 0 or blocks >= MOST_BLOCKS or c.shadow or c.halted or c.intr or c.nmi or c.flags_system & F_TF
                    or w.stop_request or w.turn_over or c.init or c.shutdown or c.dr[7] & 0xFF
                    or min(c.clock.next_deadline_ns, c.turn_end_ns) < c.slice_end + c.idle_ns):
                break


# --- all CPUs of a machine ---------------------------------------------------------------------------------------

cdef Cpu* take_turn(Crew* w) noexcept nogil:
    """Whose turn it is: the CPU that has it still, or the one that is furthest behind; NULL where all are asleep."""
    cdef Cpu* best = NULL
    cdef Cpu* c
    cdef u64 least = NEVER               # the times of that one and of the next
    cdef u64 second = NEVER
    cdef u64 time
    cdef int k
    for k in range(w.count):
        c = w.cpu[k]
        if k == w.turn or is_asleep(c):
            continue
        time = local_ns(c)
        if time < least:
            second = least
            least = time
            best = c
        elif time < second:
            second = time
    if w.turn >= 0:
        best = w.cpu[w.turn]
        second = least
    elif best == NULL:
        return NULL
    else:
        w.turn = best.number
        w.turn_over = 0
    best.horizon_ns = second
    best.turn_end_ns = second + TURN_NS if second < NEVER - TURN_NS else NEVER
    if w.running != NULL:
        w.running[0] = w.turn
    return best


cdef void catch_up(Crew* w) noexcept nogil:
    """No CPU stays behind the clock of the devices."""
    cdef Cpu* c
    cdef int k
    for k in range(w.count):
        c = w.cpu[k]
        if local_ns(c) < w.clock.now_ns:
            c.idle_ns += w.clock.now_ns - local_ns(c)


cdef void call_cpu(Cpu* c) noexcept nogil:
    """Something has come for a CPU: asleep, it is at the time of what calls it; and who runs is no longer sure to be last."""
    cdef Crew* w = c.crew
    if w.turn == c.number:
        return
    if (c.halted or c.wait_sipi) and local_ns(c) < w.clock.now_ns:
        c.idle_ns += w.clock.now_ns - local_ns(c)
    w.turn_over = 1


cdef u64 crew_retired(Crew* w) noexcept nogil:
    cdef u64 total = 0
    cdef int k
    for k in range(w.count):
        total += retired(w.cpu[k])
    return total


cdef bint can_wake(Crew* w) noexcept nogil:
    """Whether an interrupt would wake any of the CPUs, which all are asleep."""
    cdef int k
    for k in range(w.count):
        if w.cpu[k].halted and w.cpu[k].flags_system & F_IF:
            return True
    return False


cdef int run_crew(Crew* w, u64 target, bint jump) noexcept nogil:
    """Runs until all CPUs together have retired `target` instructions, or something else wants attention (EXIT_*).

    `jump`: where all are asleep time jumps to the next timer at once; otherwise EXIT_IDLE is returned."""
    cdef u64 total = crew_retired(w)
    cdef u64 before
    cdef Cpu* c
    cdef int reason, jumps = 0, turns = 0
    while True:
        c = take_turn(w)
        if c != NULL:
            before = retired(c)
            reason = run_cpu(c, before + (target - total if target > total else 0))
            total += retired(c) - before
            c.slice_end = retired(c)             # what was left of the slice is not kept: `retired` is declared state
            c.budget = 0
            if reason == EXIT_TURN or reason == EXIT_IDLE:
                w.turn = -1
                turns += 1
                if turns >= MOST_TURNS:
                    return EXIT_PAUSE
                continue
            return reason
        if w.stop_request:
            return EXIT_STOP
        if w.clock.next_deadline_ns > w.clock.now_ns:
            if not can_wake(w):
                return EXIT_DEAD
            if w.clock.next_deadline_ns == NEVER or not jump:
                return EXIT_IDLE
            jumps += 1
            if jumps > MOST_JUMPS:
                return EXIT_TARGET
            w.clock.now_ns = w.clock.next_deadline_ns
            catch_up(w)
        clock_fire(w.clock)
