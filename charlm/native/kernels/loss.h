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

// One row of logits, whole vectors of them; returns -ln p of the target, and leaves in the row
// e^(logit - top). gradient, if any: (softmax - one at the target) * scale.
template <class S>
static float row_loss(float *row, int64_t target, int64_t columns, float scale, S *gradient) {
    vec highest = splat(-INFINITY), sums = vec{};
    for (int64_t v = 0; v < columns; v += WIDTH) highest = greater(load(row + v), highest);
    float top = highest[0], sum = 0;
    for (int i = 1; i < WIDTH; i++) top = highest[i] > top ? highest[i] : top;
    const float wanted = row[target];
    for (int64_t v = 0; v < columns; v += WIDTH) {
        vec below = load(row + v) - top;
        vec e = below < -87.0f ? vec{} : Functions<float>::exponential(below);  // no denormal numbers
        store(row + v, e);
        sums += e;
    }
    for (int i = 0; i < WIDTH; i++) sum += sums[i];
    if (gradient) {
        const float share = scale / sum;
        const float at_target = row[target] * share - scale;
        for (int64_t v = 0; v < columns; v += WIDTH) store(gradient + v, load(row + v) * share);
        narrow(at_target, gradient + target);
    }
    return top + std::log(sum) - wanted;
}

// losses [count]: -ln p of the targets. rows [count, H]; bias [columns], far below zero past the end
// of the vocabulary; gradient [count, columns] of the mean loss, or null.
template <class S>
void head_loss(const S *rows, int64_t count, int64_t H, const S *head, const float *bias,
               int64_t columns, const int64_t *targets, float *losses, S *gradient,
               int64_t threads) {
    constexpr int64_t AT_ONCE = 32;
    parallel_for(threads, (count + AT_ONCE - 1) / AT_ONCE, [&](int64_t from, int64_t until) {
        std::vector<float> logits(AT_ONCE * columns);
        for (int64_t n = from * AT_ONCE; n < std::min(count, until * AT_ONCE); n += AT_ONCE) {
            const int here = int(std::min(AT_ONCE, count - n));
            head_product(rows + n * H, here, H, head, bias, columns, logits.data());
            for (int i = 0; i < here; i++)
                losses[n + i] = row_loss(logits.data() + i * columns, targets[n + i], columns,
                                         1.0f / float(count),
                                         gradient ? gradient + (n + i) * columns : nullptr);
        }
    });
}
