// Threads that compute the pieces of a job, kept between jobs.
//
// A job is cut into more pieces than there are threads, and every thread takes the next one when it has
// finished one: a thread that the system has taken off its core holds up its own piece alone. Waiting
// threads look for work for some microseconds, then sleep, so that they take no time from others.
// Results must not depend on which thread computes a piece: they depend on the pieces alone.
#pragma once
#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#endif
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

class Pool {
  public:
    // Call body(piece) for every piece from 0 to `pieces` - 1, on at most `threads` threads, this one
    // among them. Returns when all are done; throws the first exception that a piece has thrown. A call
    // from within a piece, or from another thread during a job, computes all pieces itself.
    template <class F> void run(int64_t threads, int64_t pieces, const F &body) {
        const std::unique_lock<std::mutex> only(running, std::try_to_lock);
        if (threads > pieces) threads = pieces;
        if (threads > MOST_THREADS) threads = MOST_THREADS;
        if (threads < 2 || pieces > MOST_PIECES || !only) {
            for (int64_t piece = 0; piece < pieces; piece++) body(piece);
            return;
        }
        start(threads - 1);
        job.compute = [](const void *of, int64_t piece) { (*(const F *)of)(piece); };
        job.body = &body;
        unfinished.store(pieces, std::memory_order_relaxed);
        number = (number + 1) % (1 << 24);
        left.store(uint64_t(number) << 40 | uint64_t(threads) << 28 | uint64_t(pieces));
        if (sleeping.load()) {
            { std::lock_guard<std::mutex> lock(mutex); }
            work.notify_all();
        }
        compute_pieces(0);
        wait_for_all();
        if (error) std::rethrow_exception(std::exchange(error, nullptr));
    }

  private:
    static constexpr int64_t MOST_THREADS = (1 << 12) - 1, MOST_PIECES = (1 << 28) - 1;
    // With 100, 5 % more when idle, but beside a busy program 40 % less, and 20 % less beside its like.
    static constexpr std::chrono::microseconds LOOKS_FOR_WORK{25};

    struct { void (*compute)(const void *, int64_t); const void *body; } job;
    // The number of the job, its threads, and its pieces that are not taken. A thread that takes a piece,
    // by an exchange of this one value, may read `job`: it cannot change before that piece is finished.
    std::atomic<uint64_t> left{0};
    std::atomic<int64_t> unfinished{0};
    std::atomic<int> sleeping{0};
    std::atomic<bool> caller_sleeps{false};
    std::mutex running, mutex;
    std::condition_variable work, finished;
    std::exception_ptr error;
    uint32_t number = 0;
    int64_t started = 0;

    static bool has_work(uint64_t state, int64_t thread) {
        return (state & MOST_PIECES) && thread < int64_t(state >> 28 & MOST_THREADS);
    }

    // Wait for a while, in the hope that `done` becomes true soon. Returns true if it has.
    template <class F> static bool soon(F done) {
        const auto end = std::chrono::steady_clock::now() + LOOKS_FOR_WORK;
        for (int i = 1;; i++) {
            if (done()) return true;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
            if (i % 64 == 0 && std::chrono::steady_clock::now() > end) return false;
        }
    }

    void start(int64_t helpers) {
        if (started >= helpers) return;
#if !defined(_WIN32)
        sigset_t all, before;  // signals are for the threads of Python
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
        try {
            while (started < helpers) {
                std::thread(&Pool::help, this, started + 1).detach();
                started++;
            }
        } catch (const std::system_error &) {}  // the system gives no more: with those that there are
#if !defined(_WIN32)
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
#endif
    }

    void help(int64_t thread) {
        const auto called = [&] { return has_work(left.load(), thread); };
        for (;;) {
            if (!soon(called)) {
                std::unique_lock<std::mutex> lock(mutex);
                sleeping++;
                work.wait(lock, called);
                sleeping--;
            }
            compute_pieces(thread);
        }
    }

    void compute_pieces(int64_t thread) {
        for (uint64_t seen = left.load(); has_work(seen, thread);) {
            if (!left.compare_exchange_weak(seen, seen - 1)) continue;
            try {
                job.compute(job.body, int64_t((seen & MOST_PIECES) - 1));
            } catch (...) {
                std::lock_guard<std::mutex> lock(mutex);
                if (!error) error = std::current_exception();
            }
            if (unfinished.fetch_sub(1) == 1 && caller_sleeps.load()) {
                std::lock_guard<std::mutex> lock(mutex);
                finished.notify_one();
            }
            seen = left.load();
        }
    }

    void wait_for_all() {
        const auto done = [&] { return unfinished.load() == 0; };
        if (soon(done)) return;
        std::unique_lock<std::mutex> lock(mutex);
        caller_sleeps = true;
        finished.wait(lock, done);
        caller_sleeps = false;
    }
};

// The pool of this process; never deleted, because its threads wait until the process ends. The copy of
// a process that forks has none of its threads, and gets a pool of its own.
inline Pool &pool() {
    static std::atomic<Pool *> here{[] {
#if !defined(_WIN32)
        pthread_atfork(nullptr, nullptr, [] { here = new Pool; });
#endif
        return new Pool;
    }()};
    return *here.load();
}

// f(from, until) for all of [0, count), in pieces of `grain`.
template <class F> void parallel_pieces(int64_t threads, int64_t count, int64_t grain, const F &f) {
    pool().run(threads, (count + grain - 1) / grain, [&](int64_t piece) {
        f(piece * grain, (piece + 1) * grain < count ? (piece + 1) * grain : count);
    });
}

// f(from, until) for all of [0, count), in a few pieces for every thread.
template <class F> void parallel_for(int64_t threads, int64_t count, const F &f) {
    const int64_t pieces = threads < 2 ? 1 : 4 * threads;
    parallel_pieces(threads, count, count / pieces > 1 ? (count + pieces - 1) / pieces : 1, f);
}
