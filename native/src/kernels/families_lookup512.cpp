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

using half::look_up;
using half::sums_of;

// Sums of pixels [row][VECTORS * LANES].
template <int GROUPS, int GROUP, int VECTORS>
static void finish_sums(const DotJob& job, const Pixels& pixels, const std::int32_t* const* sums, int column) {
    __m512i acc[GROUPS * GROUP][VECTORS];
    UNROLL for (int v = 0; v < VECTORS; ++v) {
        const __m512i bias = load(job.epilogue.bias + column + LANES * v);
        UNROLL for (int r = 0; r < GROUPS * GROUP; ++r) acc[r][v] = _mm512_add_epi32(load(sums[r] + LANES * v), bias);
    }
    finish_tile<GROUPS, GROUP, VECTORS>(job, pixels, acc, column);
}

#include "lookup_tile.inc"

void tables(const TableJob& job) {
    half::tables(job);
}

void lookup(const LookupJob& job) {
    walk_whole<LookupTile>(job, LANES);
}

}  // namespace avx512bw
}  // namespace subbyte
