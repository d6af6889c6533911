#include "aligned_bytes.h"

#include <cstring>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace subbyte {
namespace {

constexpr std::size_t LINE = 64;
constexpr std::size_t LARGE_PAGE = std::size_t{1} << 21;

}  // namespace

AlignedBytes::AlignedBytes(std::size_t size) : size_(size) {
    const std::align_val_t alignment{size < LARGE_PAGE ? LINE : LARGE_PAGE};
    data_ = {static_cast<std::uint8_t*>(::operator new(size, alignment)), Free{alignment}};
#ifdef __linux__
    // Only pages that are full: what is left over stays small, so that memory is not rounded up. It is only advice.
    if (size >= LARGE_PAGE) madvise(data_.get(), size / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
#endif
    std::memset(data_.get(), 0, size);
}

}  // namespace subbyte
