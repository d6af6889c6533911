// Bytes that kernels stream through: whole cache lines, and large pages where there are enough of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace subbyte {

class AlignedBytes {
public:
    AlignedBytes() = default;
    // Zeros. Begins at a cache line, so that no vector crosses two; from 2 MiB on at a large page, which the system is
    // asked for: small ones cost an address translation every 4096 bytes, and end what the processor reads ahead.
    explicit AlignedBytes(std::size_t size);

    std::uint8_t* data() const { return data_.get(); }
    std::size_t size() const { return size_; }

private:
    struct Free {
        std::size_t mapped;  // bytes; 0: from the heap
        void operator()(std::uint8_t* p) const;
    };

    std::unique_ptr<std::uint8_t[], Free> data_;
    std::size_t size_ = 0;
};

}  // namespace subbyte
