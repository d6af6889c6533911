// What one core can do at most, measured where it is asked: arithmetic from registers, and reading memory.
#pragma once

#include <cstdint>
#include <string>

namespace subbyte {

// Multiply-accumulates of bytes per nanosecond with the best instructions that the kernels of an instruction set use
// for exact int8; sums of few bits in int16 may exceed it. Takes some milliseconds. Raises PlanError for a name that
// this CPU does not run.
double mac_roof(const std::string& isa);

// The same where two products may leave the int16 that the kernels add in; 0 where kernels add in int32.
double wide_mac_roof(const std::string& isa);

// Sums that become stored integers per nanosecond beside such products, by the cheapest rule (one multiply-add in
// float32): by how much they slow the products down. 0 where it is not measured for the instruction set.
double rescale_roof(const std::string& isa);

// Multiply-accumulates per nanosecond of a 3x3 depthwise convolution of bytes, rescales included, in the first cache.
// 0 where it is not measured for the instruction set.
double depthwise_roof(const std::string& isa);

// The same for the up to sixteen channels of a pixel that whole vectors leave over, which lie in pieces.
double depthwise_pieces_roof(const std::string& isa);

// depthwise_roof where the sums of channels are not proved to fit int16; 0 where kernels add in int32.
double wide_depthwise_roof(const std::string& isa);

// Bytes per nanosecond of reading a buffer of so many bytes again and again: from the cache where it fits.
double read_roof(std::int64_t bytes);

}  // namespace subbyte
