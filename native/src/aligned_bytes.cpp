#include "aligned_bytes.h"

#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace subbyte {
namespace {

constexpr std::align_val_t LINE{64};

#ifdef __linux__
constexpr std::size_t LARGE_PAGE = std::size_t{1} << 21;

// Pages that nobody has used before: what the heap hands out again lies in small pages already, and stays there.
std::uint8_t* map_pages(std::size_t size) {
    const std::size_t room = size + LARGE_PAGE;
    void* mapped = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    auto* start = static_cast<std::uint8_t*>(mapped);
    const std::size_t before = (LARGE_PAGE - reinterpret_cast<std::uintptr_t>(start) % LARGE_PAGE) % LARGE_PAGE;
    if (before > 0) munmap(start, before);
    munmap(start + before + size, room - before - size);
    return start + before;
}
#endif

}  // namespace

AlignedBytes::AlignedBytes(std::size_t size) : size_(size) {
#ifdef __linux__
    if (size >= LARGE_PAGE) {
        const auto small_page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t mapped = (size + small_page - 1) / small_page * small_page;
        data_ = {map_pages(mapped), Free{mapped}};
        // Only pages that are full: what is left over stays small, so that memory is not rounded up. It is only advice.
        madvise(data_.get(), size / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
        return;
    }
#endif
    data_ = {static_cast<std::uint8_t*>(::operator new(size, LINE)), Free{0}};
    std::memset(data_.get(), 0, size);
}

void AlignedBytes::Free::operator()(std::uint8_t* p) const {
#ifdef __linux__
    if (mapped > 0) {
        munmap(p, mapped);
        return;
    }
#endif
    ::operator delete(p, LINE);
}

}  // namespace subbyte
