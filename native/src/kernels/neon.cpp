// Kernels for every AArch64 CPU (Armv8.0), which has no four-byte product. What a layer's products are proved to fit
// decides how 16 of them are added up:
//   Bytes<2>   two products fit int8    MUL, MLA, SADALP to int16     3 instructions per 32 products
//   Bytes<1>   one fits int8            MUL, SADALP to int16          2 per 16
//   Words      eight or more fit int16  SMLAL, SMLAL2 to int16        2 per 16
//   Exact<2>   two fit int16            SMULL, SMLAL, SADALP to int32, of both halves      6 per 32
//   Exact<1>   any signed bytes         SMULL, SADALP to int32, of both halves             4 per 16
// Sums in int16 go on to int32 before they could overflow.

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace neon {

#include "pixels.inc"
#include "rows.inc"
#include "boundary.inc"
#include "per_token.inc"
#include "rows_vector.inc"
#include "lanes_neon.inc"
#include "neon_tile.inc"

constexpr int WORDS_PAY = 8;  // steps; with fewer, going on to int32 costs what int16 saves

// Windows end between blocks of four steps where they can.
static inline int whole_blocks(int steps) {
    return steps < 4 ? steps : steps / 4 * 4;
}

template <int STEP>
static inline int8x16_t repeated(int8x16_t x) {
    return vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), STEP));
}

// A tile's steps, one by one or two by two: Sum::add takes the products of one step, Sum::add_pair of two.
template <class Sum>
struct Form : Sum {
    template <int ROWS, int VECTORS, class Part>
    static inline void four_steps(Part (&part)[ROWS][VECTORS], const int8x16_t (&x)[ROWS], const std::int8_t* w) {
        if constexpr (Sum::PAIRED) {
            pair<0>(part, x, w);
            pair<2>(part, x, w);
        } else {
            single<0>(part, x, w);
            single<1>(part, x, w);
            single<2>(part, x, w);
            single<3>(part, x, w);
        }
    }

    template <int ROWS, int VECTORS, class Part>
    static inline void step(Part (&part)[ROWS][VECTORS], const int8x16_t (&x)[ROWS], const std::int8_t* w) {
        single<0>(part, x, w);
    }

private:
    template <int STEP, int ROWS, int VECTORS, class Part>
    static inline void single(Part (&part)[ROWS][VECTORS], const int8x16_t (&x)[ROWS], const std::int8_t* w) {
        each<VECTORS>([&](int v) {
            const int8x16_t b = vld1q_s8(w + VECTOR_BYTES * (STEP * VECTORS + v));
            each<ROWS>([&](int r) { Sum::add(part[r][v], repeated<STEP>(x[r]), b); });
        });
    }

    template <int STEP, int ROWS, int VECTORS, class Part>
    static inline void pair(Part (&part)[ROWS][VECTORS], const int8x16_t (&x)[ROWS], const std::int8_t* w) {
        each<VECTORS>([&](int v) {
            const int8x16_t b = vld1q_s8(w + VECTOR_BYTES * (STEP * VECTORS + v));
            const int8x16_t d = vld1q_s8(w + VECTOR_BYTES * ((STEP + 1) * VECTORS + v));
            each<ROWS>([&](int r) { Sum::add_pair(part[r][v], repeated<STEP>(x[r]), b, repeated<STEP + 1>(x[r]), d); });
        });
    }
};

// COUNT products in int8; an int16 lane takes two lanes of them.
template <int COUNT>
struct Bytes {
    using Part = int16x8_t;
    static constexpr bool PAIRED = COUNT == 2;

    static constexpr int rows(int vectors) { return vectors == 4 ? 4 : 6; }
    static int depth(const DotJob& job) { return whole_blocks(job.products.in_int16 / 2); }
    static void clear(Part& part) { part = vdupq_n_s16(0); }
    static int32x4_t total(Part part) { return vpaddlq_s16(part); }

    static inline void add(Part& part, int8x16_t a, int8x16_t b) { part = vpadalq_s8(part, vmulq_s8(a, b)); }
    static inline void add_pair(Part& part, int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d) {
        part = vpadalq_s8(part, vmlaq_s8(vmulq_s8(a, b), c, d));
    }
};

// Columns 0 and 1, four k each, and columns 2 and 3.
template <class Vector>
struct Halves {
    Vector low, high;
};

// Products in int16, an own lane for each of a step.
struct Words {
    using Part = Halves<int16x8_t>;
    static constexpr bool PAIRED = false;

    static constexpr int rows(int vectors) { return vectors == 4 ? 3 : 4; }
    static int depth(const DotJob& job) { return whole_blocks(job.products.in_int16); }
    static void clear(Part& part) { part.low = part.high = vdupq_n_s16(0); }
    static int32x4_t total(const Part& part) { return vpaddq_s32(vpaddlq_s16(part.low), vpaddlq_s16(part.high)); }

    static inline void add(Part& part, int8x16_t a, int8x16_t b) {
        part.low = vmlal_s8(part.low, vget_low_s8(a), vget_low_s8(b));
        part.high = vmlal_high_s8(part.high, a, b);
    }
};

// COUNT products in int16, sums in int32.
template <int COUNT>
struct Exact {
    using Part = Halves<int32x4_t>;
    static constexpr bool PAIRED = COUNT == 2;

    static constexpr int rows(int vectors) { return vectors == 4 ? 2 : 4; }
    static int depth(const DotJob&) { return UNLIMITED; }
    static void clear(Part& part) { part.low = part.high = vdupq_n_s32(0); }
    static int32x4_t total(const Part& part) { return vpaddq_s32(part.low, part.high); }

    static inline void add(Part& part, int8x16_t a, int8x16_t b) {
        part.low = vpadalq_s16(part.low, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        part.high = vpadalq_s16(part.high, vmull_high_s8(a, b));
    }
    static inline void add_pair(Part& part, int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d) {
        const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
        const int16x8_t high = vmull_high_s8(a, b);
        part.low = vpadalq_s16(part.low, vmlal_s8(low, vget_low_s8(c), vget_low_s8(d)));
        part.high = vpadalq_s16(part.high, vmlal_high_s8(high, c, d));
    }
};

static void dot(const DotJob& job) {
    const Products& p = job.products;
    if (p.in_int8 >= 2) {
        walk_dot<Tile<Form<Bytes<2>>>>(job, LANES);
    } else if (p.in_int8 == 1) {
        walk_dot<Tile<Form<Bytes<1>>>>(job, LANES);
    } else if (p.in_int16 >= WORDS_PAY) {
        walk_dot<Tile<Form<Words>>>(job, LANES);
    } else if (p.in_int16 >= 2) {
        walk_dot<Tile<Form<Exact<2>>>>(job, LANES);
    } else {
        walk_dot<Tile<Form<Exact<1>>>>(job, LANES);
    }
}

#include "depthwise.inc"
#include "depthwise_neon.inc"

// COUNT of the nine products of a channel are summed in int16 before they go on.
template <int COUNT>
struct DepthwiseWords {
    struct Column {
        int8x16_t row[4];
    };

    explicit DepthwiseWords(const std::int8_t* four) {
        UNROLL for (int kx = 0; kx < 3; ++kx) {
            const int8x16x4_t w = vld4q_s8(four + 4 * VECTOR_BYTES * kx);
            UNROLL for (int ky = 0; ky < 3; ++ky) weights[3 * kx + ky] = w.val[ky];
        }
    }

    static Column column(const int8x16_t (&rows)[4]) { return {{rows[0], rows[1], rows[2], rows[3]}}; }

    template <int R>
    void add(const Column* three, int32x4_t (&sums)[4]) const {
        int16x8_t low = vdupq_n_s16(0), high = low;
        UNROLL for (int i = 0; i < 9; ++i) {
            const int8x16_t x = three[i / 3].row[R + i % 3];
            const int8x16_t w = weights[i];
            if (i % COUNT == 0) {
                low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
                high = vmull_high_s8(x, w);
            } else {
                low = vmlal_s8(low, vget_low_s8(x), vget_low_s8(w));
                high = vmlal_high_s8(high, x, w);
            }
            if (i % COUNT != COUNT - 1 && i != 8) continue;
            sums[0] = vaddw_s16(sums[0], vget_low_s16(low));
            sums[1] = vaddw_high_s16(sums[1], low);
            sums[2] = vaddw_s16(sums[2], vget_low_s16(high));
            sums[3] = vaddw_high_s16(sums[3], high);
        }
    }

    int8x16_t weights[9];
};

static void depthwise3(const Depthwise3Job& job) {
    if (job.sums_fit) {
        walk_depthwise3<DepthwiseNeon<DepthwiseWords<9>>>(job);
    } else if (job.products.in_int16 >= 2) {
        walk_depthwise3<DepthwiseNeon<DepthwiseWords<2>>>(job);
    } else {
        walk_depthwise3<DepthwiseNeon<DepthwiseWords<1>>>(job);
    }
}

const Kernels KERNELS = {"neon",
                         LANES,
                         Tile<Form<Words>>::MOST,
                         dot,
                         depthwise,
                         depthwise3,
                         add_vectors<Lanes128>,
                         mul_row<VectorArithmetic<Lanes128>>,
                         rescale_row<VectorArithmetic<Lanes128>>,
                         lookup8,
                         lookup_row<std::int16_t>,
                         sum_cells<Lanes128>,
                         largest_cells<Lanes128>,
                         encode_row,
                         decode_row,
                         join_planes,
                         wide_products<Lanes128>,
                         row_codes,
                         scale_sums<Lanes128>,
                         false,
                         nullptr,
                         nullptr,
                         true};

}  // namespace neon
}  // namespace subbyte
