// The 32-bit image: its topics in order.
#include "protected.h"

int main(void)
{
    out8(0x21, 0xFF);
    out8(0xA1, 0xFF);
    reset_descriptors();
    exceptions();
    finish("selftest32");
}
