// Walks N arrays of one shape and different strides in rows: axes that lie dense in all of them are merged first.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "subbyte/plan.h"

namespace subbyte {

constexpr std::size_t MOST_AXES = 7;  // of a sample

template <std::size_t N>
class Walk {
public:
    using Offsets = std::array<std::int64_t, N>;

    Walk() = default;

    // Strides are in numbers; 0 repeats. With unit_steps rows are cut so that a row's steps are 0 or 1.
    Walk(const Dims& shape, const std::array<Dims, N>& strides, bool unit_steps = true) {
        for (std::size_t i = 0; i < shape.size(); ++i) {
            if (shape[i] == 1) continue;
            Offsets s{};
            for (std::size_t k = 0; k < N; ++k)
                s[k] = strides[k][i];
            if (rank_ > 0 && merges(s, shape[i])) {
                sizes_[rank_ - 1] *= shape[i];
                strides_[rank_ - 1] = s;
            } else {
                sizes_[rank_] = shape[i];
                strides_[rank_] = s;
                ++rank_;
            }
        }
        if (rank_ == 0 || (unit_steps && !unit(strides_[rank_ - 1]))) {
            sizes_[rank_] = 1;
            strides_[rank_].fill(1);
            ++rank_;
        }
        for (std::size_t i = 0; i + 1 < rank_; ++i)
            rows_ *= sizes_[i];
    }

    std::int64_t total() const { return rows_ * sizes_[rank_ - 1]; }
    // Between neighbouring numbers of a row of array k.
    std::int64_t step(std::size_t k) const { return strides_[rank_ - 1][k]; }

    // Call f(offsets, count) for each row of the share: offsets of its first number in each array.
    template <class F>
    void each(Part part, F&& f) const {
        const std::size_t inner = rank_ - 1;
        if (rows_ == 1) {
            const std::int64_t first = part.begin(sizes_[inner]);
            const std::int64_t count = part.end(sizes_[inner]) - first;
            Offsets at{};
            for (std::size_t k = 0; k < N; ++k)
                at[k] = first * strides_[inner][k];
            if (count > 0) f(at, count);
            return;
        }
        std::int64_t row = part.begin(rows_);
        const std::int64_t end = part.end(rows_);
        std::array<std::int64_t, MOST_AXES + 1> index{};
        Offsets at{};
        std::int64_t rest = row;
        for (std::size_t i = inner; i-- > 0;) {
            index[i] = rest % sizes_[i];
            rest /= sizes_[i];
            for (std::size_t k = 0; k < N; ++k)
                at[k] += index[i] * strides_[i][k];
        }
        for (; row < end; ++row) {
            f(static_cast<const Offsets&>(at), sizes_[inner]);
            for (std::size_t i = inner; i-- > 0;) {
                for (std::size_t k = 0; k < N; ++k)
                    at[k] += strides_[i][k];
                if (++index[i] < sizes_[i]) break;
                for (std::size_t k = 0; k < N; ++k)
                    at[k] -= sizes_[i] * strides_[i][k];
                index[i] = 0;
            }
        }
    }

private:
    bool merges(const Offsets& s, std::int64_t size) const {
        for (std::size_t k = 0; k < N; ++k) {
            if (strides_[rank_ - 1][k] != s[k] * size) return false;
        }
        return true;
    }

    static bool unit(const Offsets& s) {
        return std::all_of(s.begin(), s.end(), [](std::int64_t v) { return v == 0 || v == 1; });
    }

    std::size_t rank_ = 0;
    std::int64_t rows_ = 1;
    std::array<std::int64_t, MOST_AXES + 1> sizes_{};
    std::array<Offsets, MOST_AXES + 1> strides_{};
};

// Strides of a dense array.
inline Dims dense(const Dims& shape) {
    Dims strides(shape.size());
    std::int64_t step = 1;
    for (std::size_t i = shape.size(); i-- > 0;) {
        strides[i] = step;
        step *= shape[i];
    }
    return strides;
}

}  // namespace subbyte
