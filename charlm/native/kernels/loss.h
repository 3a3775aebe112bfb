// The mean of -ln softmax(logits)[target], and its gradient, in one pass over the logits.
#pragma once
#include <cmath>
#include "vector.h"

// One row of V logits; returns -ln p. gradient = (softmax - one at the target) * scale.
template <class S>
static float row_loss(const S *logits, int64_t target, int64_t V, float scale, S *gradient,
                      float *room) {
    const int64_t padded = (V + WIDTH - 1) / WIDTH * WIDTH;
    vec highest = splat(-INFINITY);
    for (int64_t v = 0; v < V; v++) room[v] = widen(logits[v]);
    for (int64_t v = V; v < padded; v++) room[v] = -INFINITY;
    for (int64_t v = 0; v < padded; v += WIDTH) highest = greater(highest, load(room + v));
    float top = highest[0];
    for (int i = 1; i < WIDTH; i++) top = highest[i] > top ? highest[i] : top;
    const float wanted = room[target];
    vec sums = vec{};
    for (int64_t v = 0; v < padded; v += WIDTH) {
        vec e = Functions<float>::exponential(load(room + v) - top);
        store(room + v, e);
        sums += e;
    }
    float sum = 0;
    for (int i = 0; i < WIDTH; i++) sum += sums[i];
    if (gradient) {
        const float share = scale / sum;
        for (int64_t v = 0; v < V; v++) narrow(room[v] * share, gradient + v);
        narrow(room[target] * share - scale, gradient + target);
    }
    return top + std::log(sum) - wanted;
}

template <class S>
static double loss(const S *logits, const int64_t *targets, int64_t N, int64_t V, S *gradient,
                   int64_t threads) {
    double total = 0;
    const int64_t padded = (V + WIDTH - 1) / WIDTH * WIDTH;
#pragma omp parallel num_threads(int(threads)) reduction(+ : total)
    {
        float *room = new float[padded];
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n++)
            total += row_loss(logits + n * V, targets[n], V, 1.0f / float(N),
                              gradient ? gradient + n * V : nullptr, room);
        delete[] room;
    }
    return total / double(N);
}
