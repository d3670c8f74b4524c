// The 64-bit image: its topics in order.
#include "long.h"

int main(void)
{
    out8(0x21, 0xFF);
    out8(0xA1, 0xFF);
    reset_descriptors();
    exceptions();
    finish("selftest64");
}
