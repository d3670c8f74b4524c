/* What both sides of the native oracle share: the layout of a case and of a result, and the scan of the data pages. cases.py says more. */
#ifndef EMU_DEBUG_NATIVE_AREA_H
#define EMU_DEBUG_NATIVE_AREA_H
#include <stdint.h>
#include <string.h>

#define AREA_BYTES 8192
#define AREA_LINES (AREA_BYTES / 64)

typedef struct {
    uint64_t regs[16];
    uint64_t rip, rflags, fs_base, gs_base;
    uint16_t selectors[6];                       /* ES CS SS DS FS GS */
    uint16_t code_length, steps;
    uint32_t code_at, patch_at;
    uint16_t patch_length, finish, spare[2];
    uint8_t patch[64];
    uint8_t fx[512];
} native_case;

typedef struct {
    uint64_t regs[16];
    uint64_t rip, rflags, fs_base, gs_base, cr2, memory_hash, lines[2];
    uint16_t selectors[6];
    int16_t vector;
    uint16_t steps;
    uint32_t error, spare;
    uint8_t fx[512];
} native_result;

/* Which 64-byte lines of `live` differ from `before` (bits of `lines`), a hash of them, and `live` made like `before` again. */
static inline uint64_t area_scan(uint8_t* live, const uint8_t* before, uint64_t lines[2]) {
    uint64_t hash = 0;
    lines[0] = lines[1] = 0;
    for (int line = 0; line < AREA_LINES; line++) {
        const uint64_t* now = (const uint64_t*)(live + 64 * line);
        const uint64_t* was = (const uint64_t*)(before + 64 * line);
        uint64_t change = 0;
        for (int k = 0; k < 8; k++) change |= now[k] ^ was[k];
        if (change) {
            lines[line >> 6] |= (uint64_t)1 << (line & 63);
            for (int k = 0; k < 8; k++) {
                hash = (hash ^ now[k]) * 0x9E3779B97F4A7C15u;
                hash ^= hash >> 29;
            }
            memcpy(live + 64 * line, was, 64);
        }
    }
    return hash;
}
#endif
