// Backward pass over a window, by hand. At every step: the gradient of h from the output and from the
// step after it (a product with W_hh), then through the gates.
#pragma once
#include "cells.h"

// A function of its own: inlined in its caller, the addresses of its rows did not fit in the registers,
// and a step back took a third longer.
template <class S, int M, int N>
__attribute__((noinline)) void multiply_apart(vec (&sums)[M][N], const S *rows, int64_t stride,
                                              const S *group, int K) {
    vec local[M][N];
    memcpy(local, sums, sizeof local);
    multiply_columns<S, M, N>(local, rows, stride, group, K);
    memcpy(sums, local, sizeof local);
}

// f(first unit, lane, d): d = the gradient of h at t, for tiles of lanes and of vectors of units. It
// comes from the output, from the element-wise carried part (`direct`), and from the product with
// `rows` (both null after the last step), unless the lane was reset before the next step. Meanwhile
// `prefetch_inputs` fetches the inputs of f, which were written long ago and are in no cache.
template <class S, class P, class F>
INLINE void gradient_of_h(const Layer<S> &l, int t, int b0, int b1, const float *direct, const S *rows,
                          int64_t stride, int K, const S *packed, bool output, P prefetch_inputs, F f) {
    in_groups(l.H / WIDTH, b1 - b0, [&](int v, auto n_) {
        constexpr int N = n_;
        const S *group = packed + int64_t(v) * WIDTH * K;
        in_tiles<ROWS<N>>(b0, b1, [&](int b, auto m_) {
            constexpr int M = m_;
            vec d[M][N];
            UNROLL for (int m = 0; m < M; m++)
                UNROLL for (int n = 0; n < N; n++) {
                    int u = (v + n) * WIDTH;
                    d[m][n] = direct ? load(direct + l.at(0, b + m) + u) : vec{};
                    if (output) prefetch(l.d_output(t, b + m, u));
                    prefetch_inputs(u, b + m);
                }
            if (rows) {
                const S *first = rows + b * stride;
                multiply_apart<S, M, N>(d, first, stride, group, K);
            }
            UNROLL for (int m = 0; m < M; m++) {
                const bool cut = output && rows && l.begins(t + 1, b + m);
                UNROLL for (int n = 0; n < N; n++) {
                    int u = (v + n) * WIDTH;
                    if (cut) d[m][n] = vec{};
                    if (output) d[m][n] += load(l.d_output(t, b + m, u));
                    f(u, b + m, d[m][n]);
                }
            }
        });
    });
}

template <class S> void rnn_backward(const LayerArgs &w, int b0, int b1) {
    Layer<S> l(w, 1);
    for (int t = l.T - 1; t >= 0; t--) {
        const bool last = t == l.T - 1;
        gradient_of_h(l, t, b0, b1, nullptr, last ? nullptr : l.dp + l.at(t + 1, 0), l.H, l.H,
                      l.backward_weights, true,
                      [&](int u, int b) { prefetch(l.shown(t, b) + u); },
                      [&](int u, int b, vec d) {
            vec y = load(l.shown(t, b) + u);
            vec through = w.kind == RNN_TANH ? d * (1.0f - y * y) : (y <= 0.0f ? vec{} : d);
            store(l.dp + l.at(t, b) + u, through);
        });
    }
}

template <class S> void lstm_backward(const LayerArgs &w, int b0, int b1) {
    Layer<S> l(w, 4);
    for (int t = l.T - 1; t >= 0; t--) {
        const bool last = t == l.T - 1;
        gradient_of_h(l, t, b0, b1, nullptr, last ? nullptr : l.dp + 4 * l.at(t + 1, 0), 4 * l.H, 4 * l.H,
                      l.backward_weights, true,
                      [&](int u, int b) {
                          prefetch(l.gate(t, b, 0, 4, u), 4 * WIDTH);
                          prefetch(l.c_before(t, b, u), WIDTH);
                      },
                      [&](int u, int b, vec d) {
            vec i = load(l.gate(t, b, 0, 4, u)), f = load(l.gate(t, b, 1, 4, u));
            vec g = load(l.gate(t, b, 2, 4, u)), o = load(l.gate(t, b, 3, 4, u));
            vec before = l.begins(t, b) ? vec{} : load(l.c_before(t, b, u));
            vec c = load(last ? w.c + l.at(0, b) + u : l.c_before(t + 1, b, u));
            vec shown = hyperbolic_tangent<S>(c);
            float *carried = w.d_c + l.at(0, b) + u;
            const bool cut = last || l.begins(t + 1, b);
            vec dc = (cut ? vec{} : load(carried)) + d * o * (1.0f - shown * shown);
            store(carried, dc * f);
            S *to = l.dp + 4 * l.at(t, b) + u;
            store(to, dc * g * i * (1.0f - i));
            store(to + l.H, dc * before * f * (1.0f - f));
            store(to + 2 * l.H, dc * i * (1.0f - g * g));
            store(to + 3 * l.H, d * shown * o * (1.0f - o));
        });
    }
}

// A row of d_projected: the gradient of W_hn h, then those of r, z and n before their functions. Its
// first three blocks are that of W_hh h, with n first; its last three that of W_ih x.
template <class S> void gru_after_backward(const LayerArgs &w, int b0, int b1) {
    Layer<S> l(w, 3);
    for (int t = l.T - 1; t >= 0; t--) {
        const bool last = t == l.T - 1;
        gradient_of_h(l, t, b0, b1, last ? nullptr : w.d_state,
                      last ? nullptr : l.dp + 4 * l.at(t + 1, 0), 4 * l.H,
                      3 * l.H, l.backward_weights, true,
                      [&](int u, int b) {
                          prefetch(l.gate(t, b, 0, 4, u), 4 * WIDTH);
                          prefetch(l.h + l.at(t, b) + u);
                      },
                      [&](int u, int b, vec d) {
            vec r = load(l.gate(t, b, 0, 4, u)), z = load(l.gate(t, b, 1, 4, u));
            vec n = load(l.gate(t, b, 2, 4, u)), a = load(l.gate(t, b, 3, 4, u));
            store(w.d_state + l.at(0, b) + u, d * z);
            vec dn = d * (1.0f - z) * (1.0f - n * n);
            vec dr = dn * a * r * (1.0f - r);
            vec dz = d * (load(l.h + l.at(t, b) + u) - n) * z * (1.0f - z);
            S *to = l.dp + 4 * l.at(t, b) + u;
            store(to, dn * r);
            store(to + l.H, dr);
            store(to + 2 * l.H, dz);
            l.save(to + 3 * l.H, dn);
        });
    }
}

// The packed weights are those of r and z, then the candidate's.
template <class S> void gru_before_backward(const LayerArgs &w, int b0, int b1) {
    Layer<S> l(w, 3);
    const S *candidate = l.backward_weights + int64_t(2) * l.H * l.H;
    for (int t = l.T - 1; t >= 0; t--) {
        const bool last = t == l.T - 1;
        gradient_of_h(l, t, b0, b1, last ? nullptr : w.d_state,
                      last ? nullptr : l.dp + 3 * l.at(t + 1, 0), 3 * l.H,
                      2 * l.H, l.backward_weights, true,
                      [&](int u, int b) {
                          prefetch(l.gate(t, b, 0, 3, u), 3 * WIDTH);
                          prefetch(l.h + l.at(t, b) + u);
                      },
                      [&](int u, int b, vec d) {
            vec z = load(l.gate(t, b, 1, 3, u)), n = load(l.gate(t, b, 2, 3, u));
            store(w.d_state + l.at(0, b) + u, d * (1.0f - z));
            S *to = l.dp + 3 * l.at(t, b) + u;
            store(to + l.H, d * (n - load(l.h + l.at(t, b) + u)) * z * (1.0f - z));
            store(to + 2 * l.H, d * z * (1.0f - n * n));
        });
        gradient_of_h(l, t, b0, b1, nullptr, l.dp + 3 * l.at(t, 0) + 2 * l.H, 3 * l.H, l.H, candidate,
                      false, [](int, int) {}, [&](int u, int b, vec d) {
            vec r = load(l.gate(t, b, 0, 3, u));
            float *carried = w.d_state + l.at(0, b) + u;
            store(carried, load(carried) + d * r);
            store(l.dp + 3 * l.at(t, b) + u, d * load(l.h + l.at(t, b) + u) * r * (1.0f - r));
        });
    }
}

// Cells without W_hh: see linear_step.
template <class S> void linear_backward(const LayerArgs &w, int b0, int b1) {
    const int G = int(CELL_KINDS[w.kind].gates);
    Layer<S> l(w, G);
    for (int t = l.T - 1; t >= 0; t--)
        for (int b = b0; b < b1; b++) {
            const bool cut = t == l.T - 1 || l.begins(t + 1, b);
            for (int u = 0; u < l.H; u += WIDTH) {
                float *carried = w.d_state + l.at(0, b) + u;
                const int64_t at = G * l.at(t, b) + u;
                vec d = load(l.d_output(t, b, u)), share = load(l.gates + at + (G - 1) * l.H);
                if (!cut) d += load(carried);
                store(carried, d * (1.0f - share));
                for (int g = 0; g < G - 1; g++)
                    store(l.dp + at + g * l.H, d * load(l.gates + at + g * l.H));
                store(l.dp + at + (G - 1) * l.H, d * share);
            }
        }
}

// h = relu(x + w * h before): the sum of the gradient of w over the steps is left in `scratch`.
template <class S> void indrnn_backward(const LayerArgs &w, int b0, int b1) {
    Layer<S> l(w, 1);
    for (int t = l.T - 1; t >= 0; t--)
        for (int b = b0; b < b1; b++) {
            const bool last = t == l.T - 1, cut = last || l.begins(t + 1, b), anew = l.begins(t, b);
            for (int u = 0; u < l.H; u += WIDTH) {
                float *carried = w.d_state + l.at(0, b) + u, *sum = w.scratch + l.at(0, b) + u;
                vec d = load(l.d_output(t, b, u));
                if (!cut) d += load(carried);
                d = load(l.h + l.at(t + 1, b) + u) <= 0.0f ? vec{} : d;
                store(l.dp + l.at(t, b) + u, d);
                store(carried, d * load(w.own_weights + u));
                const vec before = anew ? vec{} : load(l.h + l.at(t, b) + u);
                store(sum, fused(d, before, last ? vec{} : load(sum)));
            }
        }
}

template <class S> void run_backward(const LayerArgs &w, int b0, int b1) {
    switch (w.kind) {
        case LSTM: lstm_backward<S>(w, b0, b1); break;
        case GRU_AFTER: gru_after_backward<S>(w, b0, b1); break;
        case GRU_BEFORE: gru_before_backward<S>(w, b0, b1); break;
        case MINGRU: case MINLSTM: linear_backward<S>(w, b0, b1); break;
        case INDRNN: indrnn_backward<S>(w, b0, b1); break;
        default: rnn_backward<S>(w, b0, b1);
    }
    finish_stores();
}
