// Forward pass over a window: the equations of charlm/cells, gate blocks in the same order. Lanes are
// independent, so every thread computes its own from the first symbol to the last, without waiting.
#pragma once
#include "cells.h"

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
                                                   : a[m][n] < 0.0f ? vec{} : a[m][n];
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

template <class S> void run_forward(const LayerArgs &w, int b0, int b1) {
    switch (w.kind) {
        case LSTM: lstm_forward<S>(w, b0, b1); break;
        case GRU_AFTER: gru_after_forward<S>(w, b0, b1); break;
        case GRU_BEFORE: gru_before_forward<S>(w, b0, b1); break;
        default: rnn_forward<S>(w, b0, b1);
    }
    finish_stores();
}
