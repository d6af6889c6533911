// Kernel families on AVX-512 without VNNI.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512bw {

#include "families_avx512.inc"

template <int WEIGHT>
static inline Vec count(Vec sums, Vec v) {
    const Vec counts = every128("\0\1\1\2\1\2\2\3\1\2\2\3\2\3\3\4");
    const Vec nibble = every8(15);
    const Vec bytes = add8(lookup(counts, both(v, nibble)), lookup(counts, both(down16<4>(v), nibble)));
    return add32(sums, pair_sums(pair_products(bytes, every8(WEIGHT))));
}

#include "carry_avx512.inc"

}  // namespace avx512bw
}  // namespace subbyte
