// Kernels for AVX-512 with VNNI: vpdpbusd multiplies unsigned activations by signed weights exactly, four at a time.

#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/kernels.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512_vnni {

#include "cursor.inc"
#include "rows.inc"
#include "boundary.inc"
#include "per_token.inc"
#include "rows_vector.inc"
#include "lanes_avx512.inc"
#include "tiles.inc"

#include "avx512_epilogue.inc"
#include "tile_epilogue.inc"
#include "wide.inc"

#include "lookup_avx512.inc"

// Keeps gcc from spilling arrays of accumulators between the steps of a tile.
static inline void pin(__m512i& v) {
    asm("" : "+v"(v));
}

// Hides a value from the optimiser, so that addresses of a group stay one pointer and offsets.
static inline void hide(const std::uint8_t*& p) {
    asm("" : "+r"(p));
}

static inline __m512i four_bytes(const std::uint8_t* x) {
    std::int32_t four;
    std::memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
}

struct Tile {
    static constexpr int MOST = 4;
    static constexpr bool JOINS = false;
    // Six pixels of 64 columns, or twelve of 32, or sixteen of 16: most of 32 registers are accumulators.
    static constexpr int group(int vectors) { return vectors == 4 ? 1 : vectors == 2 ? 2 : 4; }
    static constexpr int most_groups(int vectors) { return vectors == 1 ? 4 : 6; }

    template <int GROUPS, int GROUP, int VECTORS>
    static void run(const DotJob& job, const Pixels& pixels, const std::int8_t* panel, int column) {
        constexpr int ROWS = GROUPS * GROUP;
        __m512i acc[ROWS][VECTORS];
        UNROLL for (int v = 0; v < VECTORS; ++v) {
            const __m512i bias = load(job.epilogue.bias + column + LANES * v);
            UNROLL for (int r = 0; r < ROWS; ++r) acc[r][v] = bias;
        }
        const std::ptrdiff_t step = pixels.in_step[0];
        for (std::int32_t t = 0; t < job.tap_count; ++t) {
            const std::uint8_t* x[GROUPS];
            UNROLL for (int g = 0; g < GROUPS; ++g) x[g] = pixels.in[g] + job.taps[t];
            for (std::int32_t k = 0; k < job.steps; ++k) {
                __m512i w[VECTORS];
                UNROLL for (int v = 0; v < VECTORS; ++v) w[v] = load(panel + 64 * v);
                UNROLL for (int r = 0; r < ROWS; ++r) {
                    if (GROUP > 1 && r % GROUP == 0) hide(x[r / GROUP]);
                    const __m512i a = four_bytes(x[r / GROUP] + r % GROUP * step + 4 * std::ptrdiff_t{k});
                    UNROLL for (int v = 0; v < VECTORS; ++v) {
                        acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], a, w[v]);
                        pin(acc[r][v]);
                    }
                }
                panel += 64 * VECTORS;
            }
        }
        finish_tile<GROUPS, GROUP, VECTORS>(job, pixels, acc, column);
    }
};

// One vector of columns where the windows of three neighbours overlap by two steps each, as in a 3x3 convolution: what
// is read once is multiplied by the weights of up to three places in the window, for three pixels.
struct SlidingTile {
    static constexpr int MOST = 1;
    static constexpr bool JOINS = false;
    static constexpr int PLACES = 3;
    static constexpr int group(int vectors) { return Tile::group(vectors); }
    static constexpr int most_groups(int vectors) { return Tile::most_groups(vectors); }

    template <int GROUPS, int GROUP, int VECTORS>
    static void run(const DotJob& job, const Pixels& pixels, const std::int8_t* panel, int column) {
        __m512i acc[GROUPS * GROUP][VECTORS];
        UNROLL for (int r = 0; r < GROUPS * GROUP; ++r) acc[r][0] = load(job.epilogue.bias + column);
        const std::ptrdiff_t step = pixels.in_step[0];
        const std::ptrdiff_t place_steps = job.steps / PLACES;
        for (std::int32_t t = 0; t < job.tap_count; ++t) {
            const std::uint8_t* x[GROUPS];
            UNROLL for (int g = 0; g < GROUPS; ++g) x[g] = pixels.in[g] + job.taps[t];
            for (std::ptrdiff_t k = 0; k < place_steps; ++k) {
                __m512i w[PLACES];
                UNROLL for (int p = 0; p < PLACES; ++p) w[p] = load(panel + 64 * (p * place_steps + k));
                UNROLL for (int g = 0; g < GROUPS; ++g) {
                    hide(x[g]);
                    UNROLL for (int u = 0; u < GROUP + PLACES - 1; ++u) {
                        const __m512i a = four_bytes(x[g] + u * step + 4 * k);
                        UNROLL for (int p = 0; p < PLACES; ++p) {
                            if (u < p || u - p >= GROUP) continue;
                            __m512i& sum = acc[g * GROUP + u - p][0];
                            sum = _mm512_dpbusd_epi32(sum, a, w[p]);
                            pin(sum);
                        }
                    }
                }
            }
            panel += 64 * PLACES * place_steps;
        }
        finish_tile<GROUPS, GROUP, VECTORS>(job, pixels, acc, column);
    }
};

static TileShape shape(const DotJob& job, int most_groups) {
    TileShape s = even_shape<Tile>(job, most_groups);
    const std::ptrdiff_t step = Groups(job, 1).in_step();
    s.sliding = job.columns <= LANES && step % 4 == 0 && 4 * std::ptrdiff_t{job.steps} == SlidingTile::PLACES * step;
    return s;
}

static void dot(const DotJob& job) {
    if (job.shape.sliding) {
        walk_dot<Always<SlidingTile>>(job, LANES);
    } else {
        walk_dot<Always<Tile>>(job, LANES);
    }
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
                         false,
                         true};

}  // namespace avx512_vnni
}  // namespace subbyte
