// The head and its loss, fused: logits of a few rows at a time, -ln softmax at the targets, gradient.
#pragma once
#include <cmath>
#include <vector>
#include "window_products.h"

// logits [rows, columns] = rows [rows, H] times the packed head, plus its bias.
template <class S>
INLINE void head_product(const S *rows, int count, int64_t H, const S *head, const float *bias,
                         int64_t columns, float *logits) {
    in_groups(columns / WIDTH, count, [&](int64_t v, auto n_) {
        constexpr int N = n_;
        const int64_t first = v * WIDTH;
        in_tiles<ROWS<N>>(0, count, [&](int b, auto m_) {
            constexpr int M = m_;
            vec a[M][N];
            UNROLL for (int m = 0; m < M; m++)
                UNROLL for (int n = 0; n < N; n++) a[m][n] = load(bias + first + n * WIDTH);
            multiply_columns<S, M, N>(a, rows + int64_t(b) * H, H, head + packed<S>(first, H), int(H));
            UNROLL for (int m = 0; m < M; m++)
                UNROLL for (int n = 0; n < N; n++)
                    store(logits + (b + m) * columns + first + n * WIDTH, a[m][n]);
        });
    });
}

// The greatest of a row of logits, whole vectors of them.
INLINE float top_of(const float *row, int64_t columns) {
    vec highest = splat(-INFINITY);
    for (int64_t v = 0; v < columns; v += WIDTH) highest = greater(load(row + v), highest);
    float top = highest[0];
    for (int i = 1; i < WIDTH; i++) top = highest[i] > top ? highest[i] : top;
    return top;
}

// Replace a row of logits by e^(logit - top); returns the sum.
INLINE float exponentials(float *row, int64_t columns, float top) {
    vec sums = vec{};
    float sum = 0;
    for (int64_t v = 0; v < columns; v += WIDTH) {
        vec below = load(row + v) - top;
        vec e = below < -87.0f ? vec{} : Functions<float>::exponential(below);  // no denormal numbers
        store(row + v, e);
        sums += e;
    }
    for (int i = 0; i < WIDTH; i++) sum += sums[i];
    return sum;
}

// Soft targets q, mixed into the loss with a weight: see SoftTargets in charlm/native/model.py.
// chances: [symbols] for every row, or null for none.
struct SoftTargets { const float *chances; int64_t symbols; double weight; };

// One row of logits, whole vectors of them; returns -ln p of the target, and leaves in the row
// e^(logit - top). gradient, if any: (softmax - (1 - weight) one at the target - weight q) * scale.
template <class S>
static float row_loss(float *row, int64_t target, int64_t columns, float scale, S *gradient,
                      const SoftTargets &soft = {}) {
    const float top = top_of(row, columns), wanted = row[target];
    const float sum = exponentials(row, columns, top);
    if (gradient) {
        const float share = scale / sum, softly = float(scale * soft.weight);
        float at_target = row[target] * share - (scale - softly);
        if (soft.chances) at_target -= softly * soft.chances[target];
        for (int64_t v = 0; v < columns; v += WIDTH) {
            vec g = load(row + v) * share;
            if (soft.chances) g -= softly * load_some(soft.chances + v, soft.symbols - v);
            store(gradient + v, g);
        }
        narrow(at_target, gradient + target);
    }
    return top + std::log(sum) - wanted;
}

// A head, packed, and its bias, [columns], far below zero past the end of the `symbols`.
template <class S> struct Head { const S *weights; const float *bias; int64_t H, columns, symbols; };

// f(n, logits of row n) for all rows [count, H].
template <class S, class F>
void for_logits(const S *rows, int64_t count, const Head<S> &head, int64_t threads, const F &f) {
    constexpr int64_t AT_ONCE = 32;
    parallel_for(threads, (count + AT_ONCE - 1) / AT_ONCE, [&](int64_t from, int64_t until) {
        std::vector<float> logits(AT_ONCE * head.columns);
        for (int64_t n = from * AT_ONCE; n < std::min(count, until * AT_ONCE); n += AT_ONCE) {
            const int here = int(std::min(AT_ONCE, count - n));
            head_product(rows + n * head.H, here, head.H, head.weights, head.bias, head.columns, logits.data());
            for (int i = 0; i < here; i++) f(n + i, logits.data() + i * head.columns);
        }
    });
}

// losses [count]: -ln p of the targets. gradient [count, columns] of the mean loss, or null.
template <class S>
void head_loss(const S *rows, int64_t count, const Head<S> &head, const int64_t *targets,
               const SoftTargets &soft, float *losses, S *gradient, int64_t threads) {
    for_logits(rows, count, head, threads, [&](int64_t n, float *row) {
        SoftTargets own = soft;
        if (own.chances) own.chances += n * own.symbols;
        losses[n] = row_loss(row, targets[n], head.columns, 1.0f / float(count),
                             gradient ? gradient + n * head.columns : nullptr, own);
    });
}

// logs [count, symbols]: ln p of every symbol.
template <class S>
void head_logs(const S *rows, int64_t count, const Head<S> &head, float *logs, int64_t threads) {
    for_logits(rows, count, head, threads, [&](int64_t n, float *row) {
        float *to = logs + n * head.symbols;
        memcpy(to, row, head.symbols * sizeof(float));
        const float top = top_of(row, head.columns);
        const float log = std::log(exponentials(row, head.columns, top));
        for (int64_t v = 0; v < head.symbols; v += WIDTH)
            store_some(to + v, (load_some(to + v, head.symbols - v) - top) - log, head.symbols - v);
    });
}
