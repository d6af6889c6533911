// Times of the same steps in several rounds.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "subbyte/engine.h"

namespace subbyte {

inline std::int64_t nanoseconds() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

// Laps of several rounds, less what reading the clock costs.
class Stopwatch {
public:
    Stopwatch(std::size_t laps, int rounds) : laps_(laps), spent_(laps * static_cast<std::size_t>(rounds)) {
        for (int i = 0; i < 100; ++i) {
            const std::int64_t before = nanoseconds();
            cost_ = std::min(cost_, nanoseconds() - before);
        }
    }

    void start() { last_ = nanoseconds(); }

    void lap() {
        const std::int64_t time = nanoseconds();
        spent_[next_++] = std::max<std::int64_t>(time - last_ - cost_, 0);
        last_ = time;
    }

    std::vector<Engine::Time> times() const {
        std::vector<Engine::Time> result(laps_);
        std::vector<std::int64_t> of_lap;
        for (std::size_t lap = 0; lap < laps_; ++lap) {
            of_lap.clear();
            for (std::size_t i = lap; i < next_; i += laps_)
                of_lap.push_back(spent_[i]);
            std::sort(of_lap.begin(), of_lap.end());
            result[lap] = {of_lap.front(), of_lap[of_lap.size() / 2]};
        }
        return result;
    }

private:
    std::size_t laps_;
    std::vector<std::int64_t> spent_;  // [round][lap]
    std::size_t next_ = 0;
    std::int64_t last_ = 0;
    std::int64_t cost_ = 1000;
};

}  // namespace subbyte
