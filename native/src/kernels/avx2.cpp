// Kernels for AVX2, which multiplies bytes only with saturation (vpmaddubsw); madd_tile.inc tells how that is exact.

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
#include "per_token.inc"
#include "rows_vector.inc"
#include "lanes_avx2.inc"
#include "tiles.inc"

using Vector = __m256i;
constexpr int LANES = 8;

static inline Vector load(const void* p) {
    return _mm256_loadu_si256(static_cast<const Vector*>(p));
}

#include "avx2_epilogue.inc"
#include "tile_epilogue.inc"
#include "wide.inc"

#include "lookup_avx2.inc"

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
static inline Vector pair_sums(Vector a, std::int16_t factor) {
    return _mm256_madd_epi16(a, _mm256_set1_epi16(factor));
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

// Groups of pixels and tiles, by the vectors of the panel: what 16 registers hold beside the weights.
struct Shape {
    static constexpr int MOST = 2;
    static constexpr int group(int vectors) { return vectors == 2 ? 2 : 4; }
    static constexpr int windows(int vectors) { return vectors == 2 ? 6 : 8; }
    static constexpr int steps(int vectors) { return vectors == 2 ? 4 : 8; }
    static constexpr int split(int vectors) { return vectors == 2 ? 6 : 4; }
    static constexpr int exact(int) { return 4; }
};

#include "madd_tile.inc"

static void dot(const DotJob& job) {
    const Nearest rounding;
    walk_dot<ByPanel>(job, LANES);
}

#include "depthwise.inc"
#include "depthwise_avx2.inc"

const Kernels KERNELS = {"avx2",
                         LANES,
                         Shape::MOST,
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
                         join_planes,
                         wide_products<Lanes256>,
                         row_codes,
                         scale_sums<Lanes256>,
                         true,
                         single_rescale,
                         shape,
                         false,
                         true};

}  // namespace avx2
}  // namespace subbyte
