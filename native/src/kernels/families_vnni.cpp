// Kernel families on AVX-512 with VNNI.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512_vnni {

#include "families_avx512.inc"

template <int WEIGHT>
static inline Vec count(Vec sums, Vec v) {
    const Vec counts = every128("\0\1\1\2\1\2\2\3\1\2\2\3\2\3\3\4");
    const Vec nibble = every8(15);
    const Vec bytes = add8(lookup(counts, both(v, nibble)), lookup(counts, both(down16<4>(v), nibble)));
    return _mm512_dpbusd_epi32(sums, bytes, every8(WEIGHT));
}

#include "carry_avx512.inc"

}  // namespace avx512_vnni
}  // namespace subbyte
