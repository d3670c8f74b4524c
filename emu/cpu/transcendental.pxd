# The x87's transcendental functions: within one unit in the last place of the exact value, and the same on every host.
from emu.cpu.softfloat cimport F80, FloatStatus

# An unmasked FLOAT_BEFORE exception leaves the results meaningless, as in softfloat_x87. Results have 64 bits whatever the
# precision control says.
# far: |a| is 2^63 or more (C2): nothing was computed.
cdef F80 f80_sin(F80 a, bint* far, FloatStatus* s) noexcept nogil
cdef F80 f80_cos(F80 a, bint* far, FloatStatus* s) noexcept nogil
cdef F80 f80_tan(F80 a, bint* far, FloatStatus* s) noexcept nogil
cdef F80 f80_atan(F80 y, F80 x, FloatStatus* s) noexcept nogil           # the angle of the point (x, y)
cdef F80 f80_2xm1(F80 a, FloatStatus* s) noexcept nogil                  # 2^a - 1
cdef F80 f80_yl2x(F80 x, F80 y, FloatStatus* s) noexcept nogil           # y * log2(x)
cdef F80 f80_yl2xp1(F80 x, F80 y, FloatStatus* s) noexcept nogil         # y * log2(x + 1)
