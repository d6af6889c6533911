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
namespace avx512bw {
extern const Kernels KERNELS;
}
namespace avx512_vnni {
extern const Kernels KERNELS;
}
namespace avx512_vbmi {
void lookup8(const std::uint8_t* in, const std::uint8_t* table, std::uint8_t* out, std::int64_t count);
}
namespace neon {
extern const Kernels KERNELS;
}
namespace neon_dotprod {
extern const Kernels KERNELS;
}
}  // namespace subbyte
