// Kernels for AVX2. It multiplies bytes only with saturation (vpmaddubsw), so bytes are widened to 16 bits in registers
// and multiplied by vpmaddwd, which is exact; where two neighbouring products are proved to fit int16, the byte form
// runs.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx2 {

#include "pixels.inc"
#include "rows.inc"
#include "rows_vector.inc"
#include "lanes_avx2.inc"

constexpr int LANES = 8;

static inline __m256i load(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

#include "lookup_avx2.inc"

// Keeps gcc from spilling arrays of accumulators between the steps of a tile.
static inline void pin(__m256i& v) {
    asm("" : "+x"(v));
}

// clamp(z + ((acc * m + 2^(n - 1)) >> n)) for n >= 33: the low half of the product never reaches the result, so the
// rounding term is added to the high half.
static inline __m256i requantize_high(__m256i acc, __m256i m, __m256i n, const Epilogue& e) {
    const __m256i even = _mm256_srli_epi64(_mm256_mul_epi32(acc, m), 32);
    const __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(acc, 32), _mm256_srli_epi64(m, 32));
    const __m256i high = _mm256_blend_epi32(even, odd, 0xAA);
    const __m256i half = _mm256_sllv_epi32(_mm256_set1_epi32(1), _mm256_sub_epi32(n, _mm256_set1_epi32(33)));
    __m256i y = _mm256_srav_epi32(_mm256_add_epi32(high, half), _mm256_sub_epi32(n, _mm256_set1_epi32(32)));
    y = _mm256_add_epi32(y, _mm256_set1_epi32(e.zero_point));
    return _mm256_min_epi32(_mm256_max_epi32(y, _mm256_set1_epi32(e.lo)), _mm256_set1_epi32(e.hi));
}

// Any n, one by one: a 64-bit arithmetic shift does not exist here, and such shifts are rare.
static __m256i requantize_any(__m256i acc, __m256i m, __m256i n, const Epilogue& e) {
    alignas(32) std::int32_t a[LANES], ms[LANES], ns[LANES];
    _mm256_store_si256(reinterpret_cast<__m256i*>(a), acc);
    _mm256_store_si256(reinterpret_cast<__m256i*>(ms), m);
    _mm256_store_si256(reinterpret_cast<__m256i*>(ns), n);
    for (int i = 0; i < LANES; ++i)
        a[i] = sb_requantize(a[i], ms[i], ns[i], e.zero_point, e.lo, e.hi);
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(a));
}

static inline __m256i requantize(__m256i acc, const Epilogue& e, int column) {
    __m256i m = load(e.m + column);
    __m256i n = load(e.n + column);
    if (e.leaky) {
        const __m256i negative = _mm256_srai_epi32(acc, 31);
        m = _mm256_blendv_epi8(m, load(e.m_neg + column), negative);
        n = _mm256_blendv_epi8(n, load(e.n_neg + column), negative);
    }
    return e.high ? requantize_high(acc, m, n, e) : requantize_any(acc, m, n, e);
}

static inline void finish(const Epilogue& e, __m256i acc, std::uint8_t* out, int column, int columns) {
    const __m256i y = requantize(acc, e, column);
    const int left = columns - column;
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    const __m128i narrow = e.wide ? words : _mm_packus_epi16(words, words);
    const int size = e.wide ? 2 : 1;
    std::uint8_t* to = out + std::ptrdiff_t{size} * column;
    if (left >= LANES) {
        if (e.wide) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to), narrow);
        } else {
            _mm_storel_epi64(reinterpret_cast<__m128i*>(to), narrow);
        }
        return;
    }
    alignas(16) std::uint8_t bytes[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes), narrow);
    std::memcpy(to, bytes, static_cast<std::size_t>(left * size));
}

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

// The same where sums of two neighbouring products fit int16.
struct Pairs {
    __m256i bytes;

    static Pairs weights(__m256i w) { return {w}; }
    static Pairs activations(__m256i x) { return {x}; }
    static __m256i dot(const Pairs& w, const Pairs& x) {
        return _mm256_madd_epi16(_mm256_maddubs_epi16(x.bytes, w.bytes), _mm256_set1_epi16(1));
    }
};

template <class Product>
struct Tile {
    static constexpr int MOST = 2;
    static constexpr int rows(int) { return 4; }

    template <int ROWS, int VECTORS>
    static void run(const DotJob& job, const std::uint8_t* const* in, std::uint8_t* const* out,
                    const std::int8_t* panel, int column) {
        __m256i acc[ROWS][VECTORS];
        UNROLL for (int v = 0; v < VECTORS; ++v) {
            const __m256i bias = load(job.epilogue.bias + column + LANES * v);
            UNROLL for (int r = 0; r < ROWS; ++r) acc[r][v] = bias;
        }
        for (std::int32_t t = 0; t < job.tap_count; ++t) {
            const std::uint8_t* x[ROWS];
            UNROLL for (int r = 0; r < ROWS; ++r) x[r] = in[r] + job.taps[t];
            for (std::int32_t k = 0; k < job.steps; ++k) {
                Product w[VECTORS];
                UNROLL for (int v = 0; v < VECTORS; ++v) w[v] = Product::weights(load(panel + 32 * v));
                UNROLL for (int r = 0; r < ROWS; ++r) {
                    std::int32_t four;
                    std::memcpy(&four, x[r] + 4 * k, 4);
                    const Product a = Product::activations(_mm256_set1_epi32(four));
                    UNROLL for (int v = 0; v < VECTORS; ++v) {
                        acc[r][v] = _mm256_add_epi32(acc[r][v], Product::dot(w[v], a));
                        pin(acc[r][v]);
                    }
                }
                panel += 32 * VECTORS;
            }
        }
        __m256i sums[ROWS][VECTORS];  // the epilogue is rolled, so its accumulators lie in memory
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
    if (job.pairs_fit) {
        walk_dot<Tile<Pairs>>(job, LANES);
    } else {
        walk_dot<Tile<Wide>>(job, LANES);
    }
}

#include "depthwise.inc"
#include "depthwise_avx2.inc"

const Kernels KERNELS = {"avx2",
                         LANES,
                         Tile<Wide>::MOST,
                         dot,
                         depthwise,
                         depthwise3,
                         add_vectors<Lanes256>,
                         mul_row<VectorArithmetic<Lanes256>>,
                         rescale_row<VectorArithmetic<Lanes256>>,
                         lookup8,
                         lookup_row<std::int16_t>,
                         sum_cells<Lanes256>,
                         largest_cells<Lanes256>};

}  // namespace avx2
}  // namespace subbyte
