// Kernel families on AVX-512 with VNNI.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512_vnni {

#include "families_avx512.inc"

template <int WEIGHT>
static inline Vec count(Vec sums, Vec v) {
    return _mm512_dpbusd_epi32(sums, bits_of_bytes(v), every8(WEIGHT));
}

#include "carry_avx512.inc"

}  // namespace avx512_vnni
}  // namespace subbyte
