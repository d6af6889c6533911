// Packed weights on AVX2.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/packed.h"

namespace subbyte {
namespace avx2 {

using Vec = __m256i;
constexpr int BYTES = 32;
constexpr int VECTORS = 2;
constexpr bool ALWAYS_FITS = false;

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE inline __attribute__((always_inline))

static inline Vec load(const void* p) {
    return _mm256_loadu_si256(static_cast<const Vec*>(p));
}

static inline void store(void* p, Vec v) {
    _mm256_storeu_si256(static_cast<Vec*>(p), v);
}

static inline Vec every(int byte) {
    return _mm256_set1_epi8(static_cast<char>(byte));
}

static inline Vec both(Vec a, Vec b) {
    return _mm256_and_si256(a, b);
}

static inline Vec either(Vec a, Vec b) {
    return _mm256_or_si256(a, b);
}

static inline Vec flip(Vec a, Vec b) {
    return _mm256_xor_si256(a, b);
}

template <int N>
static inline Vec down(Vec v) {
    return _mm256_srli_epi16(v, N);
}

template <int N>
static inline Vec up(Vec v) {
    return _mm256_slli_epi16(v, N);
}

static inline Vec table(const std::int8_t* numbers) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(numbers)));
}

static inline Vec lookup(Vec numbers, Vec index) {
    return _mm256_shuffle_epi8(numbers, index);
}

static inline Vec all(std::int32_t number) {
    return _mm256_set1_epi32(number);
}

static inline Vec add(Vec a, Vec b) {
    return _mm256_add_epi32(a, b);
}

static inline Vec scaled(Vec v, std::int32_t factor) {
    return _mm256_mullo_epi32(v, _mm256_set1_epi32(factor));
}

template <int N>
static inline Vec shifted(Vec v) {
    return _mm256_srli_epi32(v, N);
}

static inline void pin(Vec& v) {
    asm("" : "+x"(v));
}

static inline Vec four(const std::uint8_t* x) {
    std::int32_t word;
    std::memcpy(&word, x, 4);
    return _mm256_set1_epi32(word);
}

// vpmaddubsw saturates sums of two products; where they may exceed int16, both sides are widened first.
template <bool FIT>
static inline Vec dot(Vec sum, Vec x, Vec w) {
    if constexpr (FIT)
        return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
    const Vec even = _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(255)),
                                       _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
    const Vec odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(w, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

#include "packed.inc"
#include "thin.inc"

const PackedKernels PACKED = {VECTORS, unpack, thin};

}  // namespace avx2
}  // namespace subbyte
