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
