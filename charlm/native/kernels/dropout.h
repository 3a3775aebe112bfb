// Dropout by random bytes of a counter: the same as charlm/models/dropout.py, which names its sources.
#pragma once
#include "pool.h"
#include "vector.h"

// One draw, for the outputs of a layer: [T, B, padded]. threshold: the least byte that keeps its element;
// first: the number of the first lane.
struct Dropout { uint64_t seed; int64_t threshold, T, B, H, padded, first; };

constexpr uint64_t GAMMA = 0x9E3779B97F4A7C15;
constexpr uint64_t WEIGHT_SEED_OFFSET = 128;  // of the seeds for W_hh

template <class N> INLINE N mixed(N x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

// to = rows where a byte keeps its element, scaled to the same mean, else zero; they may be the same.
template <class S> void drop_rows(const S *rows, S *to, const Dropout &d, int64_t threads) {
    constexpr int64_t WORDS = WIDTH / 2, BYTES = 8 * WORDS;  // in a vector
    typedef uint64_t words __attribute__((vector_size(BYTES)));
    const float scale = 256.0f / float(256 - d.threshold);
    const int64_t count = (d.H + 7) / 8;  // words of one lane at one time
    const uint64_t key = mixed(d.seed * GAMMA);
    parallel_pieces(threads, d.T * d.B, 64, [&](int64_t from, int64_t until) {
        for (int64_t n = from; n < until; n++) {
            const uint64_t lane = mixed(key + uint64_t(d.first + n % d.B + 1) * GAMMA);
            words at;
            for (int64_t i = 0; i < WORDS; i++)
                at[i] = lane + uint64_t(n / d.B * count + i + 1) * GAMMA;
            for (int64_t first = 0; first < d.H; first += BYTES, at += uint64_t(WORDS) * GAMMA) {
                const words drawn = mixed(at);
                uint8_t bytes[BYTES];
                memcpy(bytes, &drawn, sizeof bytes);
                for (int64_t u = first; u < first + BYTES && u < d.padded; u += WIDTH) {
                    const vec kept = load(bytes + (u - first)) >= float(d.threshold) ? splat(scale) : vec{};
                    store(to + n * d.padded + u, load(rows + n * d.padded + u) * kept);
                }
            }
        }
    });
}
