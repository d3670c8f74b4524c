// What only the 64-bit image has.
#ifndef LONG_H
#define LONG_H
#include "harness.h"

#define USER_BASE 0x40000000u           // where CPL 3 sees memory; 16-bit segments of CPL 3 begin there
void set_gate_high(u8 vector, u64 value);
void set_tss(u32 offset, u64 value);
void load_idt(word limit);
void load_gdt(word limit);
extern u64 pml4[512], pdpt[512], pd_low[512], pd_user[512];

void exceptions(void);
#endif
