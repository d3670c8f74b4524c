# Assertions of the debug build (EMU_DEBUG=1, see setup.py): what must hold whatever a guest does. Elsewhere they cost nothing.
cdef extern from *:
    """
    #ifndef EMU_CHECK_H
    #define EMU_CHECK_H
    #ifdef EMU_DEBUG
    #include <stdio.h>
    #include <stdlib.h>
    #define emu_check(holds) \\
        do { \\
            if (!(holds)) { \\
                fprintf(stderr, "%s:%d: does not hold: %s\\n", __FILE__, __LINE__, #holds); \\
                abort(); \\
            } \\
        } while (0)
    #define EMU_GUARD_BYTES 4096
    #else
    #define emu_check(holds) ((void)0)
    #define EMU_GUARD_BYTES 0
    #endif
    #endif
    """
    void check "emu_check"(bint holds) noexcept nogil
    const int GUARD_BYTES "EMU_GUARD_BYTES"      # of pages that nothing may touch, before and behind what is mapped
