// Jobs for pool.h: every piece once, exceptions, calls from within a piece and from several threads.
// Ends with 0 if all is right. Compiled with the thread sanitizer by test_pool.py.
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>
#include "pool.h"

static bool computes_every_piece_once(int64_t threads, int64_t pieces) {
    std::vector<int> times(size_t(pieces), 0);
    pool().run(threads, pieces, [&](int64_t piece) { times[size_t(piece)]++; });
    for (const int one : times)
        if (one != 1) return false;
    return true;
}

static bool throws_what_a_piece_throws() {
    std::atomic<int> computed{0};
    try {
        pool().run(3, 50, [&](int64_t piece) {
            computed++;
            if (piece == 7) throw std::runtime_error("seven");
        });
    } catch (const std::runtime_error &error) {
        return std::string(error.what()) == "seven" && computed == 50 && computes_every_piece_once(3, 20);
    }
    return false;
}

static bool computes_a_job_within_a_piece() {
    std::atomic<int> computed{0};
    pool().run(2, 4, [&](int64_t) { pool().run(2, 5, [&](int64_t) { computed++; }); });
    return computed == 20;
}

static bool computes_jobs_of_several_threads() {
    std::atomic<int> right{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; i++)
        callers.emplace_back([&] {
            for (int n = 1; n < 200; n++) right += computes_every_piece_once(1 + n % 4, n);
        });
    for (std::thread &caller : callers) caller.join();
    return right == 4 * 199;
}

int main() {
    for (int n = 0; n < 2000; n++)
        if (!computes_every_piece_once(1 + n % 5, n % 40)) return puts("a piece is missing"), 1;
    for (int n = 0; n < 30; n++) {  // the others are asleep by then
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        if (!computes_every_piece_once(3, 9)) return puts("a piece is missing after a sleep"), 1;
    }
    if (!throws_what_a_piece_throws()) return puts("an exception is lost"), 1;
    if (!computes_a_job_within_a_piece()) return puts("a job within a piece fails"), 1;
    if (!computes_jobs_of_several_threads()) return puts("jobs of several threads fail"), 1;
    return 0;
}
