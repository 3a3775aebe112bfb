// Forward pass over a window: the equations of charlm/cells, gate blocks in the same order. Lanes are
// independent, so every thread computes its own from the first symbol to the last, without waiting.
#pragma once
#include "cells.h"

INLINE vec rectified(vec x) { return x < 0.0f ? vec{} : x; }

template <class S> void rnn_forward(const LayerArgs &w, int b0, int b1) {
    Layer<S> l(w, 1);
    const int vectors = l.H / WIDTH;
    for (int t = 0; t < l.T; t++) {
        l.begin_step(t, b0, b1);
        in_groups(vectors, b1 - b0, [&](int v, auto n_) {
            constexpr int N = n_;
            in_tiles<ROWS<N>>(b0, b1, [&](int b, auto m_) {
                constexpr int M = m_;
                vec a[M][N];
                UNROLL for (int m = 0; m < M; m++)
                    UNROLL for (int n = 0; n < N; n++) a[m][n] = l.input(t, b + m, 0, (v + n) * WIDTH);
                l.add_below(a, t, b, v * WIDTH);
                l.add_recurrent(a, l.h + l.at(t, b), v * WIDTH);
                UNROLL for (int m = 0; m < M; m++)
                    UNROLL for (int n = 0; n < N; n++) {
                        vec y = w.kind == RNN_TANH ? hyperbolic_tangent<S>(a[m][n])
                                                   : rectified(a[m][n]);
                        store(l.h + l.at(t + 1, b + m) + (v + n) * WIDTH, y);
                        if (t == l.T - 1) store(w.state + l.at(0, b + m) + (v + n) * WIDTH, y);
                    }
            });
        });
    }
    l.begin_step(l.T, b0, b1);
}

template <class S> void lstm_forward(const LayerArgs &w, int b0, int b1) {
    Layer<S> l(w, 4);
    for (int t = 0; t < l.T; t++) {
        l.begin_step(t, b0, b1);
        for (int u = 0; u < l.H; u += WIDTH) {
            in_tiles<ROWS<LSTM_GATES>>(b0, b1, [&](int b, auto m_) {
                constexpr int M = m_;
                vec a[M][4];
                UNROLL for (int m = 0; m < M; m++)
                    UNROLL for (int g = 0; g < 4; g++) a[m][g] = l.input(t, b + m, g, u);
                l.add_gates(a, t, b, u);
                UNROLL for (int m = 0; m < M; m++) {
                    vec i = sigmoid<S>(a[m][0]), f = sigmoid<S>(a[m][1]);
                    vec g = hyperbolic_tangent<S>(a[m][2]), o = sigmoid<S>(a[m][3]);
                    float *carried = w.c + l.at(0, b + m) + u;
                    vec before = load(carried);
                    vec c = l.begins(t, b + m) ? i * g : fused(f, before, i * g);
                    vec y = o * hyperbolic_tangent<S>(c);
                    store(carried, c);
                    store(l.h + l.at(t + 1, b + m) + u, y);
                    if (t == l.T - 1) store(w.state + l.at(0, b + m) + u, y);
                    if (l.gates) {
                        l.save(l.gate(t, b + m, 0, 4, u), i, f);
                        l.save(l.gate(t, b + m, 2, 4, u), g, o);
                        l.save(l.c_before(t, b + m, u), before);
                    }
                }
            });
        }
    }
    l.begin_step(l.T, b0, b1);
}

template <class S> void gru_after_forward(const LayerArgs &w, int b0, int b1) {
    Layer<S> l(w, 3);
    for (int t = 0; t < l.T; t++) {
        l.begin_step(t, b0, b1);
        for (int u = 0; u < l.H; u += WIDTH) {
            in_tiles<ROWS<3>>(b0, b1, [&](int b, auto m_) {
                constexpr int M = m_;
                vec x[M][3] = {}, a[M][3], bias = w.bias ? load(w.bias + u) : vec{};
                if (w.below) {
                    UNROLL for (int m = 0; m < M; m++)
                        UNROLL for (int g = 0; g < 3; g++) x[m][g] = l.input(t, b + m, g, u);
                    l.add_below(x, t, b, 3 * u);
                }
                UNROLL for (int m = 0; m < M; m++) {
                    a[m][0] = w.below ? x[m][0] : l.input(t, b + m, 0, u);
                    a[m][1] = w.below ? x[m][1] : l.input(t, b + m, 1, u);
                    a[m][2] = bias;
                }
                l.add_recurrent(a, l.h + l.at(t, b), 3 * u);
                UNROLL for (int m = 0; m < M; m++) {
                    vec given = w.below ? x[m][2] : l.input(t, b + m, 2, u);
                    float *state = w.state + l.at(0, b + m) + u;
                    vec r = sigmoid<S>(a[m][0]), z = sigmoid<S>(a[m][1]);
                    vec n = hyperbolic_tangent<S>(fused(r, a[m][2], given));
                    vec y = fused(z, load(state) - n, n);
                    store(state, y);
                    store(l.h + l.at(t + 1, b + m) + u, y);
                    if (l.gates) {
                        l.save(l.gate(t, b + m, 0, 4, u), r, z);
                        l.save(l.gate(t, b + m, 2, 4, u), n, a[m][2]);
                    }
                }
            });
        }
    }
    l.begin_step(l.T, b0, b1);
}

// The packed weights are r and z of each vector of units, adjacent, then the candidate's.
template <class S> void gru_before_forward(const LayerArgs &w, int b0, int b1) {
    Layer<S> l(w, 3);
    const int vectors = l.H / WIDTH;
    for (int t = 0; t < l.T; t++) {
        l.begin_step(t, b0, b1);
        for (int u = 0; u < l.H; u += WIDTH) {
            in_tiles<ROWS<2>>(b0, b1, [&](int b, auto m_) {
                constexpr int M = m_;
                vec a[M][2];
                UNROLL for (int m = 0; m < M; m++)
                    UNROLL for (int g = 0; g < 2; g++) a[m][g] = l.input(t, b + m, g, u);
                l.add_below(a, t, b, 2 * u);
                l.add_recurrent(a, l.h + l.at(t, b), 2 * u);
                UNROLL for (int m = 0; m < M; m++) {
                    vec r = sigmoid<S>(a[m][0]), z = sigmoid<S>(a[m][1]);
                    store(w.scratch + l.at(0, b + m) + u, z);
                    store(l.reset_h + l.at(t, b + m) + u, r * load(w.state + l.at(0, b + m) + u));
                    if (l.gates) {
                        store(l.gate(t, b + m, 0, 3, u), r);
                        store(l.gate(t, b + m, 1, 3, u), z);
                    }
                }
            });
        }
        in_groups(vectors, b1 - b0, [&](int v, auto n_) {
            constexpr int N = n_;
            in_tiles<ROWS<N>>(b0, b1, [&](int b, auto m_) {
                constexpr int M = m_;
                vec a[M][N];
                UNROLL for (int m = 0; m < M; m++)
                    UNROLL for (int n = 0; n < N; n++) a[m][n] = l.input(t, b + m, 2, (v + n) * WIDTH);
                l.add_below(a, t, b, 2 * l.H + v * WIDTH);
                l.add_recurrent(a, l.reset_h + l.at(t, b), 2 * l.H + v * WIDTH);
                UNROLL for (int m = 0; m < M; m++)
                    UNROLL for (int n = 0; n < N; n++) {
                        int u = (v + n) * WIDTH;
                        float *state = w.state + l.at(0, b + m) + u;
                        vec candidate = hyperbolic_tangent<S>(a[m][n]);
                        vec z = load(w.scratch + l.at(0, b + m) + u), before = load(state);
                        vec y = fused(z, candidate - before, before);
                        store(state, y);
                        store(l.h + l.at(t + 1, b + m) + u, y);
                        if (l.gates) store(l.gate(t, b + m, 2, 3, u), candidate);
                    }
            });
        });
    }
    l.begin_step(l.T, b0, b1);
}

// One step of MINGRU, or of MINLSTM below, for a vector of units: returns h after it, from the gates
// before their functions and h before. factors: of its gradient in those of the gates; the last one is
// the share of the candidate, and 1 minus it the factor of h before.
template <class S> INLINE vec linear_step(const vec *a, vec before, vec (&factors)[2]) {
    const vec z = sigmoid<S>(a[0]), change = a[1] - before;
    factors[0] = change * z * (1.0f - z);
    factors[1] = z;
    return fused(z, change, before);
}
// With f = 1 / (1 + e_f) and i likewise, i / (f + i) = (1 + e_f) / (2 + e_f + e_i).
template <class S> INLINE vec linear_step(const vec *a, vec before, vec (&factors)[3]) {
    vec e[2];
    UNROLL for (int g = 0; g < 2; g++)  // below -80 a gate is shut, and the sum might overflow
        e[g] = Functions<S>::exponential(-(a[g] < -80.0f ? splat(-80.0f) : a[g]));
    const vec scale = Functions<S>::reciprocal((1.0f + e[0]) + (1.0f + e[1]));
    const vec kept = (1.0f + e[1]) * scale, share = (1.0f + e[0]) * scale, change = a[2] - before;
    factors[0] = -change * kept * (e[0] * scale);
    factors[1] = change * share * (e[1] * scale);
    factors[2] = share;
    return fused(share, change, before);
}

// Cells without a matrix W_hh: a few units over several steps, so that their weights stay in the cache, and few
// enough steps that the rows below do.
template <class S, Kind K> void linear_forward(const LayerArgs &w, int b0, int b1) {
    constexpr int G = int(CELL_KINDS[K].gates), SIDE = int(CELL_KINDS[K].parts[0].side), AT_ONCE = 128;
    Layer<S> l(w, G);
    const int vectors = l.H / WIDTH, steps = std::max(1, AT_ONCE / (b1 - b0));
    for (int first = 0; first < l.T; first += steps) {
        const int end = std::min(first + steps, l.T);
        for (int64_t v = 0, group = 0; v < vectors; v = group_start(vectors, SIDE, group)) {
            with_constant<SIDE>(int(group_start(vectors, SIDE, ++group) - v), [&](auto n_) {
                constexpr int N = n_;
                for (int t = first; t < end; t++)
                    in_tiles<ROWS<N * G>>(b0, b1, [&](int b, auto m_) {
                        constexpr int M = m_;
                        vec a[M][N * G];
                        UNROLL for (int m = 0; m < M; m++)
                            UNROLL for (int i = 0; i < N * G; i++)
                                a[m][i] = l.input(t, b + m, i % G, int(v + i / G) * WIDTH);
                        l.add_below(a, t, b, G * v * WIDTH);
                        UNROLL for (int m = 0; m < M; m++)
                            UNROLL for (int n = 0; n < N; n++) {
                                const int64_t at = l.at(0, b + m) + (v + n) * WIDTH;
                                vec factors[G];
                                const vec before = l.begins(t, b + m) ? vec{} : load(w.state + at);
                                vec y;
                                if constexpr (K == INDRNN)
                                    y = rectified(fused(load(w.own_weights + (v + n) * WIDTH), before, a[m][n]));
                                else y = linear_step<S>(a[m] + n * G, before, factors);
                                store(w.state + at, y);
                                store(l.h + l.at(t + 1, 0) + at, y);
                                if (K == INDRNN || !l.gates) continue;
                                S *to = l.gates + G * l.at(t, b + m) + (v + n) * WIDTH;
                                UNROLL for (int g = 0; g < G; g++) store(to + g * l.H, factors[g]);
                            }
                    });
            });
        }
    }
}

template <class S> void run_forward(const LayerArgs &w, int b0, int b1) {
    switch (w.kind) {
        case LSTM: lstm_forward<S>(w, b0, b1); break;
        case GRU_AFTER: gru_after_forward<S>(w, b0, b1); break;
        case GRU_BEFORE: gru_before_forward<S>(w, b0, b1); break;
        case MINGRU: linear_forward<S, MINGRU>(w, b0, b1); break;
        case MINLSTM: linear_forward<S, MINLSTM>(w, b0, b1); break;
        case INDRNN: linear_forward<S, INDRNN>(w, b0, b1); break;
        default: rnn_forward<S>(w, b0, b1);
    }
    finish_stores();
}
