// What one core can do at most: multiply-accumulates and rescales from registers, depthwise convolutions in the first
// cache, and reading memory. Prints JSON.
// Built when the benchmarks run (g++ -O3 -march=native); each figure is the best of several rounds. Built a second time
// as a shared library, so that reading memory takes turns with the products that are held against it.

#include "../native/src/roof_loops.h"

#include <immintrin.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace loops = subbyte::roof_loops;

namespace {

constexpr int STEPS = 20000;
constexpr std::size_t KIB = 1024;
constexpr std::size_t MIB = 1024 * KIB;
constexpr std::size_t BUFFER_BYTES = 256 * MIB;

struct Free {
    void operator()(char* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<char, Free>;

// Written, so that every page is there; in large pages where the system gives them.
Buffer make_buffer() {
    Buffer buffer(static_cast<char*>(std::aligned_alloc(2 * MIB, BUFFER_BYTES)));
#ifdef __linux__
    madvise(buffer.get(), BUFFER_BYTES, MADV_HUGEPAGE);
#endif
    std::memset(buffer.get(), 1, BUFFER_BYTES);
    return buffer;
}

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

#ifdef __AVX2__
double fma_256() {
    __m256 a[12] = {};
    const __m256 x = _mm256_set1_ps(0.5F);
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j) asm volatile("vfmadd231ps %1, %1, %0" : "+x"(a[j]) : "x"(x));
        SUBBYTE_EACH_SUM(STEP)
#undef STEP
    }
    return 12.0 * 8 * STEPS;
}

// Products by tables: an entry is looked up and added. Counted as products of vectors of bytes with a group of one.
double shuffle_256() {
    __m256i a[12] = {};
    const __m256i table = _mm256_set1_epi8(1);
    __m256i p;
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j)                                                          \
    asm volatile("vpshufb %1, %1, %0" : "=x"(p) : "x"(table));           \
    asm volatile("vpaddb %1, %0, %0" : "+x"(a[j]) : "x"(p));
        SUBBYTE_EACH_SUM(STEP)
#undef STEP
    }
    return 12.0 * 32 * STEPS;
}
#endif

#ifdef __AVX512VPOPCNTDQ__
// Products of single bits.
double popcount_512() {
    __m512i a[12] = {};
    const __m512i x = _mm512_set1_epi8(1);
    __m512i p;
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j)                                                          \
    asm volatile("vpandd %1, %1, %0" : "=v"(p) : "v"(x));                \
    asm volatile("vpopcntd %0, %0" : "+v"(p));                           \
    asm volatile("vpaddd %1, %0, %0" : "+v"(a[j]) : "v"(p));
        SUBBYTE_EACH_SUM(STEP)
#undef STEP
    }
    return 12.0 * 512 * STEPS;
}
#endif

#ifdef __AVX512F__
double fma_512() {
    __m512 a[12] = {};
    const __m512 x = _mm512_set1_ps(0.5F);
    for (int i = 0; i < STEPS; ++i) {
#define STEP(j) asm volatile("vfmadd231ps %1, %1, %0" : "+v"(a[j]) : "v"(x));
        SUBBYTE_EACH_SUM(STEP)
#undef STEP
    }
    return 12.0 * 16 * STEPS;
}
#endif

// Reads 256 bytes.
void read_lines(const char* at) {
#ifdef __AVX512F__
    asm volatile(
        "vmovdqu64 (%0), %%zmm0\n vmovdqu64 64(%0), %%zmm1\n"
        "vmovdqu64 128(%0), %%zmm2\n vmovdqu64 192(%0), %%zmm3"
        :
        : "r"(at)
        : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
#else
    for (std::size_t line = 0; line < 256; line += 8)
        asm volatile("" : : "r"(*reinterpret_cast<const std::uint64_t*>(at + line)));
#endif
}

// Bytes read in passes over `size` bytes until `total` are read, as several streams side by side: one stream alone does
// not keep as many lines in flight as a core can.
double read_bytes(const char* base, std::size_t size, std::size_t total, std::size_t streams) {
    const std::size_t part = size / streams;
    std::size_t done = 0;
    for (; done < total; done += size) {
        for (std::size_t at = 0; at < part; at += 256) {
            for (std::size_t stream = 0; stream < streams; ++stream)
                read_lines(base + stream * part + at);
        }
    }
    return static_cast<double>(done);
}

// The best of one to sixteen streams.
double best_read(int rounds, const Buffer& buffer, std::size_t size, std::size_t total) {
    double best = 0;
    for (std::size_t streams = 1; streams <= 16; streams *= 2)
        best = std::max(best, best_rate(rounds, [&] { return read_bytes(buffer.get(), size, total, streams); }));
    return best;
}

void print(const char* name, double value, bool last = false) {
    std::printf("  \"%s\": %.2f%s\n", name, value, last ? "" : ",");
}

}  // namespace

// Reads `size` bytes once; a multiple of 2048.
extern "C" void subbyte_bench_read(const char* data, std::size_t size) {
    read_bytes(data, size, size, 8);
}

int main() {
    constexpr int ROUNDS = 60;
    const Buffer buffer = make_buffer();
    std::printf("{\n");
#ifdef __AVX512VNNI__
    print("vpdpbusd_512", loops::dot_rate<64>(loops::vpdpbusd_512<false>, ROUNDS));
    print("depthwise_512", loops::depthwise_rate(loops::depthwise_512, 20 * ROUNDS));
    print("depthwise_pieces_512", loops::depthwise_rate(loops::depthwise_pieces_512, 20 * ROUNDS));
    print("rescale_512", loops::rescale_rate<64>(loops::vpdpbusd_512<true>, ROUNDS));
    print("rescale_beside_512",
          loops::rescale_rate_beside<64>(loops::vpdpbusd_512<false>, loops::vpdpbusd_512<true>, ROUNDS));
#endif
#ifdef __AVX512F__
    print("fma_512", best_rate(ROUNDS, fma_512));
#endif
#ifdef __AVX2__
    print("fma_256", best_rate(ROUNDS, fma_256));
    print("maddubs_maddwd_256", loops::dot_rate<32>(loops::maddubs_maddwd_256<false>, ROUNDS));
    print("maddubs_addw_256", loops::dot_rate<32>(loops::maddubs_addw_256<false>, ROUNDS));
    print("wide_256", loops::dot_rate<32>(loops::wide_256<false>, ROUNDS));
    print("depthwise_256", loops::depthwise_rate(loops::depthwise_256<false>, 20 * ROUNDS));
    print("wide_depthwise_256", loops::depthwise_rate(loops::depthwise_256<true>, 20 * ROUNDS));
    print("rescale_256", loops::rescale_rate<32>(loops::maddubs_addw_256<true>, ROUNDS));
    print("rescale_beside_256",
          std::max(loops::rescale_rate_beside<32>(loops::maddubs_maddwd_256<false>, loops::maddubs_maddwd_256<true>,
                                                  ROUNDS),
                   loops::rescale_rate_beside<32>(loops::maddubs_addw_256<false>, loops::maddubs_addw_256<true>,
                                                  ROUNDS)));
    print("shuffle_256", best_rate(ROUNDS, shuffle_256));
#endif
#ifdef __AVX512VPOPCNTDQ__
    print("popcount_512", best_rate(ROUNDS, popcount_512));
#endif
    print("read_16k", best_read(5, buffer, 16 * KIB, 16 * MIB));
    print("read_512k", best_read(5, buffer, 512 * KIB, 32 * MIB));
    print("read_8m", best_read(4, buffer, 8 * MIB, 64 * MIB));
    print("read_256m", best_read(3, buffer, BUFFER_BYTES, BUFFER_BYTES), true);
    std::printf("}\n");
    return 0;
}
