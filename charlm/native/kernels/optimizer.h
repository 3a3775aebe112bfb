// AdamW over all parameters at once, with clipping and a running average of the weights.
#pragma once
#include <cmath>
#include <vector>
#include "pool.h"
#include "vector.h"

// A parameter as rows of `columns` values, as torch has them, with its moments and its average (null
// without one). Row r of every `block` rows has its gradient in row r of `padded` rows, `stride` apart;
// gradient: the place of their address.
struct Parameter {
    float *weights, *first, *second, *average;
    float *const *gradient;
    int64_t rows, columns, block, padded, stride;
    bool decays;
    int64_t number;  // of its first row among the rows of all

    INLINE_MEMBER const float *gradient_row(int64_t r) const {
        return *gradient + (r / block * padded + r % block) * stride;
    }
};

// One update. count: steps taken, this one included; clip: a longer gradient is shortened to it, 0 never;
// towards: the share by which the average moves towards the weights.
struct Update { double rate, beta1, beta2, decay, clip, towards; int64_t count; };

// f(parameter, from, until) for all rows of [first, last), in pieces of about as many values each.
template <class F>
void for_rows(const Parameter *first, const Parameter *last, int64_t threads, const F &f) {
    constexpr int64_t VALUES = 1 << 12;
    struct Piece { const Parameter *parameter; int64_t from, until; };
    static thread_local std::vector<Piece> pieces;
    pieces.clear();
    for (const Parameter *p = first; p < last; p++) {
        const int64_t grain = VALUES / p->columns + 1;
        for (int64_t r = 0; r < p->rows; r += grain)
            pieces.push_back({p, r, r + grain < p->rows ? r + grain : p->rows});
    }
    const Piece *all = pieces.data();
    pool().run(threads, int64_t(pieces.size()),
               [&](int64_t i) { f(*all[i].parameter, all[i].from, all[i].until); });
}

// The norm of the gradient of all parameters. The sums are added in the order of the rows, with any
// number of threads.
inline double gradient_norm(const std::vector<Parameter> &parameters, std::vector<double> &row_sums,
                            int64_t threads) {
    const Parameter *all = parameters.data();
    for_rows(all, all + parameters.size(), threads, [&](const Parameter &p, int64_t from, int64_t until) {
        for (int64_t r = from; r < until; r++) {
            const float *g = p.gradient_row(r);
            vec squares = {};
            for (int64_t i = 0; i < p.columns; i += WIDTH) {
                const vec x = load_some(g + i, p.columns - i);
                squares = fused(x, x, squares);
            }
            double sum = 0;
            for (int i = 0; i < WIDTH; i++) sum += double(squares[i]);
            row_sums[size_t(p.number + r)] = sum;
        }
    });
    double sum = 0;
    for (const double one : row_sums) sum += one;
    return std::sqrt(sum);
}

// Update all parameters; returns the norm of their gradient before it was clipped. The equations and
// their source: charlm/training/optimizer.py.
inline float update(const std::vector<Parameter> &parameters, std::vector<double> &row_sums,
                    const Update &u, int64_t threads) {
    const double norm = gradient_norm(parameters, row_sums, threads);
    const float scale = u.clip > 0 && norm > u.clip ? float(u.clip / norm) : 1.0f;
    const double correction1 = 1 - std::pow(u.beta1, double(u.count));
    const double correction2 = std::sqrt(1 - std::pow(u.beta2, double(u.count)));
    const float size = float(u.rate / correction1), root = float(1 / correction2);
    const float kept = float(1 - u.rate * u.decay), towards = float(u.towards);
    const float share1 = float(1 - u.beta1), share2 = float(1 - u.beta2), beta2 = float(u.beta2);
    const Parameter *all = parameters.data();
    for_rows(all, all + parameters.size(), threads, [&](const Parameter &p, int64_t from, int64_t until) {
        for (int64_t r = from; r < until; r++) {
            const float *gradient = p.gradient_row(r);
            for (int64_t i = 0; i < p.columns; i += WIDTH) {
                const int64_t at = r * p.columns + i, some = p.columns - i;
                const vec g = load_some(gradient + i, some) * scale;
                vec w = load_some(p.weights + at, some), m = load_some(p.first + at, some);
                vec v = load_some(p.second + at, some);
                if (p.decays) w *= kept;
                m = fused(g - m, splat(share1), m);
                v = fused(share2 * g, g, beta2 * v);
                w -= size * m * Functions<float>::reciprocal(fused(square_root(v), splat(root), 1e-8f));
                store_some(p.weights + at, w, some);
                store_some(p.first + at, m, some);
                store_some(p.second + at, v, some);
                if (!p.average) continue;
                const vec a = load_some(p.average + at, some);
                store_some(p.average + at, fused(w - a, splat(towards), a), some);
            }
        }
    });
    return float(norm);
}
