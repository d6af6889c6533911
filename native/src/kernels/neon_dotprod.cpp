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
            each<ROWS>([&](int r) {
                part[r][v] = vdotq_laneq_s32(part[r][v], weights, x[r], STEP);
            });
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

const Kernels KERNELS = {"neon_dotprod",
                         LANES,
                         Tile<Quads>::MOST,
                         dot,
                         depthwise,
                         nullptr,
                         add_vectors<Lanes128>,
                         mul_row<VectorArithmetic<Lanes128>>,
                         rescale_row<VectorArithmetic<Lanes128>>,
                         lookup8,
                         lookup_row<std::int16_t>,
                         sum_cells<Lanes128>,
                         largest_cells<Lanes128>,
                         false,
                         nullptr,
                         nullptr,
                         true};

}  // namespace neon_dotprod
}  // namespace subbyte
