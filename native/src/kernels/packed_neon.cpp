// Packed weights on 64-bit ARM.

#include <arm_neon.h>

#include <cstdint>

#include "kernels/packed.h"

namespace subbyte {
namespace neon {

using Vec = uint8x16_t;
constexpr int BYTES = 16;

static inline Vec load(const void* p) {
    return vld1q_u8(static_cast<const std::uint8_t*>(p));
}

static inline void store(void* p, Vec v) {
    vst1q_u8(static_cast<std::uint8_t*>(p), v);
}

static inline Vec every(int byte) {
    return vdupq_n_u8(static_cast<std::uint8_t>(byte));
}

static inline Vec both(Vec a, Vec b) {
    return vandq_u8(a, b);
}

static inline Vec either(Vec a, Vec b) {
    return vorrq_u8(a, b);
}

static inline Vec flip(Vec a, Vec b) {
    return veorq_u8(a, b);
}

// What 16-bit shifts bring in from the neighbouring byte is masked out afterwards, so bytes may shift alone.
template <int N>
static inline Vec down(Vec v) {
    if constexpr (N == 0) return v;
    return vshrq_n_u8(v, N > 0 ? N : 1);
}

template <int N>
static inline Vec up(Vec v) {
    return vshlq_n_u8(v, N);
}

static inline Vec table(const std::int8_t* numbers) {
    return load(numbers);
}

// 0 for every index above 15.
static inline Vec lookup(Vec numbers, Vec index) {
    return vqtbl1q_u8(numbers, index);
}

#include "packed.inc"

const PackedKernels PACKED = {1, unpack, nullptr};

}  // namespace neon
}  // namespace subbyte
