// What one core can do at most: multiply-accumulates from registers, and reading memory. Prints JSON.
// Built when the benchmarks run (g++ -O3 -march=native); each figure is the best of several rounds.

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

constexpr int STEPS = 20000;

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Billions per second of what one run of `work` counts, at best.
template <class Work>
double best_rate(int rounds, Work work) {
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
        const double begin = seconds();
        const double count = work();
        best = std::max(best, count / (seconds() - begin) * 1e-9);
    }
    return best;
}

// Assembly keeps the compiler from moving, merging or dropping an instruction: operands are registers, accumulators
// are independent, and there are enough of them to hide the latency.
#define REPEAT_12(step) step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)

#ifdef __AVX2__
double fma_256() {
    __m256 a[12] = {};
    const __m256 x = _mm256_set1_ps(0.5F);
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j) asm volatile("vfmadd231ps %1, %1, %0" : "+x"(a[j]) : "x"(x));
        REPEAT_12(STEP)
#undef STEP
    }
    return 12.0 * 8 * STEPS;
}

// Exact only where a pair of products fits 16 bits: the fastest int8 product of AVX2.
double maddubs_maddwd_256() {
    __m256i a[12] = {};
    const __m256i x = _mm256_set1_epi8(1);
    __m256i p;
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j)                                                      \
    asm volatile("vpmaddubsw %1, %1, %0" : "=x"(p) : "x"(x));         \
    asm volatile("vpmaddwd %1, %0, %0" : "+x"(p) : "x"(x));           \
    asm volatile("vpaddd %1, %0, %0" : "+x"(a[j]) : "x"(p));
        REPEAT_12(STEP)
#undef STEP
    }
    return 12.0 * 32 * STEPS;
}

double maddubs_addw_256() {
    __m256i a[12] = {};
    const __m256i x = _mm256_set1_epi8(1);
    __m256i p;
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j)                                                      \
    asm volatile("vpmaddubsw %1, %1, %0" : "=x"(p) : "x"(x));         \
    asm volatile("vpaddw %1, %0, %0" : "+x"(a[j]) : "x"(p));
        REPEAT_12(STEP)
#undef STEP
    }
    return 12.0 * 32 * STEPS;
}
#endif

#ifdef __AVX512F__
double fma_512() {
    __m512 a[12] = {};
    const __m512 x = _mm512_set1_ps(0.5F);
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j) asm volatile("vfmadd231ps %1, %1, %0" : "+v"(a[j]) : "v"(x));
        REPEAT_12(STEP)
#undef STEP
    }
    return 12.0 * 16 * STEPS;
}
#endif

#ifdef __AVX512VNNI__
double vpdpbusd_512() {
    __m512i a[12] = {};
    const __m512i x = _mm512_set1_epi8(1);
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j) asm volatile("vpdpbusd %1, %1, %0" : "+v"(a[j]) : "v"(x));
        REPEAT_12(STEP)
#undef STEP
    }
    return 12.0 * 64 * STEPS;
}
#endif

// Bytes read once through a buffer, in passes over `size` bytes until `total` are read.
double read_bytes(const std::vector<std::uint64_t>& buffer, std::size_t size, std::size_t total) {
    const char* base = reinterpret_cast<const char*>(buffer.data());
    std::size_t done = 0;
    for (; done < total; done += size) {
        for (std::size_t at = 0; at < size; at += 256) {
#ifdef __AVX512F__
            asm volatile("vmovdqu64 (%0), %%zmm0\n vmovdqu64 64(%0), %%zmm1\n"
                         "vmovdqu64 128(%0), %%zmm2\n vmovdqu64 192(%0), %%zmm3"
                         :
                         : "r"(base + at)
                         : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
#else
            for (std::size_t line = 0; line < 256; line += 8)
                asm volatile("" : : "r"(*reinterpret_cast<const std::uint64_t*>(base + at + line)));
#endif
        }
    }
    return static_cast<double>(done);
}

void print(const char* name, double value, bool last = false) {
    std::printf("  \"%s\": %.2f%s\n", name, value, last ? "" : ",");
}

}  // namespace

int main() {
    constexpr int ROUNDS = 60;
    const std::size_t kib = 1024;
    const std::size_t mib = 1024 * kib;
    std::vector<std::uint64_t> buffer(256 * mib / 8, 1);  // written, so that every page is there
    std::printf("{\n");
#ifdef __AVX512VNNI__
    print("vpdpbusd_512", best_rate(ROUNDS, vpdpbusd_512));
#endif
#ifdef __AVX512F__
    print("fma_512", best_rate(ROUNDS, fma_512));
#endif
#ifdef __AVX2__
    print("fma_256", best_rate(ROUNDS, fma_256));
    print("maddubs_maddwd_256", best_rate(ROUNDS, maddubs_maddwd_256));
    print("maddubs_addw_256", best_rate(ROUNDS, maddubs_addw_256));
#endif
    print("read_16k", best_rate(20, [&] { return read_bytes(buffer, 16 * kib, 16 * mib); }));
    print("read_512k", best_rate(20, [&] { return read_bytes(buffer, 512 * kib, 32 * mib); }));
    print("read_8m", best_rate(12, [&] { return read_bytes(buffer, 8 * mib, 64 * mib); }));
    print("read_256m", best_rate(4, [&] { return read_bytes(buffer, 256 * mib, 256 * mib); }), true);
    std::printf("}\n");
    return 0;
}
