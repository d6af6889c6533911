// Look-ups where there are 32 registers: vectors of 32 bytes, because those of 64 pay for every table that is brought
// to all their parts, and each table serves two of them.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512bw {

#include "cursor.inc"
#include "tiles.inc"

namespace half {
#include "bytes_avx2.inc"
#include "lookup_dot.inc"
}  // namespace half

#include "avx512_epilogue.inc"
#include "tile_epilogue.inc"

// Pixels one by one: sums stay in memory between parts, so none may be taken twice.
struct LookupTile {
    static constexpr int MOST = 4;
    static constexpr bool JOINS = false;
    static constexpr int group(int) { return 1; }
    static constexpr int most_groups(int) { return 4; }

    template <int GROUPS, int GROUP, int VECTORS>
    static void run(const DotJob& dot, const Pixels& pixels, const std::int8_t* panel, int column) {
        const auto& job = static_cast<const LookupJob&>(dot);
        std::int32_t* sums[GROUPS];
        for (int r = 0; r < GROUPS; ++r)
            sums[r] = half::sums_of(job, pixels.in[r], column);
        half::look_up<GROUPS, VECTORS, LANES>(job, pixels.in, panel, sums);
        if (!job.ends) return;
        __m512i acc[GROUPS][VECTORS];
        UNROLL for (int v = 0; v < VECTORS; ++v) {
            const __m512i bias = load(job.epilogue.bias + column + LANES * v);
            UNROLL for (int r = 0; r < GROUPS; ++r) acc[r][v] = _mm512_add_epi32(load(sums[r] + LANES * v), bias);
        }
        finish_tile<GROUPS, GROUP, VECTORS>(job, pixels, acc, column);
    }
};

void tables(const TableJob& job) {
    half::tables(job);
}

void lookup(const LookupJob& job) {
    walk_whole<LookupTile>(job, LANES);
}

}  // namespace avx512bw
}  // namespace subbyte
