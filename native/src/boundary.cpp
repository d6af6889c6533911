#include "boundary.h"

#include <cstring>

namespace subbyte {
namespace {

template <class T>
bool all_inside(const T* numbers, std::int64_t count, std::int32_t lo, std::int32_t hi) {
    T least = numbers[0];
    T most = numbers[0];
    for (std::int64_t i = 0; i < count; ++i) {
        least = numbers[i] < least ? numbers[i] : least;  // by value, which compilers turn into vectors
        most = numbers[i] > most ? numbers[i] : most;
    }
    return least >= lo && most <= hi;
}

template <class T>
void widen(const T* numbers, std::int64_t* positions, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i)
        positions[i] = numbers[i];
}

}  // namespace

Port::Port(const Layout& value, const Kernels& kernels)
    : kernels_(kernels),
      walk_(value.shape, {value.strides, dense(value.shape)}),
      rule_{nullptr, value.storage == Storage::i16, value.scale, value.zero_point, value.lo, value.hi},
      count_(value.count()),
      size_(storage_bytes(value.storage)),
      any_(value.lo == (rule_.wide ? -32768 : 0) && value.hi == (rule_.wide ? 32767 : 255)) {}

// A kernel reads or writes the numbers as the caller says; the struct serves both ways.
RealRow Port::row(const std::uint8_t* numbers) const {
    RealRow r = rule_;
    r.numbers = const_cast<std::uint8_t*>(numbers);
    return r;
}

bool Port::inside(const std::uint8_t* numbers) const {
    if (any_) return true;
    return rule_.wide ? all_inside(reinterpret_cast<const std::int16_t*>(numbers), count_, rule_.lo, rule_.hi)
                      : all_inside(numbers, count_, rule_.lo, rule_.hi);
}

bool Port::take(const Source& from, std::int64_t sample, std::uint8_t* buffer) const {
    bool good = true;
    if (from.form == Form::real) {
        const auto* reals = static_cast<const float*>(from.data) + sample * count_;
        walk_.each(Part{}, [&](const Walk<2>::Offsets& at, std::int64_t count) {
            good = kernels_.encode(reals + at[1], row(buffer + at[0] * size_), count) && good;
        });
    } else {
        const std::uint8_t* numbers = place(from, sample);
        good = inside(numbers);
        if (numbers == buffer) return good;
        walk_.each(Part{}, [&](const Walk<2>::Offsets& at, std::int64_t count) {
            std::memcpy(buffer + at[0] * size_, numbers + at[1] * size_, static_cast<std::size_t>(count * size_));
        });
    }
    return good;
}

void Port::give(const std::uint8_t* buffer, const Target& to, std::int64_t sample) const {
    if (to.form == Form::stored && buffer == place(to, sample)) return;
    walk_.each(Part{}, [&](const Walk<2>::Offsets& at, std::int64_t count) {
        const std::uint8_t* numbers = buffer + at[0] * size_;
        const std::int64_t place = sample * count_ + at[1];
        if (to.form == Form::real) {
            kernels_.decode(row(numbers), static_cast<float*>(to.data) + place, count);
        } else if (to.form == Form::stored) {
            auto* array = static_cast<std::uint8_t*>(to.data) + place * size_;
            std::memcpy(array, numbers, static_cast<std::size_t>(count * size_));
        } else if (rule_.wide) {
            widen(reinterpret_cast<const std::int16_t*>(numbers), static_cast<std::int64_t*>(to.data) + place, count);
        } else {
            widen(numbers, static_cast<std::int64_t*>(to.data) + place, count);
        }
    });
}

}  // namespace subbyte
