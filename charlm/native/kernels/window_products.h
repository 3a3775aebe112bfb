// Products over a whole window: the gradients of weights, and of a layer's inputs.
#pragma once
#include "cells.h"
#include "pool.h"

constexpr int BLOCK = 512;  // rows of a window that are packed and multiplied at a time

// PANELS neighbours of N vectors of columns each, `apart` elements between them: `count` rows as
// [count / STEP][N][WIDTH][STEP], padded up with zeros to a multiple of STEP. The sums of the
// columns are added to `sums`.
template <int PANELS, int N, class S>
INLINE void pack_panels(S *to, int64_t apart, const S *rows, int64_t stride, int count, float *sums) {
    const S nothing[PANELS * N * WIDTH] = {};
    vec total[PANELS * N] = {};
    for (int i = 0; i < count; i += STEP<S>, rows += STEP<S> * stride) {
        const S *next = i + 1 < count ? rows + stride : nothing;
        prefetch(rows + 16 * stride, PANELS * N * WIDTH);
        prefetch(rows + 17 * stride, PANELS * N * WIDTH);
        UNROLL for (int n = 0; n < PANELS * N; n++) {
            const S *row = rows + n * WIDTH;
            interleave(row, next + n * WIDTH,
                       to + n / N * apart + (int64_t(i) * N + n % N * STEP<S>) * WIDTH);
            if (sums) total[n] += load(row);
            if (sums && STEP<S> == 2) total[n] += load(next + n * WIDTH);
        }
    }
    if (sums)
        UNROLL for (int n = 0; n < PANELS * N; n++)
            store(sums + n * WIDTH, load(sums + n * WIDTH) + total[n]);
}

// The gradient of weights from that of their product: result = left^T right, and the sums of the
// left columns. left [rows, J] and right [rows, I], `left_stride` and `right_stride` apart; J and I
// multiples of WIDTH; result [J, I], its rows rotated: left column j gives row (j + rotate) mod J;
// workspace: (J + I) * BLOCK elements.
template <class S>
void weight_gradient(const S *left, int64_t left_stride, int64_t J, const S *right,
                     int64_t right_stride, int64_t I, int64_t rows, int64_t rotate, float *result,
                     float *left_sums, S *workspace, int64_t threads) {
    constexpr int N = 3, M = ROWS<N> < WIDTH ? ROWS<N> : WIDTH;
    const int64_t panels = J / WIDTH, groups = (I / WIDTH + N - 1) / N;
    S *const left_panels = workspace, *const right_panels = workspace + J * BLOCK;
    memset(left_sums, 0, J * sizeof(float));
    constexpr int AT_ONCE = 4;  // panels of the left columns that are packed side by side
    const int64_t lefts = (panels + AT_ONCE - 1) / AT_ONCE;
    for (int64_t row = 0; row < rows; row += BLOCK) {
        const int count = int(std::min<int64_t>(BLOCK, rows - row));
        const int K = (count + STEP<S> - 1) / STEP<S> * STEP<S>;
        pool().run(threads, lefts + groups, [&](int64_t piece) {
            if (piece < lefts) {
                const int64_t first = piece * AT_ONCE;
                const S *of = left + row * left_stride + first * WIDTH;
                with_constant<AT_ONCE>(int(std::min<int64_t>(AT_ONCE, panels - first)), [&](auto n_) {
                    pack_panels<n_, 1>(left_panels + first * WIDTH * BLOCK, WIDTH * BLOCK, of, left_stride,
                                       count, left_sums + first * WIDTH);
                });
            } else {
                const int64_t g = piece - lefts;
                with_constant<N>(int(std::min<int64_t>(N, I / WIDTH - g * N)), [&](auto n_) {
                    pack_panels<1, n_>(right_panels + g * N * WIDTH * BLOCK, 0,
                                       right + row * right_stride + g * N * WIDTH, right_stride,
                                       count, (float *)nullptr);
                });
            }
        });
        parallel_for(threads, panels * groups, [&](int64_t from, int64_t until) {
            for (int64_t tile = from; tile < until; tile++) {
                const int64_t p = tile / groups, g = tile % groups;
                with_constant<N>(int(std::min<int64_t>(N, I / WIDTH - g * N)), [&](auto n_) {
                    constexpr int COUNT = n_;
                    for (int j = 0; j < WIDTH; j += M) {
                        float *to = result + (p * WIDTH + j + rotate) % J * I + g * N * WIDTH;
                        vec sums[M][COUNT] = {};
                        if (row)
                            UNROLL for (int m = 0; m < M; m++) prefetch(to + m * I, COUNT * WIDTH);
                        multiply<S, M, COUNT, WIDTH * STEP<S>>(
                            sums, left_panels + p * WIDTH * BLOCK + j * STEP<S>, STEP<S>,
                            right_panels + g * N * WIDTH * BLOCK, K);
                        UNROLL for (int m = 0; m < M; m++)
                            UNROLL for (int n = 0; n < COUNT; n++) {
                                if (row) sums[m][n] += load(to + m * I + n * WIDTH);
                                store(to + m * I + n * WIDTH, sums[m][n]);
                            }
                    }
                });
            }
        });
    }
}

// result = rows W, for W with K rows and `columns` columns packed in groups of GROUP vectors.
// rows [count, K], `stride` apart; result [count, columns].
template <class S>
void rows_product(const S *rows, int64_t stride, int64_t count, int64_t K, const S *packed_weights,
                  int64_t columns, S *result, int64_t threads) {
    constexpr int64_t AT_ONCE = 128;  // rows that stay in the cache for all columns
    parallel_for(threads, (count + AT_ONCE - 1) / AT_ONCE, [&](int64_t from, int64_t until) {
        for (int64_t block = from; block < until; block++)
            in_groups(columns / WIDTH, count, [&](int64_t v, auto n_) {
                constexpr int N = n_;
                const int64_t first = v * WIDTH, end = std::min(count, (block + 1) * AT_ONCE);
                in_tiles<ROWS<N>>(int(block * AT_ONCE), int(end), [&](int row, auto m_) {
                    constexpr int M = m_;
                    vec sums[M][N] = {};
                    multiply_columns<S, M, N>(sums, rows + row * stride, stride,
                                              packed_weights + packed<S>(first, K), int(K));
                    UNROLL for (int m = 0; m < M; m++)
                        UNROLL for (int n = 0; n < N; n++)
                            store(result + (row + m) * columns + first + n * WIDTH, sums[m][n]);
                });
            });
    });
}

// sums[s] = the sum of the rows[n] with symbols[n] = s, for V symbols.
template <class S>
void scatter(const S *rows, int64_t stride, const int64_t *symbols, int64_t N, int64_t columns,
             float *sums, int64_t V, int64_t threads) {
    constexpr int64_t VECTORS = 8;  // vectors of columns at once: the sums stay in the cache
    parallel_pieces(threads, columns / WIDTH, VECTORS, [&](int64_t from, int64_t until) {
        for (int64_t s = 0; s < V; s++)
            memset(sums + s * columns + from * WIDTH, 0, (until - from) * WIDTH * sizeof(float));
        for (int64_t n = 0; n < N; n++) {
            float *sum = sums + symbols[n] * columns;
            const S *row = rows + n * stride;
            prefetch(row + 16 * stride + from * WIDTH, VECTORS * WIDTH);
            for (int64_t i = from; i < until; i++)
                store(sum + i * WIDTH, load(sum + i * WIDTH) + load(row + i * WIDTH));
        }
    });
}
