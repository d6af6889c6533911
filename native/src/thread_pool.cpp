#include "subbyte/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace subbyte {
namespace {

constexpr int SPINS = 4000;  // some tens of microseconds

void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

long process() {
#if defined(__unix__) || defined(__APPLE__)
    return static_cast<long>(getpid());
#else
    return 0;
#endif
}

class Pool {
public:
    explicit Pool(long owner) : owner_(owner) {}

    long owner() const { return owner_; }

    bool try_run(int parts, void (*job)(void*, int), void* context) {
        std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (!turn.owns_lock()) return false;
        if (!grow(parts - 1)) return false;
        job_ = job;
        context_ = context;
        parts_ = parts;
        left_.store(workers_, std::memory_order_relaxed);
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            generation_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        job(context, 0);
        wait_for([this] { return left_.load(std::memory_order_acquire) == 0; }, done_);
        return true;
    }

private:
    // Start workers until there are enough; they live as long as the process.
    bool grow(int wanted) {
        while (workers_ < wanted) {
            const int part = workers_ + 1;
            const std::uint64_t seen = generation_.load(std::memory_order_relaxed);
            try {
                std::thread([this, part, seen] { work(part, seen); }).detach();
            } catch (const std::system_error&) {
                return false;
            }
            ++workers_;
        }
        return true;
    }

    void work(int part, std::uint64_t seen) {
        for (;;) {
            wait_for([this, seen] { return generation_.load(std::memory_order_acquire) != seen; }, wake_);
            ++seen;
            if (part < parts_) job_(context_, part);
            if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
                const std::lock_guard<std::mutex> lock(mutex_);
                done_.notify_one();
            }
        }
    }

    template <class Ready>
    void wait_for(Ready ready, std::condition_variable& signal) {
        for (int i = 0; i < SPINS; ++i) {
            if (ready()) return;
            pause();
        }
        std::unique_lock<std::mutex> lock(mutex_);
        signal.wait(lock, ready);
    }

    const long owner_;
    std::mutex turn_;  // one job at a time
    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable done_;
    std::atomic<std::uint64_t> generation_{0};
    std::atomic<int> left_{0};
    int workers_ = 0;
    int parts_ = 0;
    void (*job_)(void*, int) = nullptr;
    void* context_ = nullptr;
};

// The pool of this process. A forked child has none of its parent's threads, so it starts over and leaves the
// parent's pool alone. Pools are never destroyed: their threads may still sleep on them while the process exits.
Pool& pool() {
    static std::atomic<Pool*> current{nullptr};
    const long self = process();
    Pool* found = current.load(std::memory_order_acquire);
    while (found == nullptr || found->owner() != self) {
        Pool* fresh = new Pool(self);
        if (current.compare_exchange_strong(found, fresh, std::memory_order_acq_rel)) return *fresh;
        delete fresh;
    }
    return *found;
}

}  // namespace

void parallel(int parts, void (*job)(void*, int), void* context) {
    if (parts > 1 && pool().try_run(parts, job, context)) return;
    for (int part = 0; part < parts; ++part)
        job(context, part);
}

}  // namespace subbyte
