// Look-ups where there are 32 registers: vectors of 32 bytes, because those of 64 pay for every table that is brought
// to all their parts, and each table serves two of them.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512_vnni {

#include "cursor.inc"
#include "tiles.inc"

namespace half {
#include "bytes_avx2.inc"
#include "lookup_dot.inc"
}  // namespace half

constexpr int LANES = 16;

#include "avx512_epilogue.inc"

// Pixels one by one: sums stay in memory between parts, so none may be taken twice.
struct LookupTile {
    static constexpr int MOST = 4;
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
    LookupJob all = job;
    for (int vectors = 1; vectors <= LookupTile::MOST; vectors *= 2)
        all.shape.groups[vectors] = even_groups<LookupTile>(job, vectors, LookupTile::most_groups(vectors));
    walk_panels<LookupTile>(all, LANES);
}

}  // namespace avx512_vnni
}  // namespace subbyte
