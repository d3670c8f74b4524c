// One line a case: what was observed, and whether it is what was expected; and the end of the run.
#ifndef REPORT_H
#define REPORT_H
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef unsigned long word;             // a general register

// Builds the observation of the running case: %x (word, hexadecimal), %d (int), %s.
void say(const char *format, ...);
// Cases are named topic/where/name; `where` is the mode of the run, set by mode(), or nothing.
void topic(const char *name);
void where(const char *name);
// Ends the case: compares what was said with `expected`, prints the line, forgets what was said.
void is(const char *name, const char *expected);
// A case that this processor cannot run, and the feature it lacks.
void skip(const char *name, const char *feature);
// Ends the run: a summary, then isa-debug-exit (0: all is well, 1: not), Bochs' shutdown port, HLT.
_Noreturn void finish(const char *image);
_Noreturn void give_up(const char *why, word detail);

static inline void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static inline void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static inline u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static inline u32 in32(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }
#endif
