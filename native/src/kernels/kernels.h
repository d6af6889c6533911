// One table of kernels per instruction set.
#pragma once

#include "subbyte/kernels.h"

namespace subbyte {
namespace portable {
extern const Kernels KERNELS;
}
namespace avx2 {
extern const Kernels KERNELS;
}
namespace avx512_vnni {
extern const Kernels KERNELS;
}
namespace neon {
extern const Kernels KERNELS;
}
namespace neon_dotprod {
extern const Kernels KERNELS;
}
}  // namespace subbyte
