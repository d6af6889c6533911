// Kernels for AVX-512BW without VNNI: madd_dot.inc at 512 bits.

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
#include "rows_vector.inc"

constexpr int LANES = 16;
using Vector = __m512i;

static inline Vector load(const void* p) {
    return _mm512_loadu_si512(p);
}

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
static inline Vector pair_sums(Vector a) {
    return _mm512_madd_epi16(a, _mm512_set1_epi16(1));
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

// Pixels of a tile, by the vectors of its panel: what 32 registers hold beside the weights.
struct Rows {
    static constexpr int MOST = 2;
    static constexpr int exact(int) { return 8; }
    static constexpr int steps(int) { return 8; }
    static constexpr int windows(int) { return 6; }
    static constexpr int once(int) { return 10; }
};

// (acc * m + 2^(n - 1)) >> n for n >= 33: the low half of the product never reaches the result, so the rounding term
// is added to the high half.
static inline Vector scale_high(Vector acc, Vector m, Vector n) {
    const Vector even = _mm512_srli_epi64(_mm512_mul_epi32(acc, m), 32);
    const Vector odd = _mm512_mul_epi32(_mm512_srli_epi64(acc, 32), _mm512_srli_epi64(m, 32));
    const Vector half = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_sub_epi32(n, _mm512_set1_epi32(33)));
    const Vector high = _mm512_mask_blend_epi32(0xAAAA, even, odd);
    return _mm512_srav_epi32(_mm512_add_epi32(high, half), _mm512_sub_epi32(n, _mm512_set1_epi32(32)));
}

// Eight of the sixteen in 64 bits: any n.
static inline Vector scale_half(Vector acc, Vector m, Vector n, const Epilogue& e) {
    const Vector half = _mm512_sllv_epi64(_mm512_set1_epi64(1), _mm512_sub_epi64(n, _mm512_set1_epi64(1)));
    const Vector y = _mm512_add_epi64(_mm512_srav_epi64(_mm512_add_epi64(_mm512_mul_epi32(acc, m), half), n),
                                      _mm512_set1_epi64(e.zero_point));
    return _mm512_min_epi64(_mm512_max_epi64(y, _mm512_set1_epi64(e.lo)), _mm512_set1_epi64(e.hi));
}

static inline Vector requantize(Vector acc, Vector m, Vector n, const Epilogue& e) {
    if (e.high) {
        const Vector y = _mm512_add_epi32(scale_high(acc, m, n), _mm512_set1_epi32(e.zero_point));
        return _mm512_min_epi32(_mm512_max_epi32(y, _mm512_set1_epi32(e.lo)), _mm512_set1_epi32(e.hi));
    }
    const Vector even = scale_half(acc, m, _mm512_and_si512(n, _mm512_set1_epi64(0xFFFFFFFF)), e);
    const Vector odd =
        scale_half(_mm512_srli_epi64(acc, 32), _mm512_srli_epi64(m, 32), _mm512_srli_epi64(n, 32), e);
    return _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
}

// The epilogue of a panel of VECTORS * LANES columns.
template <int VECTORS>
class Finish {
public:
    Finish(const Epilogue& e, int column, int columns) : e_(e), column_(column) {
        for (int v = 0; v < VECTORS; ++v) {
            const int left = columns - column - LANES * v;
            masks_[v] = static_cast<__mmask16>(left >= LANES ? 0xFFFF : (1 << left) - 1);
        }
    }

    template <int ROWS>
    void operator()(const Vector (&sums)[ROWS][VECTORS], std::uint8_t* const* out) const {
        UNROLL for (int v = 0; v < VECTORS; ++v) {
            const int first = column_ + LANES * v;
            const Vector m = load(e_.m + first);
            const Vector n = load(e_.n + first);
            UNROLL for (int r = 0; r < ROWS; ++r) store(requantized(sums[r][v], m, n, first), out[r], v);
        }
    }

private:
    Vector requantized(Vector acc, Vector m, Vector n, int first) const {
        if (e_.leaky) {
            const __mmask16 negative = _mm512_movepi32_mask(acc);
            m = _mm512_mask_loadu_epi32(m, negative, e_.m_neg + first);
            n = _mm512_mask_loadu_epi32(n, negative, e_.n_neg + first);
        }
        return requantize(acc, m, n, e_);
    }

    void store(Vector y, std::uint8_t* out, int v) const {
        const std::ptrdiff_t first = column_ + LANES * v;
        if (e_.wide) {
            _mm256_mask_storeu_epi16(out + 2 * first, masks_[v], _mm512_cvtepi32_epi16(y));
        } else {
            _mm_mask_storeu_epi8(out + first, masks_[v], _mm512_cvtepi32_epi8(y));
        }
    }

    const Epilogue& e_;
    int column_;
    __mmask16 masks_[VECTORS];
};

#include "madd_dot.inc"

// Sixteen channels, a dword each.
static inline Vector widened(const std::uint8_t* x) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}

// Four taps of a channel in two vectors of 16-bit pairs, beside the even and odd weights of the panel's dwords.
static void depthwise(const DepthwiseJob& job) {
    for (std::int32_t column = 0; column < job.columns; column += LANES) {
        const std::int8_t* panel = job.panels + std::ptrdiff_t{column} * job.tap_count;
        const Finish<1> finish(job.epilogue, column, job.columns);
        Cursor cursor(job.grid, job.in, job.out, job.first);
        for (std::int64_t p = job.first; p < job.last; ++p) {
            const std::uint8_t* in;
            std::uint8_t* out;
            cursor.take(in, out);
            in += column;
            Vector acc[1][1] = {{load(job.epilogue.bias + column)}};
            for (std::int32_t t = 0; t < job.tap_count; t += 4) {
                const Vector w = load(panel + LANES * t);
                const Vector even = _mm512_or_si512(widened(in + job.taps[t]),
                                                    _mm512_slli_epi32(widened(in + job.taps[t + 2]), 16));
                const Vector odd = _mm512_or_si512(widened(in + job.taps[t + 1]),
                                                   _mm512_slli_epi32(widened(in + job.taps[t + 3]), 16));
                add32(acc[0][0], products(even_signed(w), even));
                add32(acc[0][0], products(odd_signed(w), odd));
            }
            finish(acc, &out);
        }
    }
}

const Kernels KERNELS = {"avx512bw",
                         LANES,
                         Rows::MOST,
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
                         false,
                         nullptr,
                         nullptr,
                         false,
                         true};

}  // namespace avx512bw
}  // namespace subbyte
