// One pool of worker threads per process: they spin briefly after a job, then sleep.
#pragma once

namespace subbyte {

// Call job(context, 0..parts-1), on several threads where the pool is free, else on the caller's alone (so several
// callers never wait for each other). job must not throw.
void parallel(int parts, void (*job)(void* context, int part), void* context);

}  // namespace subbyte
