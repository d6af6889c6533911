// Random small plans for tests: operators whose claims are mostly right, on values made so far.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "subbyte/spec.h"

namespace subbyte_tests {

using namespace subbyte;

using Bytes = std::vector<std::uint8_t>;

inline std::mt19937_64 generator(1);

inline std::int64_t pick(std::int64_t lo, std::int64_t hi) {
    return std::uniform_int_distribution<std::int64_t>(lo, hi)(generator);
}

inline bool chance(int percent) {
    return pick(1, 100) <= percent;
}

// Constants must outlive the specification that borrows them.
struct Constants {
    std::vector<std::unique_ptr<std::vector<std::int32_t>>> wide;
    std::vector<std::unique_ptr<std::vector<std::int16_t>>> half;
    std::vector<std::unique_ptr<Bytes>> narrow;

    ArraySpec i32(Dims shape, std::int64_t lo, std::int64_t hi) {
        wide.push_back(std::make_unique<std::vector<std::int32_t>>(count(shape)));
        for (auto& v : *wide.back())
            v = static_cast<std::int32_t>(pick(lo, hi));
        return {Storage::i32, std::move(shape), wide.back()->data()};
    }
    ArraySpec i16(Dims shape, std::int64_t lo, std::int64_t hi) {
        half.push_back(std::make_unique<std::vector<std::int16_t>>(count(shape)));
        for (auto& v : *half.back())
            v = static_cast<std::int16_t>(pick(lo, hi));
        return {Storage::i16, std::move(shape), half.back()->data()};
    }
    ArraySpec u8(Dims shape, std::int64_t lo, std::int64_t hi) {
        narrow.push_back(std::make_unique<Bytes>(count(shape)));
        for (auto& v : *narrow.back())
            v = static_cast<std::uint8_t>(pick(lo, hi));
        return {Storage::u8, std::move(shape), narrow.back()->data()};
    }

    static std::size_t count(const Dims& shape) {
        std::int64_t n = 1;
        for (const std::int64_t d : shape)
            n *= d;
        return static_cast<std::size_t>(n);
    }
};

inline ValueSpec random_value(Dims shape) {
    ValueSpec v;
    v.shape = std::move(shape);
    const bool wide = chance(25);
    v.storage = wide ? Storage::i16 : Storage::u8;
    const std::int64_t most = chance(70) ? 255 : pick(1, 255);
    v.lo = wide ? -32768 : 0;
    v.hi = wide ? 32767 : most;
    v.zero_point = wide ? pick(-300, 300) : pick(0, most);
    v.scale = 0.125 * static_cast<double>(pick(1, 9));
    return v;
}

// Adds one random operator and its result to a plan; its claims are mostly right.
class Grower {
public:
    Grower(PlanSpec& plan, Constants& constants) : plan_(plan), constants_(constants) {}

    void grow() {
        op_ = OpSpec{};
        op_.name = "op" + std::to_string(plan_.ops.size());
        source_ = pick(0, static_cast<std::int64_t>(plan_.values.size()) - 1);
        op_.inputs = {source_};
        result_ = random_value(shape());
        using Make = void (Grower::*)();
        static const Make MAKERS[] = {&Grower::conv,   &Grower::conv,      &Grower::conv,    &Grower::conv,
                                      &Grower::linear, &Grower::add,       &Grower::mul,     &Grower::rescale,
                                      &Grower::table,  &Grower::pool,      &Grower::mean,    &Grower::argmax,
                                      &Grower::soft,   &Grower::concat,    &Grower::reshape, &Grower::pad,
                                      &Grower::slice,  &Grower::transpose, &Grower::resize,  &Grower::trim,
                                      &Grower::linear_norm, &Grower::channel_stack};
        (this->*MAKERS[pick(0, static_cast<std::int64_t>(std::size(MAKERS)) - 1)])();
        if (chance(10)) spoil();
        op_.output = static_cast<std::int64_t>(plan_.values.size());
        result_.name = "v" + std::to_string(op_.output);
        plan_.values.push_back(result_);
        plan_.ops.push_back(op_);
    }

private:
    const ValueSpec& x() const { return plan_.values[static_cast<std::size_t>(source_)]; }
    const Dims& shape() const { return x().shape; }

    void limits() {
        op_.attributes["lo"] = {chance(70) ? result_.lo : pick(result_.lo, result_.hi)};
        op_.attributes["hi"] = {chance(70) ? result_.hi : pick(op_.attributes["lo"][0], result_.hi)};
    }

    std::int64_t multiplier() const { return chance(80) ? pick(1 << 30, INT32_MAX) : pick(INT32_MIN, INT32_MAX); }
    std::int64_t shift() const { return chance(70) ? pick(30, 44) : pick(1, 62); }

    void columns(std::int64_t count, std::int64_t depth) {
        limits();
        op_.attributes["pre_shift"] = {chance(75) ? 0 : pick(1, 20)};
        const std::int64_t levels = chance(50) ? 256 : pick(2, 20);
        const bool grouped = chance(25);
        const std::int64_t size = grouped ? pick(1, depth + 1) : depth;
        const std::int64_t groups = count * ((depth + size - 1) / size);
        op_.arrays["table"] = grouped        ? constants_.i16({levels}, -8, 7)
                              : chance(80) ? constants_.i16({levels}, -128, 127)
                              : chance(50) ? constants_.i16({levels}, -32768, 32767)
                                           : constants_.i32({levels}, -70000, 70000);
        op_.arrays["weight_zero"] = constants_.i32({groups}, 0, 0);
        if (grouped) {
            op_.arrays["group_size"] = constants_.i32({1}, size, size);
            op_.arrays["group_scale"] = constants_.i32({groups}, 1, 16);
        }
        op_.arrays["bias"] = constants_.i32({count}, -5000, 5000);
        pair("m", "n", count);
        if (chance(30)) pair("m_neg", "n_neg", count);
        levels_ = levels;
    }

    void pair(const char* m, const char* n, std::int64_t count) {
        const std::int64_t middle = multiplier();
        op_.arrays[m] = constants_.i32({count}, std::max<std::int64_t>(INT32_MIN, middle - 9999),
                                       std::min<std::int64_t>(INT32_MAX, middle + 9999));
        const std::int64_t least = shift();
        op_.arrays[n] = constants_.i32({count}, least, std::min<std::int64_t>(62, least + 2));
    }

    void conv() {
        op_.kind = "int_conv";
        if (shape().size() != 3) return;
        const std::int64_t channels = shape()[2];
        const std::int64_t groups = chance(40) ? channels : 1;
        const std::int64_t outputs = groups * (groups == 1 ? pick(1, 70) : pick(1, 2));
        const bool usual = chance(40);
        const std::int64_t most = usual ? 2 : 3;
        const Dims kernel = usual ? Dims{3, 3} : Dims{pick(1, 4), pick(1, 4)}, stride = {pick(1, most), pick(1, most)},
                   dilation = usual ? Dims{1, 1} : Dims{pick(1, 2), pick(1, 2)};
        const Dims padding = {pick(0, 3), pick(0, 3), pick(0, 3), pick(0, 3)};
        op_.attributes = {{"stride", stride}, {"dilation", dilation}, {"padding", padding}, {"groups", {groups}}};
        for (std::size_t i = 0; i < 2; ++i)
            result_.shape[i] =
                (shape()[i] + padding[i] + padding[2 + i] - (kernel[i] - 1) * dilation[i] - 1) / stride[i] + 1;
        result_.shape[2] = outputs;
        columns(outputs, kernel[0] * kernel[1] * (channels / groups));
        op_.arrays["codes"] = constants_.u8({outputs, kernel[0], kernel[1], channels / groups}, 0, levels_ - 1);
    }

    void linear() {
        op_.kind = "int_linear";
        if (shape().empty()) return;
        if (chance(30)) {
            op_.kind = "int_linear_per_token";
            op_.attributes["largest"] = {pick(1, 255)};
        }
        const std::int64_t depth = shape().back();
        const std::int64_t outputs = pick(1, 70);
        result_.shape.back() = outputs;
        columns(outputs, depth);
        if (op_.attributes.count("largest") != 0 && x().storage == Storage::i16 && chance(90))
            op_.attributes["pre_shift"] = {pick(8, 20)};
        op_.arrays["codes"] = constants_.u8({outputs, depth}, 0, levels_ - 1);
    }

    void linear_norm() {
        const bool place = chance(50);
        op_.kind = place ? "int_linear_argmax" : "int_linear_norm";
        if (shape().empty()) return;
        const std::int64_t outputs = pick(1, 40);
        const std::int64_t levels = pick(2, 20);
        op_.arrays["table"] = constants_.i16({levels}, -200, 200);
        op_.arrays["weight_zero"] = constants_.i32({outputs}, 0, 0);
        op_.arrays["codes"] = constants_.u8({outputs, shape().back()}, 0, levels - 1);
        if (place) {
            result_.shape.pop_back();
            int16();
            return;
        }
        result_.shape.back() = outputs;
        result_.zero_point = 0;
        op_.attributes["hi"] = {chance(90) ? result_.hi : pick(0, 40000)};
    }

    void channel_stack() {
        op_.kind = "int_channel_stack";
        if (shape().size() != 2) return;
        Dims kernels, shifts, pools, sides = shape();
        std::int64_t depth = 0;
        for (std::int64_t stages = pick(1, 3); stages > 0; --stages) {
            kernels.push_back(pick(1, 3));
            shifts.push_back(pick(0, 8));
            pools.push_back(pick(1, 2));
            depth += kernels.back() * kernels.back();
            for (std::int64_t& side : sides)
                side = (side - kernels.back() + 1) / pools.back();
        }
        const std::int64_t channels = pick(1, 40);
        const std::int64_t levels = pick(2, 20);
        op_.arrays["table"] = constants_.i16({levels}, -100, 100);
        op_.arrays["weight_zero"] = constants_.i32({channels}, 0, 0);
        op_.arrays["codes"] = constants_.u8({channels, depth}, 0, levels - 1);
        result_.shape = {channels * sides[0] * sides[1]};
        result_.zero_point = 0;
        op_.attributes = {
            {"kernels", kernels}, {"shifts", shifts}, {"pools", pools}, {"hi", {chance(90) ? result_.hi : pick(0, 40000)}}};
    }

    void second() {
        if (chance(50)) {
            std::vector<std::int64_t> fitting;
            for (std::size_t i = 0; i < plan_.values.size(); ++i) {
                if (plan_.values[i].shape.size() == shape().size()) fitting.push_back(static_cast<std::int64_t>(i));
            }
            op_.inputs.push_back(
                fitting[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(fitting.size()) - 1))]);
            const Dims& other = plan_.values[static_cast<std::size_t>(op_.inputs[1])].shape;
            for (std::size_t d = 0; d < other.size(); ++d)
                result_.shape[d] = std::max(other[d], result_.shape[d]);
            return;
        }
        Dims constant;
        for (const std::int64_t d : shape())
            constant.push_back(chance(50) ? 1 : d);
        op_.arrays["b"] = constants_.i32(constant, -500, 500);
    }

    void add() {
        op_.kind = "int_add";
        second();
        limits();
        op_.arrays["m"] = constants_.i32({2}, INT32_MIN, INT32_MAX);
        op_.attributes["n"] = {shift()};
    }

    void mul() {
        op_.kind = "int_mul";
        second();
        limits();
        op_.attributes["m"] = {pick(-(1 << 20), 1 << 20)};
        op_.attributes["n"] = {shift()};
    }

    void rescale() {
        op_.kind = "int_rescale";
        limits();
        op_.attributes["m"] = {multiplier()};
        op_.attributes["n"] = {shift()};
    }

    void table() {
        op_.kind = "int_lut";
        op_.arrays["table"] = result_.storage == Storage::u8 ? constants_.u8({256}, result_.lo, result_.hi)
                                                             : constants_.i16({256}, result_.lo, result_.hi);
    }

    void pool() {
        const bool largest = chance(50);
        op_.kind = largest ? "max_pool" : "int_avg_pool";
        if (shape().size() != 3) return;
        const Dims kernel = {pick(1, 3), pick(1, 3)}, stride = {pick(1, 3), pick(1, 3)};
        op_.attributes = {{"kernel", kernel}, {"stride", stride}, {"padding", {0, 0, 0, 0}}, {"ceil_mode", {0}}};
        for (std::size_t i = 0; i < 2; ++i)
            result_.shape[i] = (shape()[i] - kernel[i]) / stride[i] + 1;
        if (largest) {
            op_.attributes["dilation"] = {1, 1};
            op_.attributes["channels_last"] = {1};
            keep_type();
            return;
        }
        op_.attributes["count_include_pad"] = {pick(0, 1)};
        limits();
        const std::int64_t cells = kernel[0] * kernel[1];
        op_.arrays["divisors"] = constants_.i32({1}, cells, cells);
        pair("m", "n", 1);
    }

    void mean() {
        op_.kind = "int_mean";
        Dims axes;
        result_.shape.clear();
        for (std::size_t d = 0; d < shape().size(); ++d) {
            if (chance(50)) {
                axes.push_back(static_cast<std::int64_t>(d) + 1);
            } else {
                result_.shape.push_back(shape()[d]);
            }
        }
        limits();
        op_.attributes["axes"] = axes;
        op_.attributes["keepdims"] = {0};
        op_.attributes["m"] = {multiplier()};
        op_.attributes["n"] = {shift()};
    }

    std::int64_t axis() const { return pick(1, std::max<std::int64_t>(1, static_cast<std::int64_t>(shape().size()))); }

    void int16() {
        result_.storage = Storage::i16;
        result_.lo = -32768;
        result_.hi = 32767;
        result_.zero_point = 0;
    }

    void argmax() {
        op_.kind = "argmax";
        const std::int64_t a = axis();
        op_.attributes = {{"axis", {a}}, {"keepdims", {0}}};
        if (static_cast<std::int64_t>(shape().size()) >= a) result_.shape.erase(result_.shape.begin() + a - 1);
        int16();
    }

    void soft() {
        op_.kind = chance(50) ? "int_softmax" : "int_log_softmax";
        int16();
        op_.attributes = {{"axis", {axis()}}, {"m", {multiplier()}}, {"n", {shift()}}};
        if (op_.kind == "int_softmax") return;
        limits();
        op_.attributes["m_in"] = {multiplier()};
        op_.attributes["m_log"] = {multiplier()};
        op_.attributes["shift"] = {shift()};
    }

    void keep_type() {
        const Dims moved = result_.shape;
        result_ = x();
        result_.shape = moved;
    }

    void concat() {
        op_.kind = "concat";
        keep_type();
        const std::int64_t a = axis();
        const std::int64_t times = pick(1, 3);
        for (std::int64_t i = 1; i < times; ++i)
            op_.inputs.push_back(source_);
        op_.attributes["axis"] = {a};
        if (!shape().empty()) result_.shape[static_cast<std::size_t>(a - 1)] *= times;
    }

    void reshape() {
        op_.kind = "reshape";
        keep_type();
        std::shuffle(result_.shape.begin(), result_.shape.end(), generator);
        if (chance(30)) result_.shape = {static_cast<std::int64_t>(Constants::count(shape()))};
    }

    void pad() {
        op_.kind = "int_pad";
        keep_type();
        Dims before = {0}, after = {0};
        for (std::int64_t& d : result_.shape) {
            before.push_back(pick(0, 2));
            after.push_back(pick(0, 2));
            d += before.back() + after.back();
        }
        op_.attributes = {{"before", before}, {"after", after}, {"fill", {pick(x().lo, x().hi)}}};
    }

    void slice() {
        op_.kind = "slice";
        keep_type();
        Dims starts = {0}, ends = {1}, steps = {1};
        for (std::int64_t& d : result_.shape) {
            starts.push_back(pick(0, d - 1));
            ends.push_back(pick(starts.back() + 1, d));
            steps.push_back(pick(1, 3));
            d = (ends.back() - starts.back() + steps.back() - 1) / steps.back();
        }
        op_.attributes = {{"starts", starts}, {"ends", ends}, {"steps", steps}};
    }

    void transpose() {
        op_.kind = "transpose";
        keep_type();
        Dims perm;
        for (std::size_t d = 0; d < shape().size(); ++d)
            perm.push_back(static_cast<std::int64_t>(d) + 1);
        std::shuffle(perm.begin(), perm.end(), generator);
        for (std::size_t d = 0; d < perm.size(); ++d)
            result_.shape[d] = shape()[static_cast<std::size_t>(perm[d] - 1)];
        perm.insert(perm.begin(), 0);
        op_.attributes["perm"] = perm;
    }

    void resize() {
        op_.kind = "resize_nearest";
        keep_type();
        if (shape().size() != 3) return;
        result_.shape[0] = pick(1, 9);
        result_.shape[1] = pick(1, 9);
        op_.attributes = {{"size", {result_.shape[0], result_.shape[1]}}, {"channels_last", {1}}};
    }

    void trim() {
        op_.kind = "int_trim";
        keep_type();
        if (shape().empty()) return;
        const std::int64_t channels = shape().back(), pairing = pick(0, 2);
        const std::int64_t run = pairing == 0 && chance(50) ? pick(1, 64) : 0;
        const std::int64_t tables = run != 0 ? pick(1, 7) : pairing == 0 ? 1 : 2;
        Dims reach;
        for (std::int64_t i = 0; run != 0 && i < tables; ++i)
            reach.push_back(i + 1 == tables ? 255 : 10 * i);
        if (pairing == 2) result_.shape.back() *= 4;
        op_.attributes = {{"group", {chance(60) ? channels : 1}}, {"pairing", {pairing}}, {"run", {run}}, {"reach", reach}};
        op_.arrays["tables"] = constants_.u8({tables, 256}, 0, 255);
    }

    // One claim becomes false.
    void spoil() {
        if (chance(30) && !result_.shape.empty()) {
            result_.shape[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(result_.shape.size()) - 1))] +=
                pick(-2, 2);
        } else if (!op_.attributes.empty() && chance(60)) {
            auto item = op_.attributes.begin();
            std::advance(item, pick(0, static_cast<std::int64_t>(op_.attributes.size()) - 1));
            if (!item->second.empty()) item->second[0] = chance(50) ? pick(-3, 300) : pick(INT64_MIN, INT64_MAX);
        } else if (!op_.arrays.empty()) {
            auto item = op_.arrays.begin();
            std::advance(item, pick(0, static_cast<std::int64_t>(op_.arrays.size()) - 1));
            // Only ever smaller: the data behind a larger claim would not exist.
            if (!item->second.shape.empty()) item->second.shape[0] -= 1;
        } else {
            op_.inputs.push_back(pick(-1, static_cast<std::int64_t>(plan_.values.size())));
        }
    }

    PlanSpec& plan_;
    Constants& constants_;
    OpSpec op_;
    ValueSpec result_;
    std::int64_t source_ = 0;
    std::int64_t levels_ = 256;
};

}  // namespace subbyte_tests
