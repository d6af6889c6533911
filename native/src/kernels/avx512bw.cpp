// Kernels for AVX-512BW without VNNI: madd_tile.inc at 512 bits.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512bw {

#include "cursor.inc"
#include "lanes_avx512.inc"
#include "rows.inc"
#include "boundary.inc"
#include "per_token.inc"
#include "rows_vector.inc"
#include "tiles.inc"

#include "avx512_epilogue.inc"
#include "tile_epilogue.inc"
#include "wide.inc"

#include "lookup_avx512.inc"

static inline Vector zero() {
    return _mm512_setzero_si512();
}
static inline Vector broadcast(std::int32_t four_bytes) {
    return _mm512_set1_epi32(four_bytes);
}
// Sums in place, spelled out: gcc 12 gives the sums of intrinsics fresh registers, and copies and spills them.
static inline void add16(Vector& sum, Vector a) {
    asm("vpaddw %1, %0, %0" : "+v"(sum) : "v"(a));
}
static inline void add32(Vector& sum, Vector a) {
    asm("vpaddd %1, %0, %0" : "+v"(sum) : "v"(a));
}
static inline Vector pairs(Vector x, Vector w) {
    return _mm512_maddubs_epi16(x, w);
}
static inline Vector products(Vector a, Vector b) {
    return _mm512_madd_epi16(a, b);
}
static inline Vector pair_sums(Vector a, std::int16_t factor) {
    return _mm512_madd_epi16(a, _mm512_set1_epi16(factor));
}
static inline Vector even_signed(Vector w) {
    return _mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8);
}
static inline Vector odd_signed(Vector w) {
    return _mm512_srai_epi16(w, 8);
}
static inline Vector even_unsigned(Vector x) {
    return _mm512_and_si512(x, _mm512_set1_epi16(255));
}
static inline Vector odd_unsigned(Vector x) {
    return _mm512_srli_epi16(x, 8);
}

// Groups of pixels and tiles, by the vectors of the panel: what 32 registers hold beside the weights.
struct Shape {
    static constexpr int MOST = 4;
    static constexpr int group(int vectors) { return vectors == 4 ? 1 : vectors == 2 ? 2 : 4; }
    static constexpr int windows(int vectors) { return vectors == 4 ? 6 : 12; }
    static constexpr int steps(int vectors) { return vectors == 4 ? 4 : 8; }
    static constexpr int split(int vectors) { return vectors == 4 ? 8 : 12; }
    static constexpr int exact(int vectors) { return vectors == 4 ? 4 : 8; }
};

#include "madd_tile.inc"

static void dot(const DotJob& job) {
    walk_dot<ByPanel>(job, LANES);
}

// Sixteen channels, a dword each.
static inline Vector widened(const std::uint8_t* x) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}

// Four taps of a channel in two vectors of 16-bit pairs, beside the even and odd weights of the panel's dwords.
static void depthwise(const DepthwiseJob& job) {
    for (std::int32_t column = 0; column < job.columns; column += LANES) {
        const std::int8_t* panel = job.panels + std::ptrdiff_t{column} * job.tap_count;
        const Vector bias = load(job.epilogue.bias + column);
        Cursor cursor(job.grid, job.in, job.out, job.first);
        for (std::int64_t p = job.first; p < job.last; ++p) {
            const std::uint8_t* in;
            std::uint8_t* out;
            cursor.take(in, out);
            in += column;
            Vector acc = bias;
            for (std::int32_t t = 0; t < job.tap_count; t += 4) {
                const Vector w = load(panel + LANES * t);
                const Vector even = _mm512_or_si512(widened(in + job.taps[t]),
                                                    _mm512_slli_epi32(widened(in + job.taps[t + 2]), 16));
                const Vector odd = _mm512_or_si512(widened(in + job.taps[t + 1]),
                                                   _mm512_slli_epi32(widened(in + job.taps[t + 3]), 16));
                add32(acc, products(even_signed(w), even));
                add32(acc, products(odd_signed(w), odd));
            }
            finish_row(job.epilogue, acc, out, column, job.columns);
        }
    }
}

const Kernels KERNELS = {"avx512bw",
                         LANES,
                         Shape::MOST,
                         dot,
                         depthwise,
                         nullptr,
                         add_vectors<Lanes512>,
                         mul_row<VectorArithmetic<Lanes512>>,
                         rescale_row<VectorArithmetic<Lanes512>>,
                         lookup8,
                         lookup_row<std::int16_t>,
                         sum_cells<Lanes512>,
                         largest_cells<Lanes512>,
                         encode_row,
                         decode_row,
                         join_planes,
                         wide_products<Lanes512>,
                         row_codes,
                         scale_sums<Lanes512>,
                         true,
                         single_rescale,
                         shape,
                         false,
                         true};

}  // namespace avx512bw
}  // namespace subbyte
