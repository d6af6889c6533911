// Kernels for AVX-512 with VNNI: vpdpbusd multiplies unsigned activations by signed weights exactly, four at a time.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512_vnni {

#include "pixels.inc"
#include "rows.inc"
#include "rows_vector.inc"
#include "lanes_avx512.inc"

constexpr int LANES = 16;

static inline __m512i load(const void* p) {
    return _mm512_loadu_si512(p);
}

#include "lookup_avx512.inc"

// Keeps gcc from spilling arrays of accumulators between the steps of a tile.
static inline void pin(__m512i& v) {
    asm("" : "+v"(v));
}

// (acc * m + 2^(n - 1)) >> n for n >= 33: the low half of the product never reaches the result, so the rounding term
// is added to the high half.
static inline __m512i scale_high(__m512i acc, __m512i m, __m512i n) {
    const __m512i even = _mm512_srli_epi64(_mm512_mul_epi32(acc, m), 32);
    const __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(acc, 32), _mm512_srli_epi64(m, 32));
    const __m512i high = _mm512_mask_blend_epi32(0xAAAA, even, odd);
    const __m512i half = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_sub_epi32(n, _mm512_set1_epi32(33)));
    return _mm512_srav_epi32(_mm512_add_epi32(high, half), _mm512_sub_epi32(n, _mm512_set1_epi32(32)));
}

// Eight of the sixteen, in 64 bits, clamped: any n.
static inline __m512i requantize_half(__m512i acc, __m512i m, __m512i n, const Epilogue& e) {
    const __m512i half = _mm512_sllv_epi64(_mm512_set1_epi64(1), _mm512_sub_epi64(n, _mm512_set1_epi64(1)));
    __m512i y = _mm512_srav_epi64(_mm512_add_epi64(_mm512_mul_epi32(acc, m), half), n);
    y = _mm512_add_epi64(y, _mm512_set1_epi64(e.zero_point));
    return _mm512_min_epi64(_mm512_max_epi64(y, _mm512_set1_epi64(e.lo)), _mm512_set1_epi64(e.hi));
}

static inline __m512i requantize(__m512i acc, const Epilogue& e, int column) {
    __m512i m = load(e.m + column);
    __m512i n = load(e.n + column);
    if (e.leaky) {
        const __mmask16 negative = _mm512_movepi32_mask(acc);
        m = _mm512_mask_loadu_epi32(m, negative, e.m_neg + column);
        n = _mm512_mask_loadu_epi32(n, negative, e.n_neg + column);
    }
    if (e.high) {
        const __m512i y = _mm512_add_epi32(scale_high(acc, m, n), _mm512_set1_epi32(e.zero_point));
        return _mm512_min_epi32(_mm512_max_epi32(y, _mm512_set1_epi32(e.lo)), _mm512_set1_epi32(e.hi));
    }
    const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
    const __m512i even = requantize_half(acc, m, _mm512_and_si512(n, low), e);
    const __m512i odd =
        requantize_half(_mm512_srli_epi64(acc, 32), _mm512_srli_epi64(m, 32), _mm512_srli_epi64(n, 32), e);
    return _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
}

static inline void finish(const Epilogue& e, __m512i acc, std::uint8_t* out, int column, int columns) {
    const __m512i y = requantize(acc, e, column);
    const int left = columns - column;
    const __mmask16 mask = static_cast<__mmask16>(left >= LANES ? 0xFFFF : (1 << left) - 1);
    if (e.wide) {
        _mm256_mask_storeu_epi16(out + 2 * std::ptrdiff_t{column}, mask, _mm512_cvtepi32_epi16(y));
    } else {
        _mm_mask_storeu_epi8(out + column, mask, _mm512_cvtepi32_epi8(y));
    }
}

struct Tile {
    static constexpr int MOST = 4;
    static constexpr int rows(int vectors) { return vectors == 4 ? 6 : vectors == 2 ? 8 : 12; }

    template <int ROWS, int VECTORS>
    static void run(const DotJob& job, const std::uint8_t* const* in, std::uint8_t* const* out,
                    const std::int8_t* panel, int column) {
        __m512i acc[ROWS][VECTORS];
        UNROLL for (int v = 0; v < VECTORS; ++v) {
            const __m512i bias = load(job.epilogue.bias + column + LANES * v);
            UNROLL for (int r = 0; r < ROWS; ++r) acc[r][v] = bias;
        }
        for (std::int32_t t = 0; t < job.tap_count; ++t) {
            const std::uint8_t* x[ROWS];
            UNROLL for (int r = 0; r < ROWS; ++r) x[r] = in[r] + job.taps[t];
            for (std::int32_t k = 0; k < job.steps; ++k) {
                __m512i w[VECTORS];
                UNROLL for (int v = 0; v < VECTORS; ++v) w[v] = load(panel + 64 * v);
                UNROLL for (int r = 0; r < ROWS; ++r) {
                    std::int32_t four;
                    std::memcpy(&four, x[r] + 4 * k, 4);
                    const __m512i a = _mm512_set1_epi32(four);
                    UNROLL for (int v = 0; v < VECTORS; ++v) {
                        acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], a, w[v]);
                        pin(acc[r][v]);
                    }
                }
                panel += 64 * VECTORS;
            }
        }
        __m512i sums[ROWS][VECTORS];  // the epilogue is rolled, so its accumulators lie in memory
        UNROLL for (int r = 0; r < ROWS; ++r) {
            UNROLL for (int v = 0; v < VECTORS; ++v) sums[r][v] = acc[r][v];
        }
        for (int r = 0; r < ROWS; ++r) {
            for (int v = 0; v < VECTORS; ++v) {
                const int first = column + LANES * v;
                if (first < job.columns) finish(job.epilogue, sums[r][v], out[r], first, job.columns);
            }
        }
    }
};

static void dot(const DotJob& job) {
    walk_dot<Tile>(job, LANES);
}

#include "depthwise.inc"
#include "depthwise_vnni.inc"

const Kernels KERNELS = {"avx512_vnni",
                         LANES,
                         Tile::MOST,
                         dot,
                         depthwise,
                         depthwise3,
                         add_vectors<Lanes512>,
                         mul_row<VectorArithmetic<Lanes512>>,
                         rescale_row<VectorArithmetic<Lanes512>>,
                         lookup8,
                         lookup_row<std::int16_t>,
                         sum_cells<Lanes512>,
                         largest_cells<Lanes512>};

}  // namespace avx512_vnni
}  // namespace subbyte
