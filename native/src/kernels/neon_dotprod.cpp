// Kernels for NEON with the dot product instruction (Armv8.2): SDOT adds four products of signed bytes to int32, and
// takes the activations from any quarter of a register. Bytes become signed by one subtraction per 16 of them.

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace neon_dotprod {

#include "pixels.inc"
#include "rows.inc"
#include "boundary.inc"
#include "per_token.inc"
#include "rows_vector.inc"
#include "lanes_neon.inc"
#include "neon_tile.inc"

struct Quads {
    using Part = int32x4_t;

    static constexpr int rows(int vectors) { return vectors == 4 ? 4 : 8; }
    static int depth(const DotJob&) { return UNLIMITED; }
    static void clear(Part& part) { part = vdupq_n_s32(0); }
    static int32x4_t total(Part part) { return part; }

    template <int STEP, int ROWS, int VECTORS>
    static inline void one(Part (&part)[ROWS][VECTORS], const int8x16_t (&x)[ROWS], const std::int8_t* w) {
        each<VECTORS>([&](int v) {
            const int8x16_t weights = vld1q_s8(w + VECTOR_BYTES * (STEP * VECTORS + v));
            each<ROWS>([&](int r) { part[r][v] = vdotq_laneq_s32(part[r][v], weights, x[r], STEP); });
        });
    }

    template <int ROWS, int VECTORS>
    static inline void step(Part (&part)[ROWS][VECTORS], const int8x16_t (&x)[ROWS], const std::int8_t* w) {
        one<0, ROWS, VECTORS>(part, x, w);
    }

    template <int ROWS, int VECTORS>
    static inline void four_steps(Part (&part)[ROWS][VECTORS], const int8x16_t (&x)[ROWS], const std::int8_t* w) {
        one<0, ROWS, VECTORS>(part, x, w);
        one<1, ROWS, VECTORS>(part, x, w);
        one<2, ROWS, VECTORS>(part, x, w);
        one<3, ROWS, VECTORS>(part, x, w);
    }
};

static void dot(const DotJob& job) {
    walk_dot<Tile<Quads>>(job, LANES);
}

#include "depthwise.inc"
#include "depthwise_neon.inc"

// Four rows of a channel in a dword.
struct DepthwiseQuads {
    struct Column {
        int8x16_t part[4];
    };

    explicit DepthwiseQuads(const std::int8_t* four) : weights(four) {}

    static Column column(const int8x16_t (&rows)[4]) {
        const int16x8_t ab[] = {vreinterpretq_s16_s8(vzip1q_s8(rows[0], rows[1])),
                                vreinterpretq_s16_s8(vzip2q_s8(rows[0], rows[1]))};
        const int16x8_t cd[] = {vreinterpretq_s16_s8(vzip1q_s8(rows[2], rows[3])),
                                vreinterpretq_s16_s8(vzip2q_s8(rows[2], rows[3]))};
        Column c;
        UNROLL for (int i = 0; i < 2; ++i) {
            c.part[2 * i] = vreinterpretq_s8_s16(vzip1q_s16(ab[i], cd[i]));
            c.part[2 * i + 1] = vreinterpretq_s8_s16(vzip2q_s16(ab[i], cd[i]));
        }
        return c;
    }

    template <int R>
    void add(const Column* three, int32x4_t (&sums)[4]) const {
        UNROLL for (int kx = 0; kx < 3; ++kx) {
            const std::int8_t* w = weights + (3 * R + kx) * 4 * VECTOR_BYTES;
            UNROLL for (int q = 0; q < 4; ++q) {
                sums[q] = vdotq_s32(sums[q], three[kx].part[q], vld1q_s8(w + VECTOR_BYTES * q));
            }
        }
    }

    const std::int8_t* weights;
};

static void depthwise3(const Depthwise3Job& job) {
    walk_depthwise3<DepthwiseNeon<DepthwiseQuads>>(job);
}

const Kernels KERNELS = {"neon_dotprod",
                         LANES,
                         Tile<Quads>::MOST,
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

}  // namespace neon_dotprod
}  // namespace subbyte
