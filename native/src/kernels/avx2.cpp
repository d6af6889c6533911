// Kernels for AVX2, which multiplies bytes only with saturation (vpmaddubsw); madd_dot.inc tells how that is exact.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx2 {

#include "cursor.inc"
#include "rows.inc"
#include "boundary.inc"
#include "rows_vector.inc"
#include "lanes_avx2.inc"

constexpr int LANES = 8;

static inline __m256i load(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

#include "lookup_avx2.inc"

#include "avx2_epilogue.inc"

// Four products per lane, exactly: even and odd bytes of both sides widened to 16 bits.
struct Wide {
    __m256i even, odd;

    static Wide weights(__m256i w) { return {_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8)}; }
    static Wide activations(__m256i x) {
        return {_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srli_epi16(x, 8)};
    }
    static __m256i dot(const Wide& w, const Wide& x) {
        return _mm256_add_epi32(_mm256_madd_epi16(w.even, x.even), _mm256_madd_epi16(w.odd, x.odd));
    }
};

using Vector = __m256i;

static inline Vector zero() {
    return _mm256_setzero_si256();
}
static inline Vector broadcast(std::int32_t four_bytes) {
    return _mm256_set1_epi32(four_bytes);
}
// Sums in place, spelled out: gcc 12 gives the sums of intrinsics fresh registers, and copies and spills them.
static inline void add16(Vector& sum, Vector a) {
    asm("vpaddw %1, %0, %0" : "+x"(sum) : "x"(a));
}
static inline void add32(Vector& sum, Vector a) {
    asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(a));
}
static inline Vector pairs(Vector x, Vector w) {
    return _mm256_maddubs_epi16(x, w);
}
static inline Vector products(Vector a, Vector b) {
    return _mm256_madd_epi16(a, b);
}
static inline Vector pair_sums(Vector a) {
    return _mm256_madd_epi16(a, _mm256_set1_epi16(1));
}
static inline Vector even_signed(Vector w) {
    return _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
}
static inline Vector odd_signed(Vector w) {
    return _mm256_srai_epi16(w, 8);
}
static inline Vector even_unsigned(Vector x) {
    return _mm256_and_si256(x, _mm256_set1_epi16(255));
}
static inline Vector odd_unsigned(Vector x) {
    return _mm256_srli_epi16(x, 8);
}

// Pixels of a tile, by the vectors of its panel: what 16 registers hold beside the weights.
struct Rows {
    static constexpr int MOST = 2;
    static constexpr int exact(int) { return 4; }
    static constexpr int steps(int) { return 4; }
    static constexpr int windows(int) { return 6; }
    static constexpr int once(int) { return 6; }
};

#include "madd_dot.inc"

#include "depthwise.inc"
#include "depthwise_avx2.inc"

const Kernels KERNELS = {"avx2",
                         LANES,
                         Rows::MOST,
                         dot,
                         depthwise,
                         depthwise3,
                         add_vectors<Lanes256>,
                         mul_row<VectorArithmetic<Lanes256>>,
                         rescale_row<VectorArithmetic<Lanes256>>,
                         lookup8,
                         lookup_row<std::int16_t>,
                         sum_cells<Lanes256>,
                         largest_cells<Lanes256>,
                         encode_row,
                         decode_row,
                         false,
                         nullptr,
                         nullptr,
                         false,
                         true};

}  // namespace avx2
}  // namespace subbyte
