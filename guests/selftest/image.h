// The header of the image that is being built.
#ifdef __x86_64__
#include "long.h"
#else
#include "protected.h"
#endif
