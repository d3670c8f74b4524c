// What only the 32-bit image has.
#ifndef PROTECTED_H
#define PROTECTED_H
#include "harness.h"

void set_word(u32 address, u16 value);
void set_long(u32 address, u32 value);
void load_idt(word limit);
void load_gdt(word limit);
extern u8 other_tss[256];

void exceptions(void);
#endif
