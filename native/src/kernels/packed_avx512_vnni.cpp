// Packed weights on AVX-512 with VNNI.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/packed.h"

namespace subbyte {
namespace avx512_vnni {

#include "packed_avx512.inc"

constexpr int VECTORS = 4;
constexpr bool ALWAYS_FITS = true;

template <bool>
static inline Vec dot(Vec sum, Vec x, Vec w) {
    return _mm512_dpbusd_epi32(sum, x, w);
}

#include "packed.inc"
#include "thin.inc"

const PackedKernels PACKED = {VECTORS, unpack, thin};

}  // namespace avx512_vnni
}  // namespace subbyte
