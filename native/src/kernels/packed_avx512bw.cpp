// Packed weights on AVX-512 without VNNI.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/packed.h"

namespace subbyte {
namespace avx512bw {

#include "packed_avx512.inc"

constexpr int VECTORS = 4;
constexpr bool ALWAYS_FITS = false;

// As on AVX2.
template <bool FIT>
static inline Vec dot(Vec sum, Vec x, Vec w) {
    if constexpr (FIT)
        return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(x, w), _mm512_set1_epi16(1)));
    const Vec even = _mm512_madd_epi16(_mm512_and_si512(x, _mm512_set1_epi16(255)),
                                       _mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8));
    const Vec odd = _mm512_madd_epi16(_mm512_srli_epi16(x, 8), _mm512_srai_epi16(w, 8));
    return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
}

#include "packed.inc"
#include "thin.inc"

const PackedKernels PACKED = {VECTORS, unpack, thin};

}  // namespace avx512bw
}  // namespace subbyte
